"""The order book on a real PostgreSQL: claims, fences, closes, settling, pauses, bells; and what may never happen."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest
import pytest_asyncio

from shared.contracts.envelope import day_of, derived_id, new_id
from shared.database.pool import open_pool
from shared.database.provider_accounts import PostgresProviderAccounts
from shared.database.provider_orders import PostgresProviderOrders
from shared.database.provider_overdue import PostgresOverdueOrders
from shared.database.provider_writes import CANCEL
from shared.domain.approval import TwoPeople
from shared.domain.open_operation import AttentionKind
from shared.domain.provider_operation import Elid, RenewService
from shared.domain.provider_order import ClaimObstacle, Judgement, OrderState, Pause, Trigger
from shared.domain.provider_outcome import Evidence, Refusal
from shared.domain.provider_record import Claim, ClaimLimits
from shared.domain.provider_service import Found
from shared.domain.provider_settling import ChargeWitness, GiveUpReason, Look, Settled
from shared.domain.provisioning import StepKind
from shared.errors import UnavailableError
from tests.integration.provider_rig import ACCOUNT, CLOCK, LIMITS, LITE, LONG_BREAKER, PLESK, ProviderRig, provider_rig

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

SEEN = Evidence(row=11, detail="one id", http_status=200, body_sha256="ab" * 32, excerpt="<doc/>")
LOST = Judgement(trigger=Trigger.LOST)
NOT_SENT = Judgement(trigger=Trigger.NOT_SENT)


def confirmed(elid: int) -> Judgement:
    return Judgement(trigger=Trigger.CONFIRMED, elid=Elid(elid), how=Found.ANSWER)


@pytest_asyncio.fixture
async def rig(database_url: str, tmp_path: Path) -> AsyncIterator[ProviderRig]:
    async with provider_rig(database_url, tmp_path) as made:
        yield made


async def takes_orders(rig: ProviderRig) -> bool:
    return (await PostgresProviderAccounts(rig.pool).accepting())[ACCOUNT]


async def claimed(rig: ProviderRig, order_id: UUID, limits: ClaimLimits = LIMITS) -> Claim:
    claim = await rig.book.claim(order_id, limits)
    assert isinstance(claim, Claim), claim
    return claim


async def test_an_order_is_read_as_it_was_stored(rig: ProviderRig) -> None:
    order = await rig.order(await rig.store(LITE, number="00000077"))
    assert order.state is OrderState.INTENDED
    assert order.license_id == "ka:00000077"
    assert order.step.product == LITE
    assert order.marker_number == 1
    assert order.due_at is not None, "a lost bell is made good"
    assert await rig.book.load(new_id()) is None


async def test_one_of_many_claims_wins(rig: ProviderRig) -> None:
    order_id = await rig.store()
    claims = await asyncio.gather(*(rig.book.claim(order_id, LIMITS) for _ in range(20)))
    assert sum(isinstance(claim, Claim) for claim in claims) == 1
    assert set(claims) - {claim for claim in claims if isinstance(claim, Claim)} == {ClaimObstacle.NOT_INTENDED}
    assert (await rig.order(order_id)).attempt == 1


async def test_orders_that_could_be_confused_are_never_out_at_once(rig: ProviderRig) -> None:
    orders = [await rig.store(PLESK, address="203.0.113.9") for _ in range(10)]
    claims = await asyncio.gather(*(rig.book.claim(order_id, LIMITS) for order_id in orders))
    assert sum(isinstance(claim, Claim) for claim in claims) == 1
    with pytest.raises(asyncpg.UniqueViolationError):
        await rig.execute("UPDATE provider_order SET state = 'unknown'")


async def test_unresolved_orders_and_money_in_flight_are_bounded(rig: ProviderRig) -> None:
    orders = [await rig.store() for _ in range(12)]
    tight = replace(LIMITS, money_in_flight_max=2, unresolved_max=4)
    claims = await asyncio.gather(*(rig.book.claim(order_id, tight) for order_id in orders))
    out = [claim for claim in claims if isinstance(claim, Claim)]
    assert len(out) == 2
    assert {claim for claim in claims if not isinstance(claim, Claim)} == {ClaimObstacle.BUSY}
    for claim in out:
        await rig.book.close(claim, LOST, None)
    await rig.execute("UPDATE provider_account SET paused_until = NULL")
    left = [order_id for order_id in orders if (await rig.order(order_id)).state is OrderState.INTENDED]
    for order_id in left[:2]:
        await claimed(rig, order_id, tight)
    assert await rig.book.claim(left[2], tight) is ClaimObstacle.TOO_MANY_UNRESOLVED
    release = await rig.store(kind=StepKind.END, elid=Elid(5))
    assert isinstance(await rig.book.claim(release, tight), Claim), "a release costs nothing"


async def test_the_fence_opens_once_inside_the_send_window_of_an_open_attempt(rig: ProviderRig) -> None:
    claim = await claimed(rig, await rig.store(), replace(LIMITS, send_window_seconds=60.0))
    assert not await rig.book.pass_fence(replace(claim, lease_token=new_id()))
    assert await rig.book.pass_fence(claim)
    assert not await rig.book.pass_fence(claim), "at most one request per attempt"
    late = await claimed(rig, await rig.store(), replace(LIMITS, send_window_seconds=0.0))
    assert not await rig.book.pass_fence(late)
    lost = await claimed(rig, await rig.store())
    assert await rig.book.lose(lost.order_id, lost.attempt)
    assert not await rig.book.pass_fence(lost)
    closed = await claimed(rig, await rig.store())
    await rig.book.close(closed, NOT_SENT, SEEN)
    assert not await rig.book.pass_fence(closed)


async def test_a_close_counts_once_and_keeps_its_evidence(rig: ProviderRig) -> None:
    claim = await claimed(rig, await rig.store())
    assert await rig.book.close(claim, confirmed(40117), SEEN) is OrderState.CONFIRMED
    assert await rig.book.close(claim, LOST, SEEN) is None
    order = await rig.order(claim.order_id)
    assert (order.state, order.elid, order.how) == (OrderState.CONFIRMED, 40117, Found.ANSWER)
    assert order.detailed_at is None, "the last day is read before it is told"
    evidence = orjson.loads(str(await rig.value("SELECT evidence FROM provider_attempt")))
    assert evidence["body_sha256"] == SEEN.body_sha256
    assert evidence["row"] == 11


async def test_the_own_answer_of_an_order_taken_for_lost_still_counts(rig: ProviderRig) -> None:
    claim = await claimed(rig, await rig.store())
    assert await rig.book.lose(claim.order_id, claim.attempt)
    assert not await rig.book.lose(claim.order_id, claim.attempt)
    assert await rig.book.close(claim, confirmed(40117), SEEN) is OrderState.CONFIRMED


async def test_a_service_of_another_order_makes_the_second_manual(rig: ProviderRig) -> None:
    first, second = await claimed(rig, await rig.store()), await claimed(rig, await rig.store())
    await rig.book.close(first, confirmed(40117), SEEN)
    assert await rig.book.close(second, confirmed(40117), SEEN) is OrderState.MANUAL
    order = await rig.order(second.order_id)
    assert order.quarantined == (40117,)
    event = orjson.loads(
        bytes(await rig.value("SELECT value FROM outbox WHERE sequence IS NULL AND topic = 'license.events'"))
    )  # type: ignore[arg-type]  # bytea
    assert event["type"] == "keyway.provider.attention"
    assert event["data"]["order"] == str(second.order_id)
    assert event["data"]["kind"] == AttentionKind.ORDER_MANUAL


async def test_absence_closes_the_attempt_before_the_order_is_sent_again(rig: ProviderRig) -> None:
    claim = await claimed(rig, await rig.store())
    await rig.book.lose(claim.order_id, claim.attempt)
    order = await rig.order(claim.order_id)
    look = Look(
        looked_at=await rig.book.now(), elids=(), how=Found.MARKER, conclusive=True, charges=ChargeWitness.CLEAN
    )
    await rig.book.add_look(order, look)
    assert await rig.book.looks(order) == (look,)
    released = Settled(trigger=Trigger.ABSENT_RELEASED, proof=(look,))
    assert await rig.book.settle(order, released) is OrderState.INTENDED
    assert await rig.value("SELECT result FROM provider_attempt") == "absent_released", "closed first"
    assert not await rig.book.pass_fence(claim)
    assert await rig.book.settle(order, released) is None, "it moved on"
    assert await rig.book.close(claim, confirmed(40117), SEEN) is None, "the late answer finds a closed attempt"
    again = await rig.order(claim.order_id)
    assert again.marker_number == 2
    assert again.marker != order.marker
    assert again.markers[0] == order.marker


async def test_giving_up_leaves_the_attempt_open_for_its_own_answer(rig: ProviderRig) -> None:
    claim = await claimed(rig, await rig.store())
    await rig.book.lose(claim.order_id, claim.attempt)
    order = await rig.order(claim.order_id)
    given_up = Settled(trigger=Trigger.GIVEN_UP, reason=GiveUpReason.TIME_OVER)
    assert await rig.book.settle(order, given_up) is OrderState.MANUAL
    refused = Judgement(trigger=Trigger.REFUSED, refusal=Refusal.INVALID_VALUE)
    assert await rig.book.close(claim, refused, SEEN) is None, "people decide; a no is not believed any more"
    assert (await rig.order(claim.order_id)).state is OrderState.MANUAL


async def test_every_change_of_state_is_an_audit_row_that_nobody_can_change(rig: ProviderRig) -> None:
    claim = await claimed(rig, await rig.store())
    await rig.book.close(claim, NOT_SENT, SEEN)
    assert await rig.steps(claim.order_id) == ["intended>intended", "claimed>sending", "not_sent>intended"]
    with pytest.raises(asyncpg.PostgresError, match="history"):
        await rig.execute("DELETE FROM provider_step")


async def test_what_was_not_sent_waits_before_the_next_attempt(rig: ProviderRig) -> None:
    claim = await claimed(rig, await rig.store())
    await rig.book.close(claim, NOT_SENT, SEEN, due_seconds=30.0)
    assert await rig.book.claim(claim.order_id, LIMITS) is ClaimObstacle.NOT_YET


async def test_a_wrong_password_opens_the_breaker_and_pages_once(rig: ProviderRig) -> None:
    rig.book = PostgresProviderOrders(rig.pool, LONG_BREAKER)
    orders = [await rig.store() for _ in range(3)]
    claims = [await claimed(rig, order_id) for order_id in orders[:2]]
    refused = replace(NOT_SENT, pause=Pause.BREAKER, refusal=Refusal.AUTH_FAILED)
    for claim in claims:
        await rig.book.close(claim, refused, SEEN)
    assert await rig.book.claim(orders[2], LIMITS) is ClaimObstacle.PAUSED
    assert not await takes_orders(rig)
    assert (await rig.book.pause(ACCOUNT)).reason == "auth_failed"
    assert await rig.value("SELECT count(*) FROM outbox WHERE type = 'keyway.provider.attention'") == 1
    await rig.oversight.resume(ACCOUNT)
    assert await takes_orders(rig)


async def test_hold_offs_double_and_are_forgotten_after_a_success(rig: ProviderRig) -> None:
    for times in (1, 2, 3):
        await rig.execute("UPDATE provider_account SET paused_until = NULL")
        before = await rig.book.now()
        await rig.book.hold_off(ACCOUNT, Pause.BACK_OFF)
        after = await rig.book.now()
        pause = await rig.book.pause(ACCOUNT)
        assert pause.back_offs == times
        assert pause.paused_until is not None
        held_off = timedelta(seconds=0.5 * 2 ** (times - 1))
        assert before + held_off <= pause.paused_until <= after + held_off
    await rig.execute("UPDATE provider_account SET paused_until = NULL")
    await rig.book.close(await claimed(rig, await rig.store()), confirmed(1), SEEN)
    assert await rig.value("SELECT back_offs FROM provider_account") == 0


async def test_three_losses_within_a_minute_stop_the_sends(rig: ProviderRig) -> None:
    for _ in range(3):
        await rig.execute("UPDATE provider_account SET paused_until = NULL")
        await rig.book.close(await claimed(rig, await rig.store()), LOST, SEEN)
    assert (await rig.book.pause(ACCOUNT)).reason == "too_many_unknown"


async def test_orders_are_taken_until_too_many_outcomes_are_unknown(rig: ProviderRig) -> None:
    await claimed(rig, await rig.store())
    accounts = PostgresProviderAccounts(rig.pool)
    await accounts.enroll({ACCOUNT: 1})
    assert await takes_orders(rig), "one that is being sent is not unknown"
    order_id = await rig.store()
    claim = await claimed(rig, order_id)
    await rig.book.lose(order_id, claim.attempt)
    assert not await takes_orders(rig)


async def test_a_bell_is_rung_for_whatever_is_due_and_again_when_it_is_lost(rig: ProviderRig) -> None:
    order_id = await rig.store()
    assert await rig.book.ring(orders_max=10, again_seconds=5.0) == (), "its own bell is on its way"
    await rig.book.defer(order_id, 0.0)
    (due,) = await rig.book.ring(orders_max=10, again_seconds=0.0)
    assert (due.order_id, due.license_id) == (order_id, "ka:00000001")
    (again,) = await rig.book.ring(orders_max=10, again_seconds=60.0)
    assert again == due
    assert await rig.book.ring(orders_max=10, again_seconds=60.0) == ()
    claim = await claimed(rig, order_id)
    await rig.book.close(claim, Judgement(trigger=Trigger.REFUSED, refusal=Refusal.REJECTED), SEEN, due_seconds=0.0)
    assert len(await rig.book.ring(orders_max=10, again_seconds=0.0)) == 1, "decided and not announced"
    await rig.book.announced(order_id, again_seconds=0.0)
    assert len(await rig.book.ring(orders_max=10, again_seconds=0.0)) == 1, "announced and not taken in"
    await rig.execute("UPDATE provider_order SET settled_at = clock_timestamp()")
    assert await rig.book.ring(orders_max=10, again_seconds=0.0) == ()


async def test_details_are_kept_once(rig: ProviderRig) -> None:
    claim = await claimed(rig, await rig.store())
    await rig.book.close(claim, confirmed(40117), SEEN)
    assert await rig.book.detail(claim.order_id, expires_on=date(2027, 1, 1), key="40117-A")
    assert not await rig.book.detail(claim.order_id, expires_on=date(2030, 1, 1), key="other")
    order = await rig.order(claim.order_id)
    assert (order.service_expires_on, order.service_key) == (date(2027, 1, 1), "40117-A")


async def test_a_claim_keeps_the_last_day_that_was_read_before_sending(rig: ProviderRig) -> None:
    order_id = await rig.store(kind=StepKind.PROLONG, elid=Elid(7), expires_before=date(2027, 1, 1))
    exact = RenewService(elid=Elid(7), period_months=1, expires_before=date(2027, 1, 3))
    claim = await rig.book.claim(order_id, LIMITS, operation=exact, known_charges=("c1",), snapshot=(Elid(3),))
    assert isinstance(claim, Claim)
    order = await rig.order(order_id)
    assert order.operation == exact
    assert order.known_charges == {"c1"}
    assert order.snapshot == {3}


async def test_canaries_are_services_that_nobody_releases(rig: ProviderRig) -> None:
    for elid in (1, 2, 3):
        await rig.book.close(await claimed(rig, await rig.store()), confirmed(elid), SEEN)
    release = await claimed(rig, await rig.store(kind=StepKind.END, elid=Elid(3)))
    assert await rig.book.canaries(ACCOUNT) == {"OrderSoftware": 2}
    await rig.book.close(release, confirmed(3), SEEN)
    assert await rig.book.canaries(ACCOUNT) == {"OrderSoftware": 2}


async def test_a_service_whose_last_day_is_over_is_no_canary_unless_it_was_renewed(rig: ProviderRig) -> None:
    """The panel drops it some time after: all orders of the account would wait for a service that never comes back."""
    for elid in (1, 2):
        claim = await claimed(rig, await rig.store())
        await rig.book.close(claim, confirmed(elid), SEEN, expires_on=date(2020, 1, 31))
    assert await rig.book.canaries(ACCOUNT) == {}
    renewal = await claimed(rig, await rig.store(kind=StepKind.PROLONG, elid=Elid(1), expires_before=date(2020, 1, 31)))
    assert await rig.book.canaries(ACCOUNT) == {}
    await rig.book.close(renewal, confirmed(1), SEEN, expires_on=date.max)
    assert await rig.book.canaries(ACCOUNT) == {"OrderSoftware": 1}


async def test_each_way_of_ordering_has_a_canary_of_its_own_and_an_old_one_goes_first(rig: ProviderRig) -> None:
    for elid, product in ((1, LITE), (2, LITE), (3, PLESK)):
        await rig.book.close(await claimed(rig, await rig.store(product)), confirmed(elid), SEEN)
    assert await rig.book.canaries(ACCOUNT) == {"OrderSoftware": 2, "OrderPlesk": 3}
    await rig.execute("UPDATE provider_order SET decided_at = decided_at - interval '1 hour' WHERE elid = 1")
    assert await rig.book.canaries(ACCOUNT) == {"OrderSoftware": 1, "OrderPlesk": 3}


async def test_people_link_release_and_cancel_what_is_theirs(rig: ProviderRig) -> None:
    ids = [await rig.store() for _ in range(3)]
    for order_id in ids:
        claim = await claimed(rig, order_id)
        await rig.book.close(claim, Judgement(trigger=Trigger.SEVERAL_IDS, quarantined=(Elid(1), Elid(2))), SEEN)
        await rig.execute("UPDATE provider_account SET paused_until = NULL")
    assert await rig.oversight.link(ids[0], Elid(1), by="ann") is OrderState.CONFIRMED
    assert await rig.oversight.release(ids[1], by=TwoPeople(("ann", "bob"))) is OrderState.INTENDED
    assert await rig.oversight.cancel(ids[2], by="ann") is OrderState.REFUSED
    assert await rig.oversight.cancel(ids[2], by="ann") is None
    assert (await rig.order(ids[0])).how is Found.PEOPLE
    assert (await rig.order(ids[1])).marker_number == 2
    story = await rig.oversight.story(ids[0])
    assert [line.facts["trigger"] for line in story if line.what == "step"][-1] == "linked_by_people"
    assert {order.order_id for order in await rig.oversight.orders(states=[OrderState.REFUSED])} == {ids[2]}


async def test_only_the_services_that_are_asked_for_are_told_with_their_orders(rig: ProviderRig) -> None:
    ids = [await rig.store() for _ in range(3)]
    for elid, order_id in enumerate(ids, start=1):
        await rig.book.close(await claimed(rig, order_id), confirmed(elid), SEEN)
    release = await claimed(rig, await rig.store(kind=StepKind.END, elid=Elid(2)))
    await rig.book.close(release, confirmed(2), SEEN)
    assert await rig.book.linked(ACCOUNT, {Elid(2), Elid(3), Elid(9)}) == {2: ids[1], 3: ids[2]}
    assert await rig.book.linked(ACCOUNT, ()) == {}


async def test_a_termination_cancels_what_was_not_sent_even_while_the_account_pauses(rig: ProviderRig) -> None:
    order_id = await rig.store()
    await rig.book.hold_off(ACCOUNT, Pause.BREAKER)
    assert await rig.book.claim(order_id, LIMITS) is ClaimObstacle.PAUSED
    await rig.execute("UPDATE provider_order SET cancel_requested_at = clock_timestamp()")
    assert await rig.book.obstacle(order_id, LIMITS) is ClaimObstacle.CANCELED
    assert await rig.book.claim(order_id, LIMITS) is ClaimObstacle.CANCELED


async def test_people_who_look_now_do_not_disturb_a_call_that_is_out(rig: ProviderRig) -> None:
    waiting, sending = await rig.store(), await rig.store()
    await claimed(rig, sending)
    await rig.oversight.look_now()
    assert [due.order_id for due in await rig.book.ring(orders_max=10, again_seconds=5.0)] == [waiting]


async def test_a_termination_that_lines_up_does_not_disturb_a_call_that_is_out(rig: ProviderRig) -> None:
    waiting, sending = await rig.store(), await rig.store()
    await claimed(rig, sending)
    async with rig.pool.acquire() as connection:
        for order_id in (waiting, sending):
            await connection.execute(CANCEL, order_id, CLOCK.now())
    assert [due.order_id for due in await rig.book.ring(orders_max=10, again_seconds=5.0)] == [waiting]


async def test_people_are_told_once_of_each_order_that_nothing_moves_on(rig: ProviderRig) -> None:
    overdue = PostgresOverdueOrders(rig.pool)
    waiting, refused, manual, releasing, _fresh = [await rig.store() for _ in range(5)]
    claim = await claimed(rig, refused)
    await rig.book.close(claim, Judgement(trigger=Trigger.REFUSED, refusal=Refusal.REJECTED), SEEN)
    await rig.book.close(await claimed(rig, manual), Judgement(trigger=Trigger.SEVERAL_IDS), SEEN)
    await rig.execute("UPDATE provider_order SET kind = 'end', put_off = 1 WHERE order_id = $1", releasing)
    past = "UPDATE provider_order SET intended_at = intended_at - interval '1 hour', decided_at = decided_at"
    await rig.execute(
        f"{past} - interval '1 hour' WHERE order_id = ANY($1::uuid[])", [waiting, refused, manual, releasing]
    )
    await rig.book.hold_off(ACCOUNT, Pause.BREAKER)

    assert await overdue.tell(after_seconds=1800.0, orders_max=100) == 2, "one never sent, one never taken in"
    assert await overdue.tell(after_seconds=1800.0, orders_max=100) == 0

    told = await rig.value(
        "SELECT string_agg(convert_from(value, 'UTF8'), ' ') FROM outbox WHERE type LIKE '%attention'"
    )
    assert isinstance(told, str)
    assert told.count('"order_waits"') == 2
    assert "pauses (auth_failed)" in told
    assert all(str(order_id) in told for order_id in (waiting, refused))
    assert (await rig.order(waiting)).state is OrderState.INTENDED, "telling changes nothing"


async def test_an_order_that_people_released_is_not_overdue_for_the_time_it_was_theirs(rig: ProviderRig) -> None:
    order_id = await rig.store()
    await rig.book.close(await claimed(rig, order_id), Judgement(trigger=Trigger.SEVERAL_IDS), SEEN)
    await rig.execute("UPDATE provider_order SET intended_at = intended_at - interval '1 hour'")
    await rig.oversight.release(order_id, by=TwoPeople(("ann", "bob")))
    assert await PostgresOverdueOrders(rig.pool).tell(after_seconds=1800.0, orders_max=100) == 0


async def test_a_termination_cancels_what_was_not_sent(rig: ProviderRig) -> None:
    order_id = await rig.store()
    assert not await rig.book.cancel(order_id), "nobody asked for it"
    await rig.execute("UPDATE provider_order SET cancel_requested_at = clock_timestamp()")
    assert await rig.book.claim(order_id, LIMITS) is ClaimObstacle.CANCELED
    assert await rig.book.cancel(order_id)
    order = await rig.order(order_id)
    assert (order.state, order.refusal) == (OrderState.REFUSED, Refusal.CANCELED)


async def test_a_silent_database_is_unavailable() -> None:
    async with open_pool("postgresql://nobody@127.0.0.1:1/none") as pool:
        with pytest.raises(UnavailableError):
            await PostgresProviderOrders(pool).load(new_id())


async def test_derived_ids_are_valid_and_of_the_day_of_their_origin() -> None:
    origin = new_id()
    first, second = derived_id(origin, "outcome"), derived_id(origin, "other")
    assert first == derived_id(origin, "outcome")
    assert len({origin, first, second}) == 3
    assert (first.version, first.variant) == (origin.version, origin.variant)
    assert day_of(first) == day_of(origin)
