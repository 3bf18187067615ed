"""The provider order: six states, and what moves it from one to another.

`TRANSITIONS` is the law of this file, every state with its whole row (docs/protocols/isplicense.md 9.3): state and
trigger give the next state; a trigger that is not in the row changes nothing. An order whose service is found before
the first send still goes through `sending`: it is claimed, nothing is sent, and the attempt is closed as found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import assert_never

from shared.domain.provider_operation import Elid, EndService, ProviderOperation
from shared.domain.provider_outcome import (
    PASSING,
    Accepted,
    Confirmed,
    NotSent,
    PaymentRequired,
    Refusal,
    Refused,
    SendOutcome,
    SeveralIds,
    Unknown,
)
from shared.domain.provider_service import Found

UNRESOLVED_MAX = 8
"""Unresolved orders per provider account: the most money that a bad upstream can hold (9.1)."""
BACK_OFF_SECONDS_MIN = 60
BREAKER_SECONDS = 900
"""How long the breaker stays open, and the longest back-off (4.3)."""
RELEASE_AGAIN_SECONDS = (60.0, 300.0, 1800.0, 7200.0, 43_200.0)
"""After each refusal of a passing kind a release waits so long before it is asked for again; then people are told."""
UNKNOWN_MAX = 3
UNKNOWN_WITHIN_SECONDS = 60


class OrderState(StrEnum):
    """Stored states."""

    INTENDED = "intended"
    """Stored; nothing sent in the present attempt."""
    SENDING = "sending"
    """Claimed; one request may be on the wire."""
    UNKNOWN = "unknown"
    """May have been done; being looked for."""
    MANUAL = "manual"
    """May have been done; waits for people, still watched."""
    CONFIRMED = "confirmed"
    REFUSED = "refused"


UNRESOLVED = frozenset({OrderState.SENDING, OrderState.UNKNOWN, OrderState.MANUAL})
"""States that hold the slot and count against `UNRESOLVED_MAX`."""


class Trigger(StrEnum):
    """Everything that can move an order."""

    CLAIMED = "claimed"
    NOT_SENT = "not_sent"
    """Nothing reached the wire, or the front door said not now: the attempt is over, the order stays wanted."""
    PUT_OFF = "put_off"
    """A release was refused for a passing reason: it stays wanted and is asked for again later."""
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    SEVERAL_IDS = "several_ids"
    LOST = "lost"
    """The outcome of the send is not known, or the process died, or a second worker met the order in `sending`."""
    FOUND = "found"
    AMBIGUOUS = "ambiguous"
    """Two or more services could be the one, or the one belongs to another order."""
    ABSENT_RELEASED = "absent_released"
    ABSENT_CANCELED = "absent_canceled"
    GIVEN_UP = "given_up"
    CANCELED = "canceled"
    """Nobody wants it any more and nothing was sent."""
    LINKED_BY_PEOPLE = "linked_by_people"
    RELEASED_BY_PEOPLE = "released_by_people"
    CANCELED_BY_PEOPLE = "canceled_by_people"


TRANSITIONS: Mapping[OrderState, Mapping[Trigger, OrderState]] = {
    OrderState.INTENDED: {
        Trigger.CLAIMED: OrderState.SENDING,
        Trigger.CANCELED: OrderState.REFUSED,
    },
    OrderState.SENDING: {
        Trigger.NOT_SENT: OrderState.INTENDED,
        Trigger.PUT_OFF: OrderState.INTENDED,
        Trigger.CONFIRMED: OrderState.CONFIRMED,
        Trigger.FOUND: OrderState.CONFIRMED,
        Trigger.REFUSED: OrderState.REFUSED,
        Trigger.SEVERAL_IDS: OrderState.MANUAL,
        Trigger.AMBIGUOUS: OrderState.MANUAL,
        Trigger.LOST: OrderState.UNKNOWN,
    },
    OrderState.UNKNOWN: {
        Trigger.NOT_SENT: OrderState.INTENDED,
        Trigger.PUT_OFF: OrderState.INTENDED,
        Trigger.CONFIRMED: OrderState.CONFIRMED,
        Trigger.FOUND: OrderState.CONFIRMED,
        Trigger.REFUSED: OrderState.REFUSED,
        Trigger.SEVERAL_IDS: OrderState.MANUAL,
        Trigger.AMBIGUOUS: OrderState.MANUAL,
        Trigger.ABSENT_RELEASED: OrderState.INTENDED,
        Trigger.ABSENT_CANCELED: OrderState.REFUSED,
        Trigger.GIVEN_UP: OrderState.MANUAL,
    },
    OrderState.MANUAL: {
        Trigger.CONFIRMED: OrderState.CONFIRMED,
        Trigger.FOUND: OrderState.CONFIRMED,
        Trigger.LINKED_BY_PEOPLE: OrderState.CONFIRMED,
        Trigger.RELEASED_BY_PEOPLE: OrderState.INTENDED,
        Trigger.CANCELED_BY_PEOPLE: OrderState.REFUSED,
    },
    OrderState.CONFIRMED: {},
    OrderState.REFUSED: {},
}
"""In `unknown` and `manual` the first seven triggers are the attempt's own answer coming after all, its token still
open. `manual` believes such an answer only when it brings the service: everything else there is people's to decide."""


