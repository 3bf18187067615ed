"""The license role: commands in, decisions stored, replies out."""
