"""The saga's rules in a model: seeded histories of loss, pauses, crashes and stale lists, with every charge counted.

The model plays the worker, the panel and the reconciler of one order around the real rules (`judge`, `next_state`,
`settle`). It must stay free of double charges; and, so that it is worth something, each safeguard taken away must show
as double charges.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.provider_operation import Elid
from shared.domain.provider_order import OrderState, Trigger, judge, next_state
from shared.domain.provider_outcome import (
    Accepted,
    Confirmed,
    Evidence,
    NotSent,
    Refusal,
    Refused,
    SendOutcome,
    SeveralIds,
    Unknown,
)
from shared.domain.provider_service import Found
from shared.domain.provider_settling import (
    ChargeWitness,
    Look,
    ReleasePolicy,
    Settled,
    SettlingRules,
    UnsettledOrder,
    next_look_at,
    settle,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
SEEN = Evidence(row=15, detail="model")
SEND_WINDOW_SECONDS = 2.0
NETWORK_SECONDS_MAX = 10.0
PROCESSING_SECONDS_MAX = 120.0
STALENESS_SECONDS_MAX = 30.0
QUIET_SECONDS = SEND_WINDOW_SECONDS + NETWORK_SECONDS_MAX + PROCESSING_SECONDS_MAX + STALENESS_SECONDS_MAX + 1
RULES = SettlingRules(
    policy=ReleasePolicy.AUTO, quiet_seconds=QUIET_SECONDS, reads_apart_seconds=5, fast_for_seconds=600
)
HISTORY_SECONDS_MAX = 40_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The rules in force, and the safeguards that a history may be played without."""

    rules: SettlingRules = RULES
    fence: bool = True
    complete_lists_only: bool = True
    processing_seconds_max: float = PROCESSING_SECONDS_MAX


@dataclass(slots=True)
class History:
    """One order from its intent to the end of the model's time."""

    design: Design
    chance: random.Random
    now: float = 0.0
    state: OrderState = OrderState.INTENDED
    attempt: int = 0
    open_attempt: int = 0
    """The attempt whose answer still counts; 0 when it is closed."""
    marker_number: int = 1
    sent_at: float = 0.0
    accepted: bool = False
    filtered: bool = False
    """A saved filter hides the service from every list of this history."""
    manual_since: float | None = None
    looks: list[Look] = field(default_factory=list)
    effects: list[tuple[float, int, Elid]] = field(default_factory=list)
    """When it shows in lists, marker number, service. One entry is one charge."""
    sends: list[int] = field(default_factory=list)
    """The attempts that wrote to the wire."""
    _agenda: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _entries: int = 0

    def play(self) -> None:
        """Play the history to its end."""
        self.filtered = self.chance.random() < 0.1
        self._after(0, self._claim)
        while self._agenda and self._agenda[0][0] <= HISTORY_SECONDS_MAX:
            self.now, _, step = heapq.heappop(self._agenda)
            step()

    def _after(self, seconds: float, step: Callable[[], None]) -> None:
        self._entries += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._entries, step))

    def _move(self, trigger: Trigger) -> bool:
        moved = next_state(self.state, trigger)
        if moved is None:
            return False
        self.state = moved
        if moved is OrderState.MANUAL:
            self.manual_since = self.now
        if moved is OrderState.INTENDED:
            self.open_attempt = 0
            self.looks.clear()
            self._after(self.chance.uniform(0, 5), self._claim)
        return True

    def _claim(self) -> None:
        if self.state is not OrderState.INTENDED:
            return
        self._move(Trigger.CLAIMED)
        self.attempt += 1
        self.open_attempt, self.sent_at = self.attempt, self.now
        attempt, not_after = self.attempt, self.now + SEND_WINDOW_SECONDS
        pause = self.chance.choice((0.0, 0.1, 1.0, 5.0, 200.0, 900.0))
        if self.chance.random() < 0.9:  # else the process dies between the claim and the send
            self._after(pause, lambda: self._send(attempt, not_after))
        if self.chance.random() < 0.5 or pause > SEND_WINDOW_SECONDS:  # a second bell, or the claim is found orphaned
            self._after(self.chance.uniform(0.5, 60), self._lose)
        else:
            self._after(70, self._lose)

    def _lose(self) -> None:
        if self.state is OrderState.SENDING and self._move(Trigger.LOST):
            self._after(0, self._look)

    def _send(self, attempt: int, not_after: float) -> None:
        passes = self.open_attempt == attempt and self.now < not_after
        if self.design.fence and not passes:
            self._answer(attempt, NotSent(evidence=SEEN))
            return
        marker = self.marker_number
        self.sends.append(attempt)
        if self.chance.random() < 0.2:
            self._after(self.chance.uniform(0, 60), lambda: self._answer(attempt, Unknown(evidence=SEEN)))
            return
        delay = self.chance.uniform(0, NETWORK_SECONDS_MAX)
        delay += self.design.processing_seconds_max * self.chance.choice((0.0, 0.05, 0.5, 1.0))
        self._after(delay, lambda: self._take_effect(attempt, marker))

    def _take_effect(self, attempt: int, marker: int) -> None:
        if self.chance.random() < 0.1:
            self._answer(attempt, Refused(refusal=Refusal.INVALID_VALUE, evidence=SEEN))
            return
        elid = Elid(len(self.effects) + 1)
        self.effects.append((self.now + self.chance.uniform(0, STALENESS_SECONDS_MAX), marker, elid))
        told: SendOutcome = self.chance.choice(
            (
                Confirmed(elid=elid, evidence=SEEN),
                Unknown(evidence=SEEN),
                Unknown(evidence=SEEN),
                Accepted(evidence=SEEN),
                SeveralIds(elids=(elid, Elid(99)), evidence=SEEN),
            )
        )
        self._answer(attempt, told)

    def _answer(self, attempt: int, outcome: SendOutcome) -> None:
        if self.open_attempt != attempt or self.chance.random() < 0.2:  # fenced, or the worker died with the answer
            return
        judgement = judge(outcome)
        self.accepted = self.accepted or judgement.accepted
        if self._move(judgement.trigger) and self.state is OrderState.UNKNOWN:
            self._after(0, self._look)

    def _look(self) -> None:
        if self.state not in {OrderState.UNKNOWN, OrderState.MANUAL}:
            return
        self.looks.append(self._read())
        order = UnsettledOrder(
            state=self.state,
            sent_at=at(self.sent_at),
            marker_number=self.marker_number,
            accepted=self.accepted,
            terminate_waits=False,
            manual_since=None if self.manual_since is None else at(self.manual_since),
        )
        decision = settle(order, self.looks, self.design.rules, now=at(self.now))
        if isinstance(decision, Settled):
            if decision.trigger is Trigger.ABSENT_RELEASED:
                self.marker_number += 1
            self._move(decision.trigger)
        again = next_look_at(order, self.looks, self.design.rules)
        if again is not None:
            self._after(max((again - at(self.now)).total_seconds(), 0.1), self._look)

    def _read(self) -> Look:
        failed = self.filtered or self.chance.random() < 0.2
        found = () if failed else tuple(elid for elid, marker in self._listed() if marker == self.marker_number)
        return Look(
            looked_at=at(self.now),
            elids=found,
            how=Found.MARKER,
            conclusive=not failed or not self.design.complete_lists_only,
            charges=ChargeWitness.CLEAN,
        )

    def _listed(self) -> list[tuple[Elid, int]]:
        return [(elid, marker) for shown_at, marker, elid in self.effects if shown_at <= self.now]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def played(design: Design, histories: int = 800) -> list[History]:
    finished = []
    for seed in range(histories):
        history = History(design=design, chance=random.Random(seed))
        history.play()
        finished.append(history)
    return finished


