"""The scheduler role: makes happen what only time brings. One is active at a time."""
