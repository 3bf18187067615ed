"""Fixtures for every test: the real servers of `tests/stack.py`, and logging that ends with the test.

Folders run one after the other, the quick ones first; within a folder the order is random.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.stack"]

# Tests assert no times: how fast examples are made and run says something about the machine only.
settings.register_profile("keyway", deadline=None, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("keyway")

FOLDERS = ("architecture", "unit", "contract", "conformance", "integration", "process")
"""A whole stack takes part of a core for as long as it stands, so what needs one comes last."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders in order."""
    tests = Path(__file__).parent
    items.sort(key=lambda item: FOLDERS.index(item.path.relative_to(tests).parts[0]))


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
