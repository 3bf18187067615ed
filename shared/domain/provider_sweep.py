"""A sweep: one comparison of our side and a provider account's, asked for, carried out once, and told (isplicense 9.7).

It is a request like any other: stored when it is asked for, begun after that, ended with what differed or with what
failed. What differs is a finding until a later sweep does not meet it any more; people are told of each finding once.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from shared.domain.drift import Difference, DriftKind
from shared.domain.open_operation import AttentionKind
from shared.domain.provider_operation import Elid

WITH_LABELS = frozenset({DriftKind.LABEL, DriftKind.FOREIGN, DriftKind.SURPLUS, DriftKind.NOT_RELEASED})
"""Kinds whose two sides may quote a label, which is the caller's."""


FORMS_PER_TURN = 120
"""About a minute at two calls a second: a sweep of the scheduler must leave the account's pace to the orders."""


class SweepState(StrEnum):
    """How far a sweep is."""

    ASKED = "asked"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """Nothing follows from it: neither that both sides agree nor that they differ."""


class SweepAsker(StrEnum):
    """Who asked for a sweep."""

    SCHEDULER = "scheduler"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One row of table `provider_sweep`. Moments are system clock, aware UTC."""

    sweep_id: UUID
    provider_account: str
    asked_by: SweepAsker
    asked_at: datetime
    state: SweepState
    begun_at: datetime | None
    """When it was begun last; always after the question."""
    finished_at: datetime | None
    failure: str
    """Why it failed, for people; nothing secret."""
    differences: tuple[Difference, ...]

    @property
    def is_over(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self.state in (SweepState.DONE, SweepState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepClaim:
    """The right to carry a sweep out, for as long as its worker shows that it lives."""

    sweep_id: UUID
    provider_account: str
    attempt: int
    is_whole: bool = True
    """People asked: every form is read. Else those of the services whose turn it is."""
    nodes_after: int = 0
    """The turn begins after this service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The services whose numbers of nodes a sweep reads, one form each."""

    read: frozenset[Elid]
    left: frozenset[Elid]
    """Nothing follows about these: what was found before stays found."""
    through: int
    """Where the next turn begins; 0 for the start."""


def turn_of(counting: Collection[Elid], claim: SweepClaim, *, forms_max: int) -> Turn:
    """Return which of the services with numbers of nodes the sweep reads: all, or the next ones, round and round."""
    if claim.is_whole or len(counting) <= forms_max:
        return Turn(read=frozenset(counting), left=frozenset(), through=0)
    first_after = sorted(counting, key=lambda elid: (elid <= claim.nodes_after, elid))
    read = first_after[:forms_max]
    return Turn(read=frozenset(read), left=frozenset(first_after[forms_max:]), through=read[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFinding:
    """A difference as people are told of it."""

    difference: Difference
    attention: AttentionKind
    text: str


def findings_of(differences: tuple[Difference, ...], provider_account: str) -> tuple[NewFinding, ...]:
    """Return what people should see of the differences at a provider account, each identity once.

    An order of unknown outcome is no finding: it is being looked for, and tells people itself when that ends (9.6).
    """
    found: dict[object, NewFinding] = {}
    for difference in differences:
        attention = attention_of(difference.kind)
        if attention is not None:
            text = f"{sentence_of(difference)} (provider account {provider_account})"
            found.setdefault(difference.identity, NewFinding(difference=difference, attention=attention, text=text))
    return tuple(found.values())


def attention_of(kind: DriftKind) -> AttentionKind | None:
    """Return the public word for a kind of difference, None for what is no finding."""
    match kind:
        case DriftKind.MISSING:
            return AttentionKind.SERVICE_MISSING
        case DriftKind.SURPLUS | DriftKind.NOT_RELEASED:
            return AttentionKind.SURPLUS_SERVICE
        case DriftKind.FOREIGN:
            return AttentionKind.FOREIGN_SERVICE
        case DriftKind.CHARGED | DriftKind.NOT_CHARGED | DriftKind.UNEXPLAINED_CHARGE:
            return AttentionKind.CHARGE_DIFFERS
        case (
            DriftKind.SHARED
            | DriftKind.NOT_ORDERED
            | DriftKind.EXPIRY
            | DriftKind.PRODUCT
            | DriftKind.ADDRESS
            | DriftKind.LABEL
            | DriftKind.PARENT
            | DriftKind.NODES
            | DriftKind.SUSPENDED
            | DriftKind.AUTOPROLONG
        ):
            return AttentionKind.SERVICE_DIFFERS
        case DriftKind.UNDECIDED:
            return None
        case _:
            assert_never(kind)


def sentence_of(difference: Difference) -> str:
    """Return the difference as a sentence for people; no label of the caller, nothing secret."""
    kind = difference.kind
    parts: list[str] = []
    if difference.elid is not None:
        parts.append(f"service {difference.elid}")
    if difference.license_id is not None:
        parts.append(f"license {difference.license_id}")
    if difference.order:
        parts.append(f"{'charge' if kind is DriftKind.UNEXPLAINED_CHARGE else 'order'} {difference.order}")
    if kind not in WITH_LABELS:
        parts += [f"ours {difference.ours}"] if difference.ours else []
        parts += [f"theirs {difference.theirs}"] if difference.theirs else []
    if difference.cost is not None:
        parts.append(f"charged {difference.cost}")
    return f"{kind.value.replace('_', ' ')}: {', '.join(parts)}"
