"""The `keyway` command and what only it starts: the outermost ring, imported by nothing."""
