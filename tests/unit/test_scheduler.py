"""What is due when, and the scheduler's rounds: asked once, asked again later, one at a time, through outages."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from shared.contracts.commands import CloseUpstream, LapseLicense, LicenseCommand
from shared.contracts.identifiers import LicenseId
from shared.domain.catalog import Catalog, Product, Provider
from shared.domain.term import is_due
from shared.errors import UnavailableError
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import SchedulerMetrics
from workers.scheduler.due import SWEEPS_KEPT_DAYS, Recently, first_day_kept, latest_day_over, wind_downs_over
from workers.scheduler.ports import DueOrder, DueSweep
from workers.scheduler.scheduler import (
    ASK_AGAIN_SECONDS,
    FORGET_NAMES_SECONDS,
    NAMES_MAX,
    OVERDUE_SECONDS,
    Scheduler,
)

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
CATALOG = Catalog(
    version=1,
    products={
        "Bronze": Product(sku="Bronze"),
        "DNSMGR5": Product(sku="DNSMGR5", provider=Provider.ISPLICENSE, wind_down_days=7),
    },
)
ONE, TWO = LicenseId("ka:00000001"), LicenseId("ka:00000002")


@given(st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - made aware
def test_the_latest_day_over_is_due_and_the_next_one_is_not(now: datetime) -> None:
    day = latest_day_over(now)

    assert is_due(day, now)
    assert not is_due(day + timedelta(days=1), now)


def test_only_services_of_a_provider_wind_down_each_in_its_own_time() -> None:
    assert wind_downs_over(CATALOG, NOW) == {"DNSMGR5": NOW - timedelta(days=7)}


def test_results_are_kept_a_day_longer_than_the_command_topic() -> None:
    assert first_day_kept(date(2026, 11, 22)) == date(2026, 11, 14)


def test_what_was_asked_for_is_not_asked_for_again_for_a_while() -> None:
    recently = Recently(30)
    recently.note([ONE], 100.0)

    assert recently.fresh([ONE, TWO], 129.9) == [TWO]
    assert recently.fresh([ONE, TWO], 130.0) == [ONE, TWO]


@dataclass
class Order:
    order_id: UUID
    license_id: LicenseId


@dataclass
class Sweep:
    sweep_id: UUID
    provider_account: str = "isplicense"


@dataclass
class SweepShelf:
    """The sweeps of one provider account by a clock: one waits until it is `carried`, and is rung for meanwhile."""

    now: Callable[[], float]
    asked: list[float] = field(default_factory=list)
    waiting: Sweep | None = None
    forgotten: list[int] = field(default_factory=list)

    async def ask_for_neglected(self, every_seconds: float) -> int:
        if self.waiting is not None or (self.asked and self.asked[-1] > self.now() - every_seconds):
            return 0
        self.asked.append(self.now())
        self.waiting = Sweep(UUID(int=len(self.asked)))
        return 1

    async def ring(self, *, sweeps_max: int, again_seconds: float) -> Sequence[DueSweep]:
        due, self.waiting = self.waiting, None
        return [] if due is None else [due]

    async def forget(self, *, days: int) -> int:
        self.forgotten.append(days)
        return 0


@dataclass
class World:
    """Schedule, orders, post and clock in one: every call is noted, and fails while `outages` are left."""

    leads: bool = True
    outages: int = 0
    due: list[Order] = field(default_factory=list)
    lapsed: list[LicenseId] = field(default_factory=list)
    ended: list[LicenseId] = field(default_factory=list)
    rung: list[UUID] = field(default_factory=list)
    rung_for_sweeps: list[tuple[str, UUID]] = field(default_factory=list)
    overdue_looks: list[tuple[float, float]] = field(default_factory=list)
    """When overdue orders were looked for, and how old they had to be."""
    sent: list[LicenseCommand] = field(default_factory=list)
    forgotten: list[date] = field(default_factory=list)
    names: int = 0
    """Named requests that are over."""
    batches: list[tuple[float, datetime, int]] = field(default_factory=list)
    """When names were forgotten, which, and how many."""
    seconds: float = 1000.0
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ends_at: float = 1000.0
    sweeps: SweepShelf = field(init=False)

    def __post_init__(self) -> None:
        self.sweeps = SweepShelf(self.monotonic)

    async def lead(self) -> bool:
        self._strike()
        return self.leads

    async def ring(self, *, orders_max: int, again_seconds: float) -> Sequence[DueOrder]:
        taken, self.due = self.due[:orders_max], self.due[orders_max:]
        return taken

    async def tell(self, *, after_seconds: float, orders_max: int) -> int:
        self.overdue_looks.append((self.seconds, after_seconds))
        return 0

    async def lapsing(self, last_day: date, limit: int) -> list[LicenseId]:
        return self.lapsed[:limit]

    async def ending(self, terminated_before: Mapping[str, datetime], limit: int) -> list[LicenseId]:
        assert set(terminated_before) == {"DNSMGR5"}
        return self.ended[:limit]

    async def forget_results(self, before: date) -> list[str]:
        self.forgotten.append(before)
        return []

    async def forget_names(self, before: datetime, limit: int) -> int:
        count = min(self.names, limit)
        self.names -= count
        self.batches.append((self.seconds, before, count))
        return count

    async def bells(self, orders: Sequence[DueOrder]) -> None:
        self._strike()
        self.rung += [order.order_id for order in orders]

    async def sweep_bells(self, sweeps: Sequence[DueSweep]) -> None:
        self._strike()
        self.rung_for_sweeps += [(sweep.provider_account, sweep.sweep_id) for sweep in sweeps]

    async def commands(self, commands: Sequence[LicenseCommand]) -> None:
        self._strike()
        self.sent += commands

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds >= self.ends_at:
            self.stop.set()
        await asyncio.sleep(0)

    def _strike(self) -> None:
        if self.outages:
            self.outages -= 1
            raise UnavailableError("a machine is down")

    async def play(self, seconds: float) -> None:
        """Run a scheduler for so long by this world's clock."""
        self.ends_at = self.seconds + seconds
        scheduler = Scheduler(
            schedule=self,
            orders=self,
            overdue=self,
            sweeps=self.sweeps,
            patrol_seconds=60.0,
            post=self,
            catalog=lambda: CATALOG,
            business_clock=self,
            clock=self,
            chance=lambda: 0.5,
            metrics=SchedulerMetrics.bound_to(CollectorRegistry()),
            probe=Readiness(self).probe("scheduler", stale_after_seconds=5),
        )
        await scheduler.run(self.stop)


