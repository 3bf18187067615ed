"""The usage role: usage events of other systems become durable counters."""
