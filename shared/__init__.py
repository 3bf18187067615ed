"""What every Keyway process stands on: contracts, rules, database, broker, telemetry, settings and clocks."""
