"""Settling the unknown by looking, never by ordering again: a pure decision over the looks so far and the time.

Absence is proven by complete lists only, several, spread, the last of them after the quiet period Q, with no charge
that nobody can explain (docs/protocols/isplicense.md 9.6). Everything short of that waits, and in the end asks people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from shared.domain.provider_operation import Elid
from shared.domain.provider_order import OrderState, Trigger
from shared.domain.provider_service import Finding, Found


class ReleasePolicy(StrEnum):
    """Who may order again what is proven absent."""

    MANUAL = "manual"
    """People only."""
    AUTO = "auto"
    """Once by itself; only for an account whose longest processing time is known and below Q."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlingRules:
    """The settings of a provider account that govern looking. The defaults are those of production."""

    policy: ReleasePolicy = ReleasePolicy.MANUAL
    quiet_seconds: float = 600
    """Q: longer than send window + network + longest processing upstream + staleness of lists."""
    reads_min: int = 3
    reads_apart_seconds: float = 30
    fast_every_seconds: float = 5
    fast_for_seconds: float = 60
    slow_every_seconds: float = 60
    give_up_after_seconds: float = 900
    watch_hourly_seconds: float = 86_400
    watch_daily_seconds: float = 14 * 86_400
    marker_number_max: int = 2
    """An order with this marker number is never released by itself again."""


class ChargeWitness(StrEnum):
    """What the expense ledger says beside a look."""

    CLEAN = "clean"
    UNEXPLAINED = "unexplained"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look for an order's effect, as evidence."""

    looked_at: datetime
    """Start of the read, system clock, aware UTC: what happened later may be missing from it."""
    elids: tuple[Elid, ...]
    how: Found
    conclusive: bool
    charges: ChargeWitness

    @classmethod
    def of(cls, finding: Finding, *, looked_at: datetime, charges: ChargeWitness) -> "Look":
        """Return the look that `finding` and the ledger make."""
        return cls(
            looked_at=looked_at,
            elids=finding.elids,
            how=finding.how,
            conclusive=finding.conclusive,
            charges=charges,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsettledOrder:
    """What settling must know of an order in `unknown` or `manual`."""

    state: OrderState
    sent_at: datetime
    """When the attempt was claimed for sending."""
    marker_number: int
    accepted: bool
    """The provider said yes without an id: it is never absent."""
    terminate_waits: bool
    manual_since: datetime | None = None


class GiveUpReason(StrEnum):
    """Why people must look."""

    TIME_OVER = "time_over"
    CHARGE_WITHOUT_SERVICE = "charge_without_service"
    LEDGER_UNREADABLE = "ledger_unreadable"
    ABSENT_AGAIN = "absent_again"


GIVE_UP_BY_WITNESS: Mapping[ChargeWitness, GiveUpReason | None] = {
    ChargeWitness.CLEAN: None,
    ChargeWitness.UNEXPLAINED: GiveUpReason.CHARGE_WITHOUT_SERVICE,
    ChargeWitness.UNREADABLE: GiveUpReason.LEDGER_UNREADABLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The order moves by `trigger`."""

    trigger: Trigger
    elid: Elid | None = None
    how: Found | None = None
    quarantined: tuple[Elid, ...] = ()
    reason: GiveUpReason | None = None
    proof: tuple[Look, ...] = ()
    """The looks that prove absence. The attempt is closed with them **before** the order is `intended` again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAgain:
    """Nothing is decided; look again at `at`, or never when the watch is over."""

    at: datetime | None


def settle(order: UnsettledOrder, looks: Sequence[Look], rules: SettlingRules, *, now: datetime) -> Settled | LookAgain:
    """Return what becomes of an order in `unknown` or `manual` after `looks`, in rising order of time.

    The looks are those of the present attempt, all begun after `sent_at`.
    """
    found = _found(looks)
    if found is not None and not (found.trigger is Trigger.AMBIGUOUS and order.state is OrderState.MANUAL):
        return found
    if order.state is OrderState.MANUAL:
        return LookAgain(at=next_look_at(order, looks, rules))
    proof = proof_of_absence(order, looks, rules)
    if proof:
        absent = _absent(order, proof, rules)
        if absent is not None:
            return absent
    if now >= order.sent_at + timedelta(seconds=rules.give_up_after_seconds):
        return Settled(trigger=Trigger.GIVEN_UP, reason=GiveUpReason.TIME_OVER, proof=proof)
    return LookAgain(at=next_look_at(order, looks, rules))


def proof_of_absence(order: UnsettledOrder, looks: Sequence[Look], rules: SettlingRules) -> tuple[Look, ...]:
    """Return the newest looks that together prove that nothing is there, or nothing when they do not.

    They say nothing of charges; `settle` reads those from the proof.
    """
    if order.accepted:
        return ()
    empty = [look for look in looks if look.conclusive and not look.elids and look.looked_at > order.sent_at]
    quiet_until = order.sent_at + timedelta(seconds=rules.quiet_seconds)
    if not empty or empty[-1].looked_at < quiet_until:
        return ()
    spread = [empty[-1]]
    for look in reversed(empty[:-1]):
        if len(spread) == rules.reads_min:
            break
        if spread[-1].looked_at - look.looked_at >= timedelta(seconds=rules.reads_apart_seconds):
            spread.append(look)
    return tuple(reversed(spread)) if len(spread) == rules.reads_min else ()


def next_look_at(order: UnsettledOrder, looks: Sequence[Look], rules: SettlingRules) -> datetime | None:
    """Return when to look next (9.6): often at first, then each minute; in `manual` hourly, daily, then never."""
    last = looks[-1].looked_at if looks else None
    if order.state is OrderState.MANUAL and order.manual_since is not None:
        since = order.manual_since
        last = max(last, since) if last is not None else since
        if last >= since + timedelta(seconds=rules.watch_daily_seconds):
            return None
        hourly = last < since + timedelta(seconds=rules.watch_hourly_seconds)
        return last + timedelta(hours=1 if hourly else 24)
    if last is None:
        return order.sent_at
    fast = last < order.sent_at + timedelta(seconds=rules.fast_for_seconds)
    return last + timedelta(seconds=rules.fast_every_seconds if fast else rules.slow_every_seconds)


def _found(looks: Sequence[Look]) -> Settled | None:
    """A marker found is enough in any list; a difference counts in a complete one only."""
    if not looks:
        return None
    latest = looks[-1]
    if not latest.elids or not (latest.conclusive or latest.how is Found.MARKER):
        return None
    if len(latest.elids) > 1:
        return Settled(trigger=Trigger.AMBIGUOUS, quarantined=latest.elids)
    return Settled(trigger=Trigger.FOUND, elid=latest.elids[0], how=latest.how)


def _absent(order: UnsettledOrder, proof: tuple[Look, ...], rules: SettlingRules) -> Settled | None:
    witnesses = {look.charges for look in proof}
    if len(witnesses) > 1:
        return None  # a witness that changes its mind is asked again
    reason = GIVE_UP_BY_WITNESS[witnesses.pop()]
    if reason is None and order.terminate_waits:
        return Settled(trigger=Trigger.ABSENT_CANCELED, proof=proof)
    if reason is None and rules.policy is ReleasePolicy.MANUAL:
        return None  # people release; until the time is over it is still watched closely
    if reason is None and order.marker_number >= rules.marker_number_max:
        reason = GiveUpReason.ABSENT_AGAIN
    if reason is None:
        return Settled(trigger=Trigger.ABSENT_RELEASED, proof=proof)
    return Settled(trigger=Trigger.GIVEN_UP, reason=reason, proof=proof)
