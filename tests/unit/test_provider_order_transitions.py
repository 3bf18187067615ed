"""The order's states: every cell of state x trigger, every outcome, every obstacle."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.approval import TwoPeople
from shared.domain.provider_operation import Elid, EndService, RenewService
from shared.domain.provider_order import (
    RELEASE_AGAIN_SECONDS,
    TRANSITIONS,
    UNRESOLVED,
    AccountState,
    ClaimObstacle,
    Judgement,
    OrderState,
    Pause,
    Trigger,
    back_off_seconds,
    breaker_opens,
    judge,
    next_state,
    obstacle_to_claim,
    put_off,
)
from shared.domain.provider_outcome import (
    Accepted,
    Confirmed,
    Evidence,
    NotSent,
    PaymentRequired,
    Refusal,
    Refused,
    SeveralIds,
    Unknown,
)
from shared.domain.provider_service import Found

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SEEN = Evidence(row=15, detail="seen")

WANTED, S, U, M, C, R = (
    OrderState.INTENDED,
    OrderState.SENDING,
    OrderState.UNKNOWN,
    OrderState.MANUAL,
    OrderState.CONFIRMED,
    OrderState.REFUSED,
)
# One row per trigger: the state after it from intended, sending, unknown, manual, confirmed, refused; None = no change.
EXPECTED: dict[Trigger, tuple[OrderState | None, ...]] = {
    Trigger.CLAIMED: (S, None, None, None, None, None),
    Trigger.NOT_SENT: (None, WANTED, WANTED, None, None, None),
    Trigger.PUT_OFF: (None, WANTED, WANTED, None, None, None),
    Trigger.CONFIRMED: (None, C, C, C, None, None),
    Trigger.REFUSED: (None, R, R, None, None, None),
    Trigger.SEVERAL_IDS: (None, M, M, None, None, None),
    Trigger.LOST: (None, U, None, None, None, None),
    Trigger.FOUND: (None, C, C, C, None, None),
    Trigger.AMBIGUOUS: (None, M, M, None, None, None),
    Trigger.ABSENT_RELEASED: (None, None, WANTED, None, None, None),
    Trigger.ABSENT_CANCELED: (None, None, R, None, None, None),
    Trigger.GIVEN_UP: (None, None, M, None, None, None),
    Trigger.CANCELED: (R, None, None, None, None, None),
    Trigger.LINKED_BY_PEOPLE: (None, None, None, C, None, None),
    Trigger.RELEASED_BY_PEOPLE: (None, None, None, WANTED, None, None),
    Trigger.CANCELED_BY_PEOPLE: (None, None, None, R, None, None),
}


def test_every_state_has_its_row_and_every_trigger_its_line() -> None:
    assert set(TRANSITIONS) == set(OrderState)
    assert set(EXPECTED) == set(Trigger)


@pytest.mark.parametrize("trigger", Trigger)
@pytest.mark.parametrize("column", range(6))
def test_state_and_trigger_give_the_next_state(trigger: Trigger, column: int) -> None:
    state = (WANTED, S, U, M, C, R)[column]

    assert next_state(state, trigger) is EXPECTED[trigger][column]


def test_only_a_claim_leads_to_the_wire() -> None:
    ways = {(state, trigger) for state, row in TRANSITIONS.items() for trigger, to in row.items() if to is S}

    assert ways == {(WANTED, Trigger.CLAIMED)}


def test_what_may_have_happened_becomes_intended_again_only_by_proof_or_people() -> None:
    ways = {trigger for state in (U, M) for trigger, to in TRANSITIONS[state].items() if to is WANTED}

    assert ways == {Trigger.NOT_SENT, Trigger.PUT_OFF, Trigger.ABSENT_RELEASED, Trigger.RELEASED_BY_PEOPLE}
    assert frozenset({S, U, M}) == UNRESOLVED


JUDGEMENTS = [
    (
        Confirmed(elid=Elid(40117), evidence=SEEN),
        Judgement(trigger=Trigger.CONFIRMED, elid=Elid(40117), how=Found.ANSWER),
    ),
    (
        PaymentRequired(evidence=SEEN, ids=("billorder=1",)),
        Judgement(trigger=Trigger.REFUSED, refusal=Refusal.PAYMENT_REQUIRED),
    ),
    (NotSent(evidence=SEEN), Judgement(trigger=Trigger.NOT_SENT)),
    (
        SeveralIds(elids=(Elid(1), Elid(2)), evidence=SEEN),
        Judgement(trigger=Trigger.SEVERAL_IDS, quarantined=(Elid(1), Elid(2))),
    ),
    (Accepted(evidence=SEEN), Judgement(trigger=Trigger.LOST, accepted=True)),
    (Unknown(evidence=SEEN), Judgement(trigger=Trigger.LOST)),
    (
        Unknown(evidence=Evidence(row=4, detail="HTTP 503", http_status=503)),
        Judgement(trigger=Trigger.LOST, pause=Pause.BACK_OFF),
    ),
]


@pytest.mark.parametrize(("outcome", "expected"), JUDGEMENTS, ids=lambda value: type(value).__name__)
def test_outcome_is_judged(outcome: Confirmed, expected: Judgement) -> None:
    assert judge(outcome) == expected


REFUSALS = {
    Refusal.AUTH_FAILED: (Trigger.NOT_SENT, Pause.BREAKER, False),
    Refusal.HELD_OFF: (Trigger.NOT_SENT, Pause.BACK_OFF, False),
    Refusal.CAPTCHA: (Trigger.REFUSED, Pause.BACK_OFF, False),
    Refusal.PROTOCOL: (Trigger.REFUSED, Pause.NONE, True),
}


@pytest.mark.parametrize("refusal", Refusal)
def test_refusal_is_judged_by_its_class(refusal: Refusal) -> None:
    judgement = judge(Refused(refusal=refusal, evidence=SEEN))

    expected = REFUSALS.get(refusal, (Trigger.REFUSED, Pause.NONE, False))
    assert (judgement.trigger, judgement.pause, judgement.look_first) == expected
    assert judgement.refusal is refusal


RELEASE = EndService(elid=Elid(7))
PASSING = {
    Refusal.PAYMENT_REQUIRED,
    Refusal.ACCESS_DENIED,
    Refusal.TWO_FACTOR_REQUIRED,
    Refusal.CAPTCHA,
    Refusal.UPSTREAM_FAULT,
}


@pytest.mark.parametrize("refusal", Refusal)
def test_a_release_is_put_off_by_refusals_that_pass_and_by_no_others(refusal: Refusal) -> None:
    judgement = judge(Refused(refusal=refusal, evidence=SEEN))

    after = put_off(judgement, RELEASE, times=0)

    is_put_off = refusal in PASSING
    assert (after.trigger is Trigger.PUT_OFF) is is_put_off
    assert (after.refusal, after.pause) == (judgement.refusal, judgement.pause), "what was seen stays on record"
    assert after.again_seconds == (RELEASE_AGAIN_SECONDS[0] if is_put_off else 0)


def test_a_release_is_asked_for_again_at_growing_distance_and_then_refused() -> None:
    refused = judge(Refused(refusal=Refusal.ACCESS_DENIED, evidence=SEEN))

    waits = [put_off(refused, RELEASE, times=times).again_seconds for times in range(len(RELEASE_AGAIN_SECONDS))]

    assert waits == sorted(set(waits)), "each wait is longer than the one before"
    assert put_off(refused, RELEASE, times=len(waits)) == refused


def test_nothing_but_a_release_is_put_off() -> None:
    refused = judge(Refused(refusal=Refusal.ACCESS_DENIED, evidence=SEEN))
    renewal = RenewService(elid=Elid(7), period_months=1, expires_before=NOW.date())

    assert put_off(refused, renewal, times=0) == refused


@pytest.mark.parametrize("names", [[], ["ann"], ["ann", "ann"], ["Ann", " ann "], ["ann", ""], ["a  b", "A B"]])
def test_one_person_is_not_two_however_the_name_is_written(names: list[str]) -> None:
    assert TwoPeople.of(names) is None


def test_two_people_go_on_record_with_their_names() -> None:
    assert str(TwoPeople.of(["Ann", "ann", " Bob "])) == "Ann, Bob"


FREE = AccountState(slot_taken=False, unresolved=7, paused_until=NOW)


def test_intended_order_with_a_free_slot_may_be_claimed() -> None:
    assert obstacle_to_claim(WANTED, FREE, now=NOW) is None


@pytest.mark.parametrize("state", [S, U, M, C, R])
def test_no_other_state_may_be_claimed(state: OrderState) -> None:
    assert obstacle_to_claim(state, FREE, now=NOW) is ClaimObstacle.NOT_INTENDED


def test_taken_slot_limit_and_pause_each_hold_a_claim_back() -> None:
    taken = AccountState(slot_taken=True, unresolved=0, paused_until=None)
    full = AccountState(slot_taken=False, unresolved=8, paused_until=None)
    paused = AccountState(slot_taken=False, unresolved=0, paused_until=NOW + timedelta(seconds=1))

    assert obstacle_to_claim(WANTED, taken, now=NOW) is ClaimObstacle.SLOT_TAKEN
    assert obstacle_to_claim(WANTED, full, now=NOW) is ClaimObstacle.TOO_MANY_UNRESOLVED
    assert obstacle_to_claim(WANTED, paused, now=NOW) is ClaimObstacle.PAUSED


def test_back_off_doubles_from_a_minute_to_a_quarter_of_an_hour() -> None:
    assert [back_off_seconds(times) for times in (1, 2, 3, 4, 5, 6, 10_000)] == [60, 120, 240, 480, 900, 900, 900]


def test_third_unknown_outcome_within_a_minute_opens_the_breaker() -> None:
    recent = [NOW - timedelta(seconds=seconds) for seconds in (59, 30, 0)]

    assert breaker_opens(recent, now=NOW)
    assert not breaker_opens(recent[1:], now=NOW)
    assert not breaker_opens([NOW - timedelta(seconds=60), *recent[1:]], now=NOW)
