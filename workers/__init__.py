"""Worker processes: one package per role, and what every role stands on (`runtime`)."""
