"""What the panel does, a module per family of functions: call and draft in, elements out.

Rules: docs/protocols/isplicense.md 13.3.
"""