def double_charged(histories: list[History]) -> int:
    return sum(len(history.effects) > 1 for history in histories)


@pytest.mark.parametrize("policy", ReleasePolicy)
def test_no_history_charges_twice_and_none_ends_in_silence(policy: ReleasePolicy) -> None:
    rules = SettlingRules(policy=policy, quiet_seconds=QUIET_SECONDS, reads_apart_seconds=5, fast_for_seconds=600)

    histories = played(Design(rules=rules))

    assert double_charged(histories) == 0
    for history in histories:
        assert len(set(history.sends)) == len(history.sends), "one request per attempt"
        match history.state:
            case OrderState.CONFIRMED:
                assert len(history.effects) == 1
            case OrderState.REFUSED:
                assert history.effects == []
            case state:
                assert state is OrderState.MANUAL, "what is not settled waits for people"


def test_histories_reach_every_interesting_place() -> None:
    histories = played(Design())

    assert {history.state for history in histories} == {OrderState.CONFIRMED, OrderState.REFUSED, OrderState.MANUAL}
    assert any(history.marker_number == 2 and history.state is OrderState.CONFIRMED for history in histories)
    assert any(history.attempt > len(history.sends) and history.effects for history in histories), "a fenced attempt"
    assert any(history.accepted for history in histories)


@pytest.mark.parametrize(
    "design",
    [
        Design(fence=False),
        Design(rules=SettlingRules(policy=ReleasePolicy.AUTO, quiet_seconds=0, reads_apart_seconds=0, reads_min=1)),
        Design(complete_lists_only=False),
        Design(processing_seconds_max=900),
    ],
    ids=["no fence", "first absent list", "failed lists as evidence", "slower than assumed"],
)
def test_model_shows_what_a_missing_safeguard_costs(design: Design) -> None:
    assert double_charged(played(design)) > 0


def test_upstream_of_any_slowness_never_charges_twice_when_people_release() -> None:
    rules = SettlingRules(policy=ReleasePolicy.MANUAL, quiet_seconds=1, reads_apart_seconds=1)

    assert double_charged(played(Design(rules=rules, processing_seconds_max=3000))) == 0
