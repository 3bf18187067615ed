"""A deadline for probes: time in which our own event loop was late does not count against whom we ask.

A plain deadline tells "no answer within a second" also when the answer lay there and the loop had no turn to look at
it. A process that is merely overloaded would then hold its healthy servers for dead, and refuse everybody.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SLICES = 20


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Give the block `seconds`, and at least `SLICES` turns of the event loop. Raises `TimeoutError` after that."""
    async with asyncio.timeout(None) as limit:
        slices = _Slices(limit, seconds / SLICES)
        try:
            yield
        finally:
            slices.cancel()


class _Slices:
    """Timers one after the other; the last one ends `limit`."""

    __slots__ = ("_left", "_limit", "_seconds", "_timer")

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._left = SLICES
        self._timer = asyncio.get_running_loop().call_later(seconds, self._passed)

    def _passed(self) -> None:
        loop = asyncio.get_running_loop()
        self._left -= 1
        if self._left:
            self._timer = loop.call_later(self._seconds, self._passed)
        else:
            self._limit.reschedule(loop.time())

    def cancel(self) -> None:
        self._timer.cancel()
