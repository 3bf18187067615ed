"""The scheduler's loop: lead, look what is due, send. Nothing is decided here and nothing is kept that matters.

What is sent twice does no harm: a bell names an order or a sweep, a command is decided on the license as it is then. So
every round begins from the stored state, and a failed one is simply followed by the next.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from shared.clock import BusinessClock, SystemClock
from shared.contracts.commands import CloseUpstream, LapseLicense, LicenseCommand
from shared.contracts.identifiers import LicenseId
from shared.domain.catalog import Catalog
from shared.telemetry.health import Probe
from shared.telemetry.metrics import SchedulerMetrics
from workers.runtime.leading import Rounds
from workers.scheduler.due import (
    SWEEPS_KEPT_DAYS,
    Every,
    Recently,
    first_day_kept,
    latest_day_over,
    names_over,
    wind_downs_over,
)
from workers.scheduler.ports import Orders, Overdue, Post, Schedule, Sweeps

LOOK_SECONDS = 0.5
STAND_BY_SECONDS = 1.0
LAPSE_SECONDS = 1.0
CLOSE_SECONDS = 5.0
FORGET_SECONDS = 3600.0
FORGET_NAMES_SECONDS = 60.0
RING_AGAIN_SECONDS = 5.0
PATROL_LOOK_SECONDS = 1.0
ASK_AGAIN_SECONDS = 30.0
OVERDUE_SECONDS = 1800.0
"""Twice the time after which an unknown outcome goes to people: whatever waits longer, somebody should look."""
OVERDUE_LOOK_SECONDS = 60.0
OVERDUE_MAX = 100
ORDERS_MAX = 200
SWEEPS_MAX = 50
LICENSES_MAX = 500
NAMES_MAX = 1000
"""Named requests forgotten by one statement; while there are more, every round takes as many."""

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Scheduler:
    """The active scheduler, or one that stands by."""

    schedule: Schedule
    orders: Orders
    overdue: Overdue
    sweeps: Sweeps
    patrol_seconds: float
    """Each provider account is compared so often."""
    post: Post
    catalog: Callable[[], Catalog]
    business_clock: BusinessClock
    clock: SystemClock
    chance: Callable[[], float]
    metrics: SchedulerMetrics
    probe: Probe
    _lapse: Every = field(default_factory=lambda: Every(LAPSE_SECONDS), init=False)
    _close: Every = field(default_factory=lambda: Every(CLOSE_SECONDS), init=False)
    _patrol: Every = field(default_factory=lambda: Every(PATROL_LOOK_SECONDS), init=False)
    _forget: Every = field(default_factory=lambda: Every(FORGET_SECONDS), init=False)
    _forget_names: Every = field(default_factory=lambda: Every(FORGET_NAMES_SECONDS), init=False)
    _overdue_look: Every = field(default_factory=lambda: Every(OVERDUE_LOOK_SECONDS), init=False)
    _asked: Recently = field(default_factory=lambda: Recently(ASK_AGAIN_SECONDS), init=False)

    async def run(self, stop: asyncio.Event) -> None:
        """Do what is due until `stop` is set. Never raises for a machine that is down."""
        rounds = Rounds(
            lead=self.schedule.lead,
            work=self._round,
            stand_by_seconds=STAND_BY_SECONDS,
            clock=self.clock,
            chance=self.chance,
            active=self.metrics.active,
            failed=self.metrics.failed,
            probe=self.probe,
        )
        await rounds.run(stop)

    async def _round(self) -> float:
        now = self.clock.monotonic()
        await self._order_round(now)
        await self._patrol_round(now)
        if self._lapse.is_due(now):
            lapsing = await self.schedule.lapsing(latest_day_over(self.business_clock.now()), LICENSES_MAX)
            await self._ask("lapse", lapsing, lambda account, number: LapseLicense(account=account, number=number))
        if self._close.is_due(now):
            over = wind_downs_over(self.catalog(), self.business_clock.now())
            ending = await self.schedule.ending(over, LICENSES_MAX)
            await self._ask("close", ending, lambda account, number: CloseUpstream(account=account, number=number))
        if self._forget.is_due(now):
            forgotten = await self.schedule.forget_results(first_day_kept(self.clock.now().date()))
            if forgotten:
                log.info("scheduler.command_results.forgotten", count=len(forgotten))
            await self.sweeps.forget(days=SWEEPS_KEPT_DAYS)
        if self._forget_names.is_due(now):
            names = await self.schedule.forget_names(names_over(self.clock.now()), NAMES_MAX)
            if names:
                log.info("scheduler.named_requests.forgotten", count=names)
            if names == NAMES_MAX:
                self._forget_names.again()
        return LOOK_SECONDS

    async def _order_round(self, now: float) -> None:
        """Ring for the orders that are due, and tell people of those that nothing moves on."""
        due = await self.orders.ring(orders_max=ORDERS_MAX, again_seconds=RING_AGAIN_SECONDS)
        if due:
            await self.post.bells(due)
            self.metrics.sent["bell"].inc(len(due))
        if self._overdue_look.is_due(now):
            told = await self.overdue.tell(after_seconds=OVERDUE_SECONDS, orders_max=OVERDUE_MAX)
            if told:
                log.warning("scheduler.orders.overdue", count=told)

    async def _patrol_round(self, now: float) -> None:
        """Ask for the comparisons that are due and ring for all that nobody carries: people ask for some, too."""
        if self._patrol.is_due(now):
            await self.sweeps.ask_for_neglected(self.patrol_seconds)
        due = await self.sweeps.ring(sweeps_max=SWEEPS_MAX, again_seconds=RING_AGAIN_SECONDS)
        if due:
            await self.post.sweep_bells(due)
            self.metrics.sent["sweep"].inc(len(due))

    async def _ask(
        self, kind: str, licenses: Iterable[LicenseId], command: Callable[[str, str], LicenseCommand]
    ) -> None:
        now = self.clock.monotonic()
        fresh = self._asked.fresh(licenses, now)
        if not fresh:
            return
        await self.post.commands([command(*license_id.split(":", 1)) for license_id in fresh])
        self._asked.note(fresh, now)
        self.metrics.sent[kind].inc(len(fresh))
