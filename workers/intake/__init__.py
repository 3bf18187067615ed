"""The intake role: public requests of other systems become commands, each once."""
