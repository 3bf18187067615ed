"""Fixtures for every test: the real servers of `tests/stack.py`."""

pytest_plugins = ["tests.stack"]
