"""Many orders or sweeps at once, each by one task: bells in, work carried, a bounded number of hands.

What is carried already is not begun a second time in this process; whatever a bell meant, the row in the database tells
what is due.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from shared.clock import SystemClock
from shared.errors import KeywayError
from workers.runtime.backoff import delay_seconds

ORDERS_AT_ONCE = 64
SWEEPS_AT_ONCE = 16
"""Each of another provider account."""
ATTEMPTS_MAX = 40
"""About half a minute of a machine that does not answer; then the work is left to the next bell."""
LOG_EVERY_ATTEMPTS = 10

log = structlog.get_logger()


@dataclass(slots=True)
class Crew:
    """Carries orders, or sweeps, through `carry` as long as `run` runs."""

    carry: Callable[[UUID], Awaitable[None]]
    clock: SystemClock
    chance: Callable[[], float]
    at_once: int = ORDERS_AT_ONCE
    kind: str = "order"
    """What it carries, as log lines name it."""
    _group: asyncio.TaskGroup | None = field(default=None, init=False)
    _ready: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _hands: asyncio.Semaphore = field(init=False)
    _tasks: dict[UUID, asyncio.Task[None]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Bound the work."""
        self._hands = asyncio.Semaphore(self.at_once)

    @property
    def carried_count(self) -> int:
        """What was begun and not left yet, with what waits for a hand."""
        return len(self._tasks)

    async def run(self) -> None:
        """Hold the tasks until canceled; a send that is out then stays `sending`, which the next bell clears up."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._ready.set()
            await asyncio.Event().wait()

    async def begin(self, ids: Sequence[UUID]) -> list[asyncio.Task[None]]:
        """Begin to carry these and return their tasks, which never raise."""
        await self._ready.wait()
        assert self._group is not None  # noqa: S101 - set before `_ready`
        tasks = []
        for each in ids:
            task = self._tasks.get(each)
            if task is None:
                task = self._tasks[each] = self._group.create_task(self._carry(each))
            tasks.append(task)
        return tasks

    async def _carry(self, named: UUID) -> None:
        try:
            async with self._hands:
                await self._carry_through(named)
        finally:
            self._tasks.pop(named, None)

    async def _carry_through(self, named: UUID) -> None:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                await self.carry(named)
            except KeywayError as error:
                if attempt % LOG_EVERY_ATTEMPTS == 1:
                    postponed = f"provider.{self.kind}.postponed"
                    log.warning(postponed, detail=error, code=error.code, attempt=attempt)
                await self.clock.sleep(delay_seconds(attempt, self.chance()))
            except Exception:
                tripped = f"provider.{self.kind}.tripped"
                log.exception(tripped)  # rung for again; a defect must not stop the others
                return
            else:
                return
