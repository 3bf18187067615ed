"""The only SQL: connections, the license store, one module per table family, migrations and the written schema."""
