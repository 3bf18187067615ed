"""Settling: what looks and time make of an order whose outcome is not known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.provider_operation import Elid
from shared.domain.provider_order import OrderState, Trigger
from shared.domain.provider_service import Finding, Found
from shared.domain.provider_settling import (
    ChargeWitness,
    GiveUpReason,
    Look,
    LookAgain,
    ReleasePolicy,
    Settled,
    SettlingRules,
    UnsettledOrder,
    next_look_at,
    proof_of_absence,
    settle,
)

SENT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
AUTO = SettlingRules(policy=ReleasePolicy.AUTO, quiet_seconds=100, reads_apart_seconds=30)
BY_PEOPLE = replace(AUTO, policy=ReleasePolicy.MANUAL)
LOST = UnsettledOrder(state=OrderState.UNKNOWN, sent_at=SENT, marker_number=1, accepted=False, terminate_waits=False)


def at(seconds: float) -> datetime:
    return SENT + timedelta(seconds=seconds)


def look(
    seconds: float,
    *elids: int,
    how: Found = Found.MARKER,
    conclusive: bool = True,
    charges: ChargeWitness = ChargeWitness.CLEAN,
) -> Look:
    finding = Finding(elids=tuple(map(Elid, elids)), how=how, conclusive=conclusive)
    return Look.of(finding, looked_at=at(seconds), charges=charges)


EMPTY = [look(40), look(70), look(100)]


def decided(
    looks: list[Look], *, order: UnsettledOrder = LOST, rules: SettlingRules = AUTO, now: float = 101
) -> Settled | LookAgain:
    return settle(order, looks, rules, now=at(now))


def trigger_of(decision: Settled | LookAgain) -> Trigger | None:
    return decision.trigger if isinstance(decision, Settled) else None


def test_three_spread_complete_looks_after_the_quiet_period_release() -> None:
    assert decided(EMPTY) == Settled(trigger=Trigger.ABSENT_RELEASED, proof=tuple(EMPTY))


@pytest.mark.parametrize(
    "looks",
    [
        [],
        EMPTY[1:],
        [look(10), look(40), look(99)],
        [look(60), look(80), look(100)],
        [look(40), look(70), look(100, conclusive=False)],
        [look(40, conclusive=False), look(70), look(100)],
        [look(-10), look(70), look(100)],
        [look(0), look(70), look(100)],
        [look(80), look(100), look(129)],
    ],
    ids=[
        "no look",
        "two looks",
        "the last before the quiet period is over",
        "too close together",
        "the last incomplete",
        "one incomplete",
        "one before sending",
        "one at the moment of sending",
        "close by a second",
    ],
)
def test_anything_less_proves_nothing(looks: list[Look]) -> None:
    assert trigger_of(decided(looks, now=130)) is None


def test_incomplete_looks_between_do_no_harm() -> None:
    looks = sorted([*EMPTY, look(50, conclusive=False), look(99, conclusive=False)], key=lambda each: each.looked_at)

    assert trigger_of(decided(looks)) is Trigger.ABSENT_RELEASED


def test_close_looks_count_where_they_are_spread() -> None:
    looks = [look(seconds) for seconds in range(5, 130, 5)]

    proof = proof_of_absence(LOST, looks, AUTO)

    assert [each.looked_at for each in proof] == [at(65), at(95), at(125)]


def test_policy_manual_never_releases_by_itself() -> None:
    assert trigger_of(decided(EMPTY, rules=BY_PEOPLE)) is None
    assert decided(EMPTY, rules=BY_PEOPLE, now=900) == Settled(
        trigger=Trigger.GIVEN_UP, reason=GiveUpReason.TIME_OVER, proof=tuple(EMPTY)
    )


def test_second_marker_is_never_released_by_itself() -> None:
    decision = decided(EMPTY, order=replace(LOST, marker_number=2))

    assert decision == Settled(trigger=Trigger.GIVEN_UP, reason=GiveUpReason.ABSENT_AGAIN, proof=tuple(EMPTY))


@pytest.mark.parametrize("rules", [AUTO, BY_PEOPLE], ids=["auto", "manual"])
def test_waiting_terminate_closes_what_is_proven_absent(rules: SettlingRules) -> None:
    decision = decided(EMPTY, order=replace(LOST, terminate_waits=True), rules=rules)

    assert decision == Settled(trigger=Trigger.ABSENT_CANCELED, proof=tuple(EMPTY))


@pytest.mark.parametrize("terminate_waits", [True, False])
def test_accepted_order_is_never_absent(terminate_waits: bool) -> None:  # noqa: FBT001 - a parametrized value
    order = replace(LOST, accepted=True, terminate_waits=terminate_waits)

    assert trigger_of(decided(EMPTY, order=order)) is None
    assert trigger_of(decided(EMPTY, order=order, now=900)) is Trigger.GIVEN_UP


@pytest.mark.parametrize(
    ("witness", "reason"),
    [
        (ChargeWitness.UNEXPLAINED, GiveUpReason.CHARGE_WITHOUT_SERVICE),
        (ChargeWitness.UNREADABLE, GiveUpReason.LEDGER_UNREADABLE),
    ],
)
@pytest.mark.parametrize("terminate_waits", [True, False])
def test_charge_or_silent_ledger_leads_to_people(
    witness: ChargeWitness,
    reason: GiveUpReason,
    terminate_waits: bool,  # noqa: FBT001 - a parametrized value
) -> None:
    looks = [replace(each, charges=witness) for each in EMPTY]

    decision = decided(looks, order=replace(LOST, terminate_waits=terminate_waits))

    assert decision == Settled(trigger=Trigger.GIVEN_UP, reason=reason, proof=tuple(looks))


def test_ledger_that_changes_its_mind_releases_nothing() -> None:
    looks = [EMPTY[0], replace(EMPTY[1], charges=ChargeWitness.UNEXPLAINED), EMPTY[2]]

    assert trigger_of(decided(looks)) is None


@pytest.mark.parametrize("state", [OrderState.UNKNOWN, OrderState.MANUAL])
def test_one_service_found_confirms(state: OrderState) -> None:
    order = replace(LOST, state=state, manual_since=at(900))

    decision = decided([look(5), look(10, 40117)], order=order)

    assert decision == Settled(trigger=Trigger.FOUND, elid=Elid(40117), how=Found.MARKER)


def test_marker_is_enough_in_an_incomplete_list_but_a_difference_is_not() -> None:
    assert trigger_of(decided([look(5, 1, conclusive=False)])) is Trigger.FOUND
    assert trigger_of(decided([look(5, 1, conclusive=False, how=Found.DIFFERENCE)])) is None


def test_several_services_found_are_quarantined_once() -> None:
    looks = [look(5, 1, 2)]

    assert decided(looks) == Settled(trigger=Trigger.AMBIGUOUS, quarantined=(Elid(1), Elid(2)))
    order = replace(LOST, state=OrderState.MANUAL, manual_since=at(6))
    assert isinstance(decided(looks, order=order), LookAgain)


def test_nothing_found_in_a_quarter_of_an_hour_asks_people() -> None:
    assert trigger_of(decided([], now=899.9)) is None
    assert trigger_of(decided([], now=900)) is Trigger.GIVEN_UP


def test_manual_order_is_never_released_by_a_proof() -> None:
    order = replace(LOST, state=OrderState.MANUAL, manual_since=at(900))

    assert isinstance(decided(EMPTY, order=order, now=2000), LookAgain)


@pytest.mark.parametrize(("last", "expected"), [(None, 0), (0, 5), (55, 60), (59.9, 64.9), (60, 120), (800, 860)])
def test_unknown_order_is_looked_for_often_then_each_minute(last: float | None, expected: float) -> None:
    looks = [] if last is None else [look(last)]

    assert next_look_at(LOST, looks, AUTO) == at(expected)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (None, 1000 + 3600),
        (900, 1000 + 3600),
        (1000 + 86_399, 1000 + 86_399 + 3600),
        (1000 + 86_400, 1000 + 2 * 86_400),
        (1000 + 14 * 86_400, None),
    ],
)
def test_manual_order_is_watched_hourly_then_daily_then_left(last: float | None, expected: float | None) -> None:
    order = replace(LOST, state=OrderState.MANUAL, manual_since=at(1000))

    watched = next_look_at(order, [] if last is None else [look(last)], AUTO)

    assert watched == (None if expected is None else at(expected))
