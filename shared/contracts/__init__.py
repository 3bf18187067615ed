"""The vocabulary that crosses processes: identifiers, envelope, commands, replies, events, topics. Frozen data."""
