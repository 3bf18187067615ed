"""What every worker role runs on: batches off a topic, offsets, dead letters, health, an orderly end."""
