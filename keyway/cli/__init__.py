"""The verbs of `keyway`, one module per family; heavy imports stay inside the verbs so that `--help` is quick."""
