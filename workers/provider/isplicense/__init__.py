"""The ISPlicense panel over HTTP: forms out, XML in, and one of seven outcomes for every send."""