class Pause(StrEnum):
    """What an outcome asks of the whole provider account."""

    NONE = "none"
    BACK_OFF = "back_off"
    """Wait `back_off_seconds` before the next call (4.3)."""
    BREAKER = "breaker"
    """Wrong credentials: no call at all until the breaker closes, and a person is told (4.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one outcome means for its order."""

    trigger: Trigger
    elid: Elid | None = None
    how: Found | None = None
    refusal: Refusal | None = None
    quarantined: tuple[Elid, ...] = ()
    pause: Pause = Pause.NONE
    accepted: bool = False
    """Stored with the order: it must never be released as absent."""
    look_first: bool = False
    """Look once before this judgement is applied; a service found then confirms the order instead (9.2 row 14)."""
    again_seconds: float = 0.0
    """How long the order waits before it is asked for again."""


def next_state(state: OrderState, trigger: Trigger) -> OrderState | None:
    """Return the state after `trigger`, None when it changes nothing there."""
    return TRANSITIONS[state].get(trigger)


def judge(outcome: SendOutcome) -> Judgement:
    """Return what the outcome of a send means for its order (docs/protocols/isplicense.md 9.2, 9.3)."""
    match outcome:
        case Confirmed():
            judgement = Judgement(trigger=Trigger.CONFIRMED, elid=outcome.elid, how=Found.ANSWER)
        case Refused():
            judgement = _judge_refusal(outcome.refusal)
        case PaymentRequired():
            judgement = Judgement(trigger=Trigger.REFUSED, refusal=Refusal.PAYMENT_REQUIRED)
        case NotSent():
            judgement = Judgement(trigger=Trigger.NOT_SENT)
        case SeveralIds():
            judgement = Judgement(trigger=Trigger.SEVERAL_IDS, quarantined=outcome.elids)
        case Accepted():
            judgement = Judgement(trigger=Trigger.LOST, accepted=True)
        case Unknown():
            busy = outcome.evidence.http_status == HTTPStatus.SERVICE_UNAVAILABLE
            judgement = Judgement(trigger=Trigger.LOST, pause=Pause.BACK_OFF if busy else Pause.NONE)
        case _:
            assert_never(outcome)
    return judgement


def _judge_refusal(refusal: Refusal) -> Judgement:
    match refusal:
        case Refusal.AUTH_FAILED:
            return Judgement(trigger=Trigger.NOT_SENT, refusal=refusal, pause=Pause.BREAKER)
        case Refusal.HELD_OFF:
            return Judgement(trigger=Trigger.NOT_SENT, refusal=refusal, pause=Pause.BACK_OFF)
        case Refusal.CAPTCHA:
            return Judgement(trigger=Trigger.REFUSED, refusal=refusal, pause=Pause.BACK_OFF)
        case Refusal.PROTOCOL:
            return Judgement(trigger=Trigger.REFUSED, refusal=refusal, look_first=True)
        case _:
            return Judgement(trigger=Trigger.REFUSED, refusal=refusal)


def put_off(judgement: Judgement, operation: ProviderOperation, *, times: int) -> Judgement:
    """Return the judgement of a refused release that is asked for again, any other as it is.

    `times` counts how often it was put off before. A release may be asked for as often as need be (9.5): it charges
    nothing, and while it is open nobody pays for the service twice. What is refused for good, or for the last time,
    stays refused: then people are told.
    """
    is_passing = judgement.trigger is Trigger.REFUSED and judgement.refusal in PASSING
    if not isinstance(operation, EndService) or not is_passing or times >= len(RELEASE_AGAIN_SECONDS):
        return judgement
    return replace(judgement, trigger=Trigger.PUT_OFF, again_seconds=RELEASE_AGAIN_SECONDS[times])


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountState:
    """What a claim must know of the provider account."""

    slot_taken: bool
    """Another order in `UNRESOLVED` has the same slot."""
    unresolved: int
    paused_until: datetime | None
    """End of a back-off or of the breaker."""


class ClaimObstacle(StrEnum):
    """Why an `intended` order must wait. Waiting is always safe."""

    NOT_INTENDED = "not_intended"
    SLOT_TAKEN = "slot_taken"
    TOO_MANY_UNRESOLVED = "too_many_unresolved"
    PAUSED = "paused"
    BUSY = "busy"
    """As many money calls are under way as the account allows."""
    NOT_YET = "not_yet"
    """The last attempt was not sent: the order waits a while before the next."""
    CANCELED = "canceled"
    """Nobody wants it any more."""


def obstacle_to_claim(
    state: OrderState, account: AccountState, *, unresolved_max: int = UNRESOLVED_MAX, now: datetime
) -> ClaimObstacle | None:
    """Return what stands against claiming the order now, None when nothing does.

    The compare-and-set and the unique index of the database ask again at the moment of claiming.
    """
    if state is not OrderState.INTENDED:
        return ClaimObstacle.NOT_INTENDED
    if account.paused_until is not None and now < account.paused_until:
        return ClaimObstacle.PAUSED
    if account.slot_taken:
        return ClaimObstacle.SLOT_TAKEN
    return ClaimObstacle.TOO_MANY_UNRESOLVED if account.unresolved >= unresolved_max else None


def back_off_seconds(times: int) -> float:
    """Return the wait after the `times`-th hold-off in a row, from 1: 60 s, doubled each time, up to 15 min (4.3)."""
    return float(min(BACK_OFF_SECONDS_MIN * 2 ** min(times - 1, 10), BREAKER_SECONDS))


def breaker_opens(unknown_at: Sequence[datetime], *, now: datetime) -> bool:
    """Whether so many sends were lost lately that no new one may start (4.3)."""
    since = now - timedelta(seconds=UNKNOWN_WITHIN_SECONDS)
    return sum(moment > since for moment in unknown_at) >= UNKNOWN_MAX
