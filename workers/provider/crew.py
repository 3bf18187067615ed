"""Many orders at once, each by one task: bells in, orders carried, a bounded number of hands per provider account.

An order that is carried already is not begun a second time in this process; whatever a bell meant, the order in the
database tells what is due. Accounts share nothing here: one that hangs uses up its own hands and nobody else's, its
bells are not waited for any more, and what would be too long a line is left to the next bell.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from shared.clock import SystemClock
from shared.errors import KeywayError
from workers.runtime.backoff import delay_seconds

ORDERS_AT_ONCE = 64
LINE_MAX = 1024
"""So many orders of one account may be carried or wait for a hand; the scheduler rings for the rest again."""
ATTEMPTS_MAX = 40
"""About half a minute of a machine that does not answer; then the order is left to the next bell."""
SLOW_SECONDS = 30.0
"""So long nobody waits for the orders of an account that kept somebody waiting."""
LOG_EVERY_ATTEMPTS = 10

Carry = Callable[[UUID], Awaitable[None]]

log = structlog.get_logger()


@dataclass(slots=True)
class OrderCrew:
    """Carries orders through `carry`, by provider account, as long as `run` runs."""

    carry: Mapping[str, Carry]
    account_of: Callable[[UUID], Awaitable[str | None]]
    """Tells an order's provider account; None for an id that nobody stored."""
    clock: SystemClock
    chance: Callable[[], float]
    orders_at_once: int = ORDERS_AT_ONCE
    """Per account."""
    line_max: int = LINE_MAX
    _group: asyncio.TaskGroup | None = field(default=None, init=False)
    _ready: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _hands: dict[str, asyncio.Semaphore] = field(init=False)
    _tasks: dict[UUID, asyncio.Task[None]] = field(default_factory=dict, init=False)
    _accounts: dict[UUID, str] = field(default_factory=dict, init=False)
    """Accounts of the orders that are carried, where they are known."""
    _lines: Counter[str] = field(default_factory=Counter, init=False)
    _slow_until: dict[str, float] = field(default_factory=dict, init=False)
    _told_missing: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        """Bound the work."""
        self._hands = {account: asyncio.Semaphore(self.orders_at_once) for account in self.carry}

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

    async def wait(self, order_ids: Sequence[UUID], *, seconds: float) -> None:
        """Wait up to `seconds` until the orders were carried, but not for those of an account that is slow."""
        now = self.clock.monotonic()
        awaited = {
            task: order_id
            for order_id in order_ids
            if (task := self._tasks.get(order_id)) is not None
            and self._slow_until.get(self._accounts.get(order_id, ""), now) <= now
        }
        if not awaited:
            return
        _, pending = await asyncio.wait(awaited, timeout=seconds)
        for task in pending:
            account = self._accounts.get(awaited[task])
            if account is not None:
                self._slow_until[account] = self.clock.monotonic() + SLOW_SECONDS

    async def _carry(self, order_id: UUID) -> None:
        try:
            account = await self._through(lambda: self.account_of(order_id))
            if account is None:
                return
            if account not in self.carry:
                self._tell_missing(account)
                return
            if self._lines[account] >= self.line_max:
                return
            await self._carry_in(account, order_id)
        finally:
            self._tasks.pop(order_id, None)

    def _tell_missing(self, account: str) -> None:
        """Say once that there are orders of an account without a login here; they wait for a worker that has it."""
        if account not in self._told_missing:
            self._told_missing.add(account)
            log.warning("provider.account.missing", provider_account=account)

    async def _carry_in(self, account: str, order_id: UUID) -> None:
        self._accounts[order_id] = account
        self._lines[account] += 1
        try:
            async with self._hands[account]:
                await self._through(lambda: self.carry[account](order_id))
        finally:
            self._lines[account] -= 1
            self._accounts.pop(order_id, None)

    async def _through(self, ask: Callable[[], Awaitable["str | None"]]) -> "str | None":
        """Ask until it is answered; None when it never was, or by a defect."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return await ask()
            except KeywayError as error:
                if attempt % LOG_EVERY_ATTEMPTS == 1:
                    log.warning("provider.order.postponed", detail=error, code=error.code, attempt=attempt)
                await self.clock.sleep(delay_seconds(attempt, self.chance()))
            except Exception:
                log.exception("provider.order.tripped")  # rung for again; a defect must not stop the others
                return None
        return None
