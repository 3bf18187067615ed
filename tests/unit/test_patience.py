"""Patience with whom we ask: it ends when there is no answer, and outlasts turns of our own loop that take long."""

import asyncio
import time

import pytest

from shared.patience import patience

pytestmark = pytest.mark.asyncio

SECONDS = 0.1
TURN_SECONDS = 0.03


async def answer_after(turns: int) -> None:
    """Answer when the loop has turned so often."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_silence_ends_it() -> None:
    with pytest.raises(TimeoutError):
        async with patience(SECONDS):
            await asyncio.get_running_loop().create_future()


async def test_an_answer_in_time_leaves_no_timer_behind() -> None:
    async with patience(SECONDS):
        await answer_after(3)
    await asyncio.sleep(2 * SECONDS)  # a timer left would cancel this


async def test_slow_turns_of_the_loop_do_not_count() -> None:
    """The loop is as busy as in an overload: each turn takes several times a slice, all of them longer than allowed."""
    loop = asyncio.get_running_loop()
    turns = 0

    def be_busy() -> None:
        nonlocal turns
        turns += 1
        time.sleep(TURN_SECONDS)
        if turns < 40:
            loop.call_soon(be_busy)

    loop.call_soon(be_busy)
    started = loop.time()
    async with patience(SECONDS):
        await answer_after(10)
    assert loop.time() - started > 2 * SECONDS


async def test_who_waits_can_be_cancelled() -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait_for_ever())
        await asyncio.sleep(0)
        waiting.cancel()
    assert waiting.cancelled()


async def wait_for_ever() -> None:
    async with patience(60):
        await asyncio.get_running_loop().create_future()
