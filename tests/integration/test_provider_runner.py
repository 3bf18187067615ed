"""Orders carried against the real sandbox: each fault mode ends with at most one charge and nothing silent."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from shared.database.provider_orders import PostgresProviderOrders
from shared.domain.provider_operation import Elid
from shared.domain.provider_order import RELEASE_AGAIN_SECONDS, OrderState
from shared.domain.provider_outcome import Refusal
from shared.domain.provider_service import Found
from shared.domain.provisioning import StepKind
from tests.integration.provider_rig import (
    CLOCK,
    KEYED,
    LITE,
    LONG_BREAKER,
    MODULE,
    RULES,
    ProviderRig,
    a_client,
    provider_rig,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.services]


@pytest_asyncio.fixture
async def rig(database_url: str, tmp_path: Path) -> AsyncIterator[ProviderRig]:
    async with provider_rig(database_url, tmp_path) as made:
        yield made


async def test_an_order_is_sent_once_and_its_outcome_told_with_the_last_day(rig: ProviderRig) -> None:
    (order,) = await rig.settled(await rig.store(LITE))
    assert order.state is OrderState.CONFIRMED
    assert order.elid is not None
    assert order.service_expires_on is not None
    assert await rig.charges_per_service() == {order.elid: 1}
    assert await rig.steps(order.order_id) == ["intended>intended", "claimed>sending", "confirmed>confirmed"]
    assert [told.order_id for told in rig.announcer.told] == [order.order_id]


async def test_a_wrong_password_sends_nothing_more_until_the_breaker_closes(rig: ProviderRig) -> None:
    rig.book = PostgresProviderOrders(rig.pool, LONG_BREAKER)
    wrong = rig.another_runner(client=a_client(rig.sandbox, password="wrong"))
    order_id = await rig.store(LITE)
    for _ in range(5):
        await wrong.carry(order_id)
    called = await rig.sandbox.journal()
    assert (await rig.order(order_id)).state is OrderState.INTENDED
    await wrong.carry(order_id)
    assert len(await rig.sandbox.journal()) == len(called), "the breaker is open"
    assert len(called) == 1
    assert await rig.value("SELECT count(*) FROM outbox WHERE type = 'keyway.provider.attention'") == 1
    await rig.execute("UPDATE provider_account SET paused_until = clock_timestamp()")
    (order,) = await rig.settled(order_id)
    assert order.state is OrderState.CONFIRMED


async def test_a_key_is_waited_for_and_told_with_the_outcome(rig: ProviderRig) -> None:
    profile = {"activation": {"mode": "delayed", "ms_ordered": 300, "ms_processing": 300, "ms_key": 2500}}
    await rig.sandbox.control("POST", "profile", profile)
    began = CLOCK.monotonic()
    (order,) = await rig.settled(await rig.store(KEYED))
    assert order.service_key is not None
    assert order.service_key.startswith(f"{order.elid}-")
    assert CLOCK.monotonic() - began > 2.5, "the outcome waits for the key"
    assert len(rig.announcer.told) == 1


async def test_a_renewal_of_a_service_that_is_gone_is_refused_unsent(rig: ProviderRig) -> None:
    service = await rig.canary()
    assert service.elid is not None
    (ended,) = await rig.settled(await rig.store(kind=StepKind.END, elid=service.elid))
    assert ended.state is OrderState.CONFIRMED
    renewal = await rig.store(kind=StepKind.PROLONG, elid=service.elid, expires_before=service.service_expires_on)
    (order,) = await rig.settled(renewal)
    assert (order.state, order.refusal) == (OrderState.REFUSED, Refusal.NOT_FOUND)
    assert (await rig.charges_per_service())[int(service.elid)] == 1


async def test_a_period_that_somebody_paid_already_is_not_paid_again(rig: ProviderRig) -> None:
    service = await rig.canary()
    assert service.elid is not None
    before = service.service_expires_on
    first = await rig.store(kind=StepKind.PROLONG, elid=service.elid, expires_before=before)
    second = await rig.store(kind=StepKind.PROLONG, elid=service.elid, expires_before=before)
    paid, adopted = [(await rig.settled(order_id))[0] for order_id in (first, second)]
    assert {paid.state, adopted.state} == {OrderState.CONFIRMED}
    assert paid.service_expires_on == adopted.service_expires_on
    assert (await rig.charges_per_service())[int(service.elid)] == 2


async def test_a_failing_list_holds_orders_back_and_sends_nothing(rig: ProviderRig) -> None:
    body = {
        "match": {"func": "softexternal"},
        "mode": "http_status",
        "phase": "before",
        "args": {"status": 500},
        "times": None,
    }
    await rig.sandbox.control("POST", "faults", body)
    order_id = await rig.store(LITE)
    await rig.runner.carry(order_id)
    waiting = await rig.order(order_id)
    assert (waiting.state, waiting.attempt) == (OrderState.INTENDED, 0)
    await rig.sandbox.control("DELETE", "faults")
    (order,) = await rig.settled(order_id)
    assert order.state is OrderState.CONFIRMED


async def test_a_first_order_without_a_canary_is_never_proven_absent(database_url: str, tmp_path: Path) -> None:
    async with provider_rig(database_url, tmp_path, rules=replace(RULES, give_up_after_seconds=6.0)) as rig:
        await _without_a_canary(rig)


async def _without_a_canary(rig: ProviderRig) -> None:
    await rig.sandbox.fault("drop", func="softexternal.order.param", phase="before")
    (order,) = await rig.settled(await rig.store(LITE), seconds=30)
    assert order.state is OrderState.MANUAL
    assert order.attempt == 1


async def test_a_canceled_order_is_not_sent(rig: ProviderRig) -> None:
    order_id = await rig.store(LITE)
    await rig.execute("UPDATE provider_order SET cancel_requested_at = clock_timestamp()")
    (order,) = await rig.settled(order_id)
    assert (order.state, order.refusal) == (OrderState.REFUSED, Refusal.CANCELED)
    assert await rig.sandbox.charges() == []


async def test_a_module_without_its_parent_is_refused_here(rig: ProviderRig) -> None:
    (order,) = await rig.settled(await rig.store(MODULE))
    assert (order.state, order.refusal) == (OrderState.REFUSED, Refusal.INVALID_VALUE)


async def test_a_service_is_released_once_and_gone_counts_as_released(rig: ProviderRig) -> None:
    (order,) = await rig.settled(await rig.store(kind=StepKind.END, elid=Elid(4_711)))
    assert order.state is OrderState.CONFIRMED


async def test_a_service_that_carries_the_marker_is_adopted_and_not_ordered(rig: ProviderRig) -> None:
    """As after a restored backup: the books have forgotten the send, the panel has not."""
    order_id = await rig.store(LITE)
    (first,) = await rig.settled(order_id)
    await rig.execute(
        "UPDATE provider_order SET state = 'intended', elid = NULL, how = NULL, decided_at = NULL, detailed_at = NULL,"
        " settled_at = NULL, announced_at = NULL"
    )
    (again,) = await rig.settled(order_id)
    assert again.elid == first.elid
    assert again.how is Found.MARKER
    assert len(await rig.sandbox.charges()) == 1


async def test_a_release_that_is_refused_for_a_passing_reason_is_asked_for_again(rig: ProviderRig) -> None:
    bought = await rig.canary()
    await rig.sandbox.fault("error_doc", "softexternal.delete", "before", type="access")
    order_id = await rig.store(kind=StepKind.END, elid=bought.elid)
    await rig.carry(order_id)
    refused = await rig.order(order_id)
    assert (refused.state, refused.put_off, refused.refusal) == (OrderState.INTENDED, 1, None)
    assert refused.due_at is not None
    assert refused.due_at - await rig.book.now() > timedelta(seconds=RELEASE_AGAIN_SECONDS[0] / 2)

    await rig.carry(order_id)  # a bell before its time
    assert (await rig.order(order_id)).attempt == 1
    await rig.execute("UPDATE provider_order SET not_before = clock_timestamp(), due_at = clock_timestamp()")
    (released,) = await rig.settled(order_id)

    assert (released.state, released.attempt) == (OrderState.CONFIRMED, 2)
    assert rig.announcer.told[-1].order_id == order_id, "nobody is told of a refusal that passed"


async def test_a_release_that_is_refused_again_and_again_ends_with_people(rig: ProviderRig) -> None:
    bought = await rig.canary()
    match = {"func": "softexternal.delete"}
    fault = {"match": match, "mode": "error_doc", "phase": "before", "args": {"type": "access"}, "times": None}
    await rig.sandbox.control("POST", "faults", fault)
    order_id = await rig.store(kind=StepKind.END, elid=bought.elid)
    for times in range(1, len(RELEASE_AGAIN_SECONDS) + 1):
        await rig.carry(order_id)
        assert (await rig.order(order_id)).put_off == times
        await rig.execute("UPDATE provider_order SET not_before = clock_timestamp(), due_at = clock_timestamp()")
    (refused,) = await rig.settled(order_id)
    assert (refused.state, refused.refusal) == (OrderState.REFUSED, Refusal.ACCESS_DENIED)


async def test_a_release_that_is_refused_for_good_is_not_asked_for_again(rig: ProviderRig) -> None:
    bought = await rig.canary()
    await rig.sandbox.fault("error_doc", "softexternal.delete", "before", type="pricelist_min_order")
    (refused,) = await rig.settled(await rig.store(kind=StepKind.END, elid=bought.elid))
    assert (refused.state, refused.refusal, refused.attempt) == (OrderState.REFUSED, Refusal.TERM_LOCKED, 1)
