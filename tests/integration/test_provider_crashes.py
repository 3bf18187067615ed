"""A worker that dies between any two of its steps, wakes too late, or is not alone: still one charge, and an end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from shared.clock import MachineClock
from shared.domain.provider_operation import Elid
from shared.domain.provider_order import OrderState
from shared.domain.provider_outcome import SendOutcome
from shared.domain.provider_record import Claim, ClaimLimits
from shared.domain.provisioning import StepKind
from tests.integration.provider_rig import CLOCK, LIMITS, LITE, PLESK, ProviderRig, a_runner, provider_rig

pytestmark = [pytest.mark.asyncio, pytest.mark.services, pytest.mark.timeout(180)]

WIDE = ClaimLimits(money_in_flight_max=64, unresolved_max=200, send_window_seconds=1.0)
CALLS_MAX = 40


class DeathError(Exception):
    """The process died here."""


@dataclass(slots=True)
class Countdown:
    """Dies at the call of the given number, before it or right after it was carried out."""

    dies_at: int
    before: bool
    calls: int = 0
    last: str = ""

    def wrap(self, real: Any) -> Any:
        return Dying(real, self)


class Dying:
    """Forwards every call to the real thing until its time has come; nothing is answered afterwards."""

    def __init__(self, real: Any, countdown: Countdown) -> None:
        self._real = real
        self._countdown = countdown

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any, **options: Any) -> Any:
            count = self._countdown
            count.calls += 1
            count.last = name
            if count.calls > count.dies_at or (count.before and count.calls == count.dies_at):
                raise DeathError(name)
            answer = await getattr(self._real, name)(*arguments, **options)
            if count.calls >= count.dies_at:
                raise DeathError(name)
            return answer

        return call


@pytest_asyncio.fixture
async def rig(database_url: str, tmp_path: Path) -> AsyncIterator[ProviderRig]:
    async with provider_rig(database_url, tmp_path) as made:
        made.runner = made.another_runner(limits=WIDE)
        yield made


async def die_everywhere(rig: ProviderRig, store: Callable[[int], Any]) -> tuple[list[UUID], set[str]]:
    """Carry one order per step of a carriage, each by a worker that dies before or after that step."""
    orders: list[UUID] = []
    died_in: set[str] = set()
    for before in (True, False):
        for number in range(1, CALLS_MAX):
            countdown = Countdown(dies_at=number, before=before)
            order_id = await store(len(orders))
            book, client = countdown.wrap(rig.book), countdown.wrap(rig.client)
            runner = a_runner(book, client, countdown.wrap(rig.announcer), limits=WIDE)
            orders.append(order_id)
            try:
                await runner.carry(order_id)
            except (DeathError, ExceptionGroup):
                died_in.add(f"{'before' if before else 'after'} {countdown.last}")
            else:
                break  # the carriage has no more steps
        else:
            pytest.fail(f"a carriage of more than {CALLS_MAX} steps")
    return orders, died_in


async def test_an_order_survives_a_death_between_any_two_steps(rig: ProviderRig) -> None:
    canary = await rig.canary()

    async def store(number: int) -> UUID:
        return await rig.store(LITE, address=f"198.51.100.{number + 1}")

    order_ids, died_in = await die_everywhere(rig, store)
    assert {"before claim", "after claim", "before carry_out", "before close"} <= died_in
    assert {"before pass_fence", "after pass_fence", "before announce", "after announce"} <= died_in
    orders = await rig.settled(*order_ids, seconds=120)
    assert {order.state for order in orders} == {OrderState.CONFIRMED}
    charges = await rig.charges_per_service()
    assert charges == {int(order.elid or 0): 1 for order in [canary, *orders]}


async def test_a_plesk_order_survives_a_death_between_any_two_steps(rig: ProviderRig) -> None:
    canary = await rig.canary(PLESK)

    async def store(number: int) -> UUID:
        return await rig.store(PLESK, address=f"198.51.100.{number + 1}")

    order_ids, _ = await die_everywhere(rig, store)
    orders = await rig.settled(*order_ids, seconds=120)
    assert {order.state for order in orders} == {OrderState.CONFIRMED}
    assert await rig.charges_per_service() == {int(order.elid or 0): 1 for order in [canary, *orders]}


async def test_a_renewal_survives_a_death_between_any_two_steps(rig: ProviderRig) -> None:
    services: list[tuple[Elid, date]] = []

    async def store(number: int) -> UUID:
        service = await rig.canary(LITE, address=f"192.0.2.{number + 1}")
        assert service.elid is not None
        assert service.service_expires_on is not None
        services.append((service.elid, service.service_expires_on))
        return await rig.store(
            LITE, kind=StepKind.PROLONG, elid=service.elid, expires_before=service.service_expires_on
        )

    order_ids, _ = await die_everywhere(rig, store)
    orders = await rig.settled(*order_ids, seconds=120)
    assert {order.state for order in orders} == {OrderState.CONFIRMED}
    assert await rig.charges_per_service() == {int(elid): 2 for elid, _ in services}
    for order, (_, before) in zip(orders, services, strict=True):
        assert order.service_expires_on is not None
        assert order.service_expires_on > before


async def test_a_bell_that_comes_while_an_order_is_sent_sends_nothing(rig: ProviderRig) -> None:
    await rig.canary()
    await rig.sandbox.fault("slow", func="softexternal.order.param", phase="before", ms=800)
    order_id = await rig.store(LITE)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(rig.runner.carry(order_id))
        while (await rig.order(order_id)).state is not OrderState.SENDING:
            await CLOCK.sleep(0.01)
        await rig.another_runner().carry(order_id)
        met = await rig.order(order_id)
        await first
    assert met.state is OrderState.UNKNOWN
    (order,) = await rig.settled(order_id)
    assert order.state is OrderState.CONFIRMED
    assert order.attempt == 1
    assert (await rig.charges_per_service())[int(order.elid or 0)] == 1


async def test_ten_workers_on_one_order_send_it_once(rig: ProviderRig) -> None:
    order_id = await rig.store(LITE)
    await asyncio.gather(*(rig.another_runner().carry(order_id) for _ in range(10)))
    (order,) = await rig.settled(order_id)
    assert order.state is OrderState.CONFIRMED
    sent = [entry for entry in await rig.sandbox.journal() if entry["func"] == "softexternal.order.param"]
    assert len(sent) == 1


async def test_a_worker_that_wakes_after_its_send_window_sends_nothing(rig: ProviderRig) -> None:
    @dataclass
    class Sleepy:
        """Sleeps between the claim and the connection."""

        real: Any
        seconds: float

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        async def carry_out(self, *arguments: Any, **options: Any) -> SendOutcome:
            await CLOCK.sleep(self.seconds)
            outcome: SendOutcome = await self.real.carry_out(*arguments, **options)
            return outcome

    order_id = await rig.store(LITE)
    limits = replace(LIMITS, send_window_seconds=0.2)
    await rig.another_runner(client=Sleepy(rig.client, 0.4), limits=limits).carry(order_id)
    order = await rig.order(order_id)
    assert order.state is OrderState.INTENDED
    assert order.attempt == 1
    assert await rig.charges_per_service() == {}
    (done,) = await rig.settled(order_id)
    assert done.state is OrderState.CONFIRMED
    assert done.marker_number == 1, "what was not sent keeps its marker"


async def test_a_machine_that_was_suspended_right_after_the_fence_sends_nothing(rig: ProviderRig) -> None:
    """The fence opened, then the whole machine slept: by now another worker may have ordered again."""

    class Suspended(MachineClock):
        slept = 0.0

        def since_boot(self) -> float:
            return super().since_boot() + self.slept

    clock = Suspended()

    @dataclass
    class Fenced:
        real: Any

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        async def pass_fence(self, claim: Claim) -> bool:
            opened: bool = await self.real.pass_fence(claim)
            clock.slept = 3600.0
            return opened

    order_id = await rig.store(LITE)
    runner = rig.another_runner()
    runner.clock, runner.book = clock, Fenced(rig.book)  # type: ignore[assignment]  # a book but for one method
    await runner.carry(order_id)
    assert (await rig.order(order_id)).state is OrderState.INTENDED
    assert await rig.charges_per_service() == {}


async def test_a_frozen_worker_is_fenced_once_its_order_was_given_up(rig: ProviderRig) -> None:
    """Another worker met the order, proved it absent and sent it again; the first one then wants to write."""
    await rig.canary()
    gate = asyncio.Event()

    @dataclass
    class Frozen:
        real: Any

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        async def carry_out(self, *arguments: Any, **options: Any) -> SendOutcome:
            await gate.wait()
            outcome: SendOutcome = await self.real.carry_out(*arguments, **options)
            return outcome

    order_id = await rig.store(LITE)
    limits = replace(LIMITS, send_window_seconds=30.0)
    async with asyncio.TaskGroup() as group:
        group.create_task(rig.another_runner(client=Frozen(rig.client), limits=limits).carry(order_id))
        while (await rig.order(order_id)).state is not OrderState.SENDING:
            await CLOCK.sleep(0.01)
        (order,) = await rig.settled(order_id)
        gate.set()
    assert order.state is OrderState.CONFIRMED
    assert order.attempt == 2
    assert (await rig.charges_per_service())[int(order.elid or 0)] == 1
    assert len(await rig.charges_per_service()) == 2
