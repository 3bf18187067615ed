"""Mischief: which modes there are, when they strike, how each spoils an answer (docs/protocols/isplicense.md 13.4)."""
