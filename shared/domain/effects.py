"""What one command leaves behind, and what a batch must know before: the values between handler and store.

The store writes all effects of a batch in one transaction, or none. Everything a redelivery or a repeat needs is in
it: the stored reply with the command id, the operation's fingerprint, the body of each revision.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from hashlib import sha256
from uuid import UUID

from shared.contracts.identifiers import CommandId, Fingerprint, LicenseId
from shared.contracts.replies import ReplyAddress, ReplyStatus
from shared.domain.case import RevisionCause
from shared.domain.decision import KnownRequest
from shared.domain.key_owners import OwnerBook
from shared.domain.license import License
from shared.domain.open_operation import OpenOperation
from shared.domain.provider_operation import ProviderOperation
from shared.domain.provisioning import Step
from shared.domain.usage import UsageTold


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReply:
    """A reply as it is stored: the bytes of a license body stand once, with their revision."""

    status: ReplyStatus
    meta: bytes = b""
    body: bytes = b""
    """Empty for `LICENSE_BODY`: there the body is that of `revision`."""
    revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRevision:
    """One issued body."""

    revision: int
    cause: RevisionCause
    product: str
    expires_on: date
    body: bytes
    body_sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """One public event, ready to be published."""

    event_id: UUID
    type: str
    sequence: int | None
    """Counts per license; None for an event that is no step of the license's life."""
    value: bytes
    """CloudEvents JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One link of a license's audit chain: `entry_sha256` = SHA-256(previous_sha256 + entry).

    What was asked before there was a license stands alone, before the chain (`lone_root`).
    """

    entry: bytes
    """JSON: who asked what, when, and what became of it. Nothing secret."""
    previous_sha256: bytes
    entry_sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseWrite:
    """The state of a license after the last command of a batch that touched it."""

    license: License
    version_before: int
    """Version read; 0 for a license that is new. The write fails as a conflict when it is no longer so."""
    activation_code: str | None
    """For a new license only; immutable afterwards."""
    key_id: int | None = None
    """For a new license whose key id was drawn before; None: it is drawn now."""
    audit_sha256: bytes
    """Head of the audit chain."""
    published_sequence: int = 0
    """Every event up to this one was known to be published when the license was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """A provider order to be carried out: intent, stored before anything is sent."""

    order_id: UUID
    account: str
    number: str
    step: Step
    operation: ProviderOperation


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWrite:
    """The operation under way after the last command of a batch that touched it; None: it ended."""

    operation: OpenOperation | None
    addresses: tuple[ReplyAddress, ...]
    """Who waits for it, oldest first."""
    in_line: int
    """How many commands stand in line behind it."""
    version_before: int
    """Version read; 0 when none was open. The write fails as a conflict when it is no longer so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCommand:
    """A command that stands in line behind an open operation."""

    command_id: CommandId
    envelope: bytes
    """The record value as it came."""
    address: ReplyAddress | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOpen:
    """An open operation as read."""

    operation: OpenOperation
    addresses: tuple[ReplyAddress, ...]
    in_line: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """One report of usage as it was told, with what gives it again from the raw events."""

    reported_at: datetime
    """Business clock."""
    told: UsageTold


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestName:
    """What a caller named a request, what it named, and the reply that is remembered under that name."""

    account: str
    name: str
    body_sha256: str
    """Lower-case hexadecimal."""
    reply: StoredReply
    """That of the command, or of the operation that ended with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEffect:
    """Everything one command leaves behind."""

    command_id: CommandId
    license_id: LicenseId
    payload_sha256: bytes
    reply: StoredReply
    handled_at: datetime
    """System clock."""
    write: LicenseWrite | None = None
    """Set on the last effect of each touched license in the batch only."""
    revision: NewRevision | None = None
    operation: tuple[Fingerprint, int] | None = None
    """Fingerprint to remember, with the revision in force."""
    forget_operations_after: int | None = None
    events: tuple[OutboxEvent, ...] = ()
    audit: AuditEntry | None = None
    open: OpenWrite | None = None
    """Set, as `write`, on the last effect only; None when the open operation is not touched."""
    orders: tuple[NewOrder, ...] = ()
    waiting: WaitingCommand | None = None
    """The command goes to the end of the line."""
    left_line: bool = False
    """The command stood in line and is decided now."""
    settled_order: UUID | None = None
    """Provider order whose outcome was taken in."""
    canceled_order: UUID | None = None
    """Provider order that nobody wants any more, should nothing have been sent yet."""
    attention: tuple[OutboxEvent, ...] = ()
    """Findings for other systems; they have no sequence."""
    usage: UsageReport | None = None
    is_beside: bool = False
    """What the command of another license does to this one: it has no result of its own."""
    named: RequestName | None = None
    """Its reply answers every later request of this name."""

    @property
    def concerns_provider(self) -> bool:
        """Whether anything beside the license itself is to be written."""
        return (
            self.open is not None
            or bool(self.orders)
            or self.waiting is not None
            or self.left_line
            or self.settled_order is not None
            or self.canceled_order is not None
            or bool(self.attention)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """The remembered outcome of a command id."""

    payload_sha256: bytes
    reply: StoredReply
    body: bytes
    """The bytes to send: `reply.body`, or the body of its revision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLicense:
    """A license as read, with what a decision and its answer need."""

    license: License
    version: int
    audit_sha256: bytes
    body: bytes
    """Body of the current revision; empty for a tombstone."""
    operations: Mapping[Fingerprint, int]
    """Those of the asked fingerprints that are known, each with the revision that it left."""
    published_sequence: int = 0
    """Every event up to this one was published."""
    key_id: int = 0
    activation_code: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a batch found stored."""

    results: Mapping[CommandId, StoredResult] = field(default_factory=dict)
    licenses: Mapping[LicenseId, StoredLicense] = field(default_factory=dict)
    open: Mapping[LicenseId, StoredOpen] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyQuestions:
    """What commands of the Partner API ask about keys other than their own, and about owners."""

    licenses: frozenset[LicenseId] = frozenset()
    """The keys concerned: they, their parents and their children are told."""
    key_ids: frozenset[int] = frozenset()
    """Keys named as parents; they and their children are told."""
    activation_codes: frozenset[str] = frozenset()
    """The same."""
    addresses: frozenset[str] = frozenset()
    """Whoever is bound to one of them is told."""
    uids: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    """Beside the owners of keys and accounts, which are always told."""
    names: frozenset[tuple[str, str]] = frozenset()
    """Account and name of requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAnswers:
    """What was found for `KeyQuestions`."""

    licenses: Mapping[LicenseId, StoredLicense] = field(default_factory=dict)
    owners: OwnerBook = field(default_factory=OwnerBook)
    requests: Mapping[tuple[str, str], KnownRequest] = field(default_factory=dict)


NO_AUDIT = bytes(32)
"""Head of an audit chain before its first entry."""


def lone_root(entry: bytes) -> bytes:
    """Return what a link follows that tells of a number without a license: nothing but its own entry.

    Without a row there is no head to hang on; so the lane need not look for one, and no two such links collide.
    """
    return sha256(entry).digest()
