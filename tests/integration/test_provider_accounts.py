"""Several accounts at one panel: each with its own services, limits and pauses; one that hangs slows nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio

from shared.database.provider_accounts import PostgresProviderAccounts
from shared.database.provider_orders import PostgresProviderOrders
from shared.domain.provider_operation import Elid
from shared.domain.provider_order import ClaimObstacle, Judgement, OrderState, Pause, Trigger
from shared.domain.provider_outcome import Evidence, Refusal
from shared.domain.provider_record import Claim, ProviderOrder
from tests.integration.provider_rig import (
    ACCOUNT,
    CLOCK,
    LIMITS,
    LONG_BREAKER,
    PLESK,
    ProviderRig,
    a_client,
    a_runner,
    provider_rig,
)
from workers.provider.crew import OrderCrew

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

SECOND = "second"
SECOND_USER, SECOND_PASSWORD = "other", "pw2"
REFUSED_LOGIN = Judgement(trigger=Trigger.NOT_SENT, refusal=Refusal.AUTH_FAILED, pause=Pause.BREAKER)


@pytest_asyncio.fixture
async def rig(database_url: str, tmp_path: Path) -> AsyncIterator[ProviderRig]:
    async with provider_rig(database_url, tmp_path) as made:
        await made.sandbox.control("POST", f"accounts/{SECOND_USER}", {"password": SECOND_PASSWORD, "balance": "1000"})
        await PostgresProviderAccounts(made.pool).enroll({ACCOUNT: 8, SECOND: 2})
        yield made


@asynccontextmanager
async def crew_of(rig: ProviderRig) -> AsyncIterator[OrderCrew]:
    """A crew with a runner for each of the two accounts."""
    client = a_client(rig.sandbox, user=SECOND_USER, password=SECOND_PASSWORD)
    second = a_runner(rig.book, client, rig.announcer, provider_account=SECOND)
    carry = {ACCOUNT: rig.runner.carry, SECOND: second.carry}
    made = OrderCrew(carry, PostgresProviderAccounts(rig.pool).account_of, CLOCK, lambda: 0.5)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(made.run())
        yield made
        running.cancel()


async def settled(rig: ProviderRig, crew: OrderCrew, ids: list[UUID], *, seconds: float = 80.0) -> list[ProviderOrder]:
    """Carry the orders, and what is due, until they are settled."""
    async with asyncio.timeout(seconds):
        await crew.begin(ids)
        while True:
            orders = [await rig.order(order_id) for order_id in ids]
            if all(order.settled_at is not None for order in orders):
                return orders
            await crew.begin([due.order_id for due in await rig.book.ring(orders_max=64, again_seconds=1.0)])
            await CLOCK.sleep(0.05)


async def test_each_account_orders_under_its_own_login_and_sees_its_own_services(rig: ProviderRig) -> None:
    same_place = {"product": PLESK, "address": "203.0.113.77"}  # nothing but the account tells these two apart
    ids = [await rig.store(account=account, **same_place) for account in (ACCOUNT, SECOND)]  # type: ignore[arg-type]
    async with crew_of(rig) as crew:
        orders = await settled(rig, crew, ids)
    assert [order.state for order in orders] == [OrderState.CONFIRMED] * 2
    owners = {each["id"]: each["user"] for each in await rig.sandbox.licenses()}
    assert [owners[order.elid or 0] for order in orders] == ["reseller", SECOND_USER]
    assert set(await rig.charges_per_service() or {}) == {order.elid for order in orders}
    for order in orders:
        assert await rig.book.linked(order.provider_account, [Elid(order.elid or 0)]) == {order.elid: order.order_id}
    assert orders[0].marker != orders[1].marker


async def test_an_account_that_hangs_leaves_the_orders_of_another_flowing(rig: ProviderRig) -> None:
    match = {"func": "*", "user": "reseller"}
    fault = {"match": match, "mode": "hang", "phase": "before", "args": {"max_ms": 60_000}, "times": None}
    await rig.sandbox.control("POST", "faults", fault)
    hanging = [await rig.store() for _ in range(100)]
    flowing = [await rig.store(account=SECOND) for _ in range(20)]
    async with crew_of(rig) as crew:
        await crew.begin(hanging)
        orders = await settled(rig, crew, flowing)
    assert [order.state for order in orders] == [OrderState.CONFIRMED] * 20
    stuck = [(await rig.order(order_id)).state for order_id in hanging]
    assert OrderState.CONFIRMED not in stuck, "the first account hangs all the while"


async def test_limits_and_pauses_are_those_of_one_account(rig: ProviderRig) -> None:
    rig.book = PostgresProviderOrders(rig.pool, LONG_BREAKER)
    limits = replace(LIMITS, unresolved_max=2)
    for _ in range(2):
        assert isinstance(await rig.book.claim(await rig.store(account=SECOND), limits), Claim)
    full = await rig.book.claim(await rig.store(account=SECOND), limits)
    claim = await rig.book.claim(await rig.store(), limits)
    assert full is ClaimObstacle.TOO_MANY_UNRESOLVED
    assert isinstance(claim, Claim), "the other account has its own two"

    await rig.book.close(claim, REFUSED_LOGIN, Evidence(row=7, detail="auth"))

    assert (await rig.book.pause(SECOND)).paused_until is None
    assert await PostgresProviderAccounts(rig.pool).accepting() == {ACCOUNT: False, SECOND: True}


async def test_orders_are_taken_by_the_accounts_in_use_up_to_their_own_limits(rig: ProviderRig) -> None:
    accounts = PostgresProviderAccounts(rig.pool)
    for _ in range(2):
        order_id = await rig.store(account=SECOND)
        claim = await rig.book.claim(order_id, LIMITS)
        assert isinstance(claim, Claim)
        await rig.book.lose(order_id, claim.attempt)

    assert await accounts.accepting() == {ACCOUNT: True, SECOND: False}
    await accounts.enroll({ACCOUNT: 8, SECOND: 3})
    assert await accounts.accepting() == {ACCOUNT: True, SECOND: True}
    await accounts.enroll({ACCOUNT: 8})
    assert await accounts.accepting() == {ACCOUNT: True}, "it has no login here any more"
    await accounts.enroll({ACCOUNT: 8, SECOND: 3})
    assert await accounts.accepting() == {ACCOUNT: True, SECOND: True}
