"""Who may call, and what our signature stands on: accounts and credentials, signing keys, license bodies."""
