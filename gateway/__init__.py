"""The front door: HTTP in, one command out, one correlated reply back. Decides nothing and writes no license row."""
