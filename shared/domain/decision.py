"""What `decide` gives back: events, effects and one answer. Values only; a "no" is an answer like any other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from shared.contracts.identifiers import Fingerprint, LicenseId
from shared.contracts.outcomes import RejectionCode, TerminationOutcome
from shared.contracts.replies import KeyPlan, ReplyStatus
from shared.contracts.requests import RequestOutcome
from shared.domain.events import LicenseEvent
from shared.domain.key_structure import KeyView
from shared.domain.open_operation import Attention, OpenOperation
from shared.domain.provisioning import Step
from shared.domain.usage import UsageTold


@dataclass(frozen=True, slots=True)
class CurrentBody:
    """Answer: the body and last day in force after the decision. `fingerprint` is remembered for repeats."""

    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Termination:
    """Answer: what a TERMINATE found."""

    outcome: TerminationOutcome


@dataclass(frozen=True, slots=True)
class Rejected:
    """Answer: no, and why. `details` are the values that its text names; each passed its own check before."""

    code: RejectionCode
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pending:
    """Answer: not yet. An operation upstream is under way; its outcome will answer this asker too."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Answer: not begun. The license is busy; the command stands in line, in order."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Answer to our own roles: taken in, nothing to say."""


@dataclass(frozen=True, slots=True)
class Done:
    """Answer to a public request: what it did, or found done."""

    outcome: RequestOutcome


@dataclass(frozen=True, slots=True)
class KeyState:
    """Answer to partners: done, or nothing to do. The structure is told only when the command asked for it."""

    view: KeyView
    """The key after the decision."""
    is_told: bool


@dataclass(frozen=True, slots=True)
class KeyForecast:
    """Answer to partners: what a modification would do. Nothing is done."""

    key_id: int
    plan: KeyPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRequest:
    """A request that its caller named, as it was answered (docs/protocols/partner-api.md 3.2)."""

    body_sha256: str
    """Lower-case hexadecimal."""
    status: ReplyStatus
    meta: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class SameAgain:
    """Answer to partners: what was answered to the request of the same name."""

    known: KnownRequest


Answer = (
    CurrentBody
    | Termination
    | Rejected
    | Pending
    | Waiting
    | Noted
    | UsageTold
    | Done
    | KeyState
    | KeyForecast
    | SameAgain
)


class AlertKind(StrEnum):
    """Findings that people should look at; label values of `keyway_license_alerts_total`."""

    TOMBSTONE_RECORDED = "tombstone_recorded"
    UPGRADE_REVERSED = "upgrade_reversed"
    UPGRADE_MOVED_EXPIRY = "upgrade_moved_expiry"
    PRODUCT_DIFFERS = "product_differs"
    SUBSCRIPTION_DATE_DIFFERS = "subscription_date_differs"


@dataclass(frozen=True, slots=True)
class Alert:
    """One finding, with the text for its log line and audit row."""

    kind: AlertKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The whole outcome of one command."""

    answer: Answer
    events: tuple[LicenseEvent, ...] = ()
    alerts: tuple[Alert, ...] = ()
    open: OpenOperation | None = None
    """The operation that is under way after this decision; None when none is."""
    order: Step | None = None
    """The next order of the open operation, to be carried out upstream."""
    releases: tuple[Step, ...] = ()
    """Orders that nobody waits for: services to be released."""
    settled_order: UUID | None = None
    """The provider order whose outcome is taken in by this decision."""
    settled_answer: Answer | None = None
    """What those who wait for the operation that ended here are told."""
    attention: tuple[Attention, ...] = ()
    """Findings that other systems and operators are told of."""
    elsewhere: Mapping[LicenseId, tuple[LicenseEvent, ...]] = field(default_factory=dict)
    """What happens to related licenses in the same transaction. One without events only must not have changed."""
    forget_operations_after: int | None = None
    """Fingerprints of operations later than this revision are undone and must not answer repeats any more."""
