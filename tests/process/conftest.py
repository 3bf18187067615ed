"""One complete Keyway for all process tests of a session: two gateways, durable servers, a short reply budget."""

import itertools
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from keyway.ka.local_stack import Stack, own_stack
from tests.process.whole_stack import BUDGET_SECONDS, WholeStack, move_clock

STORY_BEGINS = "2027-02-05"
FURTHER_ACCOUNTS = ("second", "third", "fourth")


def further_accounts() -> list[dict[str, str]]:
    """Three accounts of the stack's own panel beside the first; products are in them where a test's catalog says so."""
    return [
        {"name": name, "user": f"keyway-{name}", "password": secrets.token_urlsafe(24)} for name in FURTHER_ACCOUNTS
    ]


@pytest.fixture(scope="session")
def started_stack() -> Iterator[Stack]:
    """`keyway up` with its business clock on the first day of the protocol page's examples."""
    state = Path(tempfile.mkdtemp(prefix="keyway-process-", dir="/var/tmp"))
    state.chmod(0o711)  # the uid that runs PostgreSQL for root must get through
    environment = {
        **os.environ,
        "KEYWAY_REPLY_BUDGET_SECONDS": str(BUDGET_SECONDS),
        "KEYWAY_PROVIDER_ISPLICENSE_ACCOUNTS": json.dumps(further_accounts()),
    }
    try:
        with own_stack(state, "--gateways", "2", environment=environment) as stack:
            move_clock(state, STORY_BEGINS)
            yield stack
    finally:
        shutil.rmtree(state, ignore_errors=True)


@pytest_asyncio.fixture
async def stack(started_stack: Stack, fresh_number: Iterator[int]) -> AsyncIterator[WholeStack]:
    """The session's stack, healed from whatever the test before did to it."""
    whole = WholeStack(started_stack.state, fresh_number)
    await whole.wait_until_healthy()
    yield whole
    if whole.stood_still:
        await whole.wait_until_steady()


@pytest.fixture(scope="session")
def fresh_number() -> Iterator[int]:
    """License numbers of eight digits that nobody has used, in rising order; `next` gives one."""
    return itertools.count(10_000_000 + secrets.randbelow(80_000_000))
