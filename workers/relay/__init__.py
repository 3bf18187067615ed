"""The relay role: publishes what was committed to the outbox and not published at once. One is active at a time."""
