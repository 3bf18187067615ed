"""Logs, metrics and health: what a running process tells about itself, and nothing secret."""
