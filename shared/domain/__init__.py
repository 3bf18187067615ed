"""The rules: pure, synchronous, total. Nothing here awaits, reads a clock, draws lots or raises to say no."""