@pytest.mark.asyncio
async def test_a_round_rings_for_orders_and_asks_for_what_is_due() -> None:
    order = Order(UUID(int=7), ONE)
    world = World(due=[order], lapsed=[ONE], ended=[TWO])

    await world.play(1.0)

    assert world.rung == [order.order_id]
    assert world.sent == [
        LapseLicense(account="ka", number="00000001"),
        CloseUpstream(account="ka", number="00000002"),
    ]
    assert len(world.forgotten) == 1


@pytest.mark.asyncio
async def test_a_license_that_stays_due_is_asked_for_again_only_after_a_while() -> None:
    world = World(lapsed=[ONE])

    await world.play(ASK_AGAIN_SECONDS - 1)
    once = len(world.sent)
    world.stop.clear()
    await world.play(3.0)

    assert once == 1


@pytest.mark.asyncio
async def test_names_older_than_30_days_are_forgotten_in_bounded_batches_until_none_is_left() -> None:
    world = World(names=2 * NAMES_MAX + 1)
    began = world.seconds

    await world.play(FORGET_NAMES_SECONDS)

    assert [count for _, _, count in world.batches] == [NAMES_MAX, NAMES_MAX, 1]
    assert world.batches[0][1] == NOW + timedelta(seconds=began) - timedelta(days=30)
    world.stop.clear()
    await world.play(1.0)
    assert [count for _, _, count in world.batches[3:]] == [0]


@pytest.mark.asyncio
async def test_orders_that_nothing_moves_on_are_looked_for_every_minute() -> None:
    world = World()

    await world.play(130.0)

    assert [(round(at - 1000.0, -1), age) for at, age in world.overdue_looks] == [
        (0.0, OVERDUE_SECONDS),
        (60.0, OVERDUE_SECONDS),
        (120.0, OVERDUE_SECONDS),
    ]


@pytest.mark.asyncio
async def test_one_that_stands_by_sends_nothing() -> None:
    world = World(leads=False, due=[Order(UUID(int=7), ONE)], lapsed=[ONE])

    await world.play(10.0)

    assert (world.rung, world.sent) == ([], [])


@pytest.mark.asyncio
async def test_after_outages_everything_due_is_sent() -> None:
    world = World(outages=5, lapsed=[ONE], ended=[TWO])

    await world.play(30.0)

    assert len(world.sent) == 2


@pytest.mark.asyncio
async def test_every_account_is_compared_each_patrol_interval_and_rung_for() -> None:
    world = World()

    await world.play(200.0)

    asked = world.sweeps.asked
    assert len(asked) == 4
    assert all(60.0 <= later - earlier < 62.0 for earlier, later in pairwise(asked))
    assert world.rung_for_sweeps == [("isplicense", UUID(int=number)) for number in (1, 2, 3, 4)]
    assert world.sweeps.forgotten == [SWEEPS_KEPT_DAYS]


@pytest.mark.asyncio
async def test_a_sweep_that_people_asked_for_is_rung_for_within_the_next_look() -> None:
    world = World()
    await world.play(5.0)
    world.stop.clear()
    world.sweeps.waiting = Sweep(UUID(int=77))

    await world.play(1.0)

    assert world.rung_for_sweeps[-1] == ("isplicense", UUID(int=77))


@pytest.mark.asyncio
async def test_one_that_stands_by_asks_for_no_comparison() -> None:
    world = World(leads=False)

    await world.play(100.0)

    assert (world.sweeps.asked, world.rung_for_sweeps) == ([], [])
