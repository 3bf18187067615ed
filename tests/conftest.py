"""Fixtures for every test: the real servers of `tests/stack.py`, and logging that ends with the test."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.stack"]

# Tests assert no times: how fast examples are made and run says something about the machine only.
settings.register_profile("keyway", deadline=None, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("keyway")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Take back what a test, or a verb that it runs in this process, configured: its stream may be closed by now."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
