"""Many orders at once, each by one task: bells in, orders carried, a bounded number of hands.

An order that is carried already is not begun a second time in this process; whatever a bell meant, the order in the
database tells what is due.
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
ATTEMPTS_MAX = 40
"""About half a minute of a machine that does not answer; then the order is left to the next bell."""
LOG_EVERY_ATTEMPTS = 10

log = structlog.get_logger()


@dataclass(slots=True)
class OrderCrew:
    """Carries orders through `carry` as long as `run` runs."""

    carry: Callable[[UUID], Awaitable[None]]
    clock: SystemClock
    chance: Callable[[], float]
    orders_at_once: int = ORDERS_AT_ONCE
    _group: asyncio.TaskGroup | None = field(default=None, init=False)
    _ready: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _hands: asyncio.Semaphore = field(init=False)
    _tasks: dict[UUID, asyncio.Task[None]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Bound the work."""
        self._hands = asyncio.Semaphore(self.orders_at_once)

    @property
    def carried_count(self) -> int:
        """Orders begun and not left yet, those that wait for a hand included."""
        return len(self._tasks)

    async def run(self) -> None:
        """Hold the tasks until canceled; a send that is out then stays `sending`, which the next bell clears up."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._ready.set()
            await asyncio.Event().wait()

    async def begin(self, order_ids: Sequence[UUID]) -> list[asyncio.Task[None]]:
        """Begin to carry the orders and return their tasks, which never raise."""
        await self._ready.wait()
        assert self._group is not None  # noqa: S101 - set before `_ready`
        tasks = []
        for order_id in order_ids:
            task = self._tasks.get(order_id)
            if task is None:
                task = self._tasks[order_id] = self._group.create_task(self._carry(order_id))
            tasks.append(task)
        return tasks

    async def _carry(self, order_id: UUID) -> None:
        try:
            async with self._hands:
                await self._carry_through(order_id)
        finally:
            self._tasks.pop(order_id, None)

    async def _carry_through(self, order_id: UUID) -> None:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                await self.carry(order_id)
            except KeywayError as error:
                if attempt % LOG_EVERY_ATTEMPTS == 1:
                    log.warning("provider.order.postponed", detail=error, code=error.code, attempt=attempt)
                await self.clock.sleep(delay_seconds(attempt, self.chance()))
            except Exception:
                log.exception("provider.order.tripped")  # rung for again; a defect must not stop the others
                return
            else:
                return
