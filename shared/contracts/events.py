"""Public events on `license.events`: CloudEvents 1.0, structured JSON. Other companies build on them.

Evolution rules
- Members are only added, never renamed, retyped or removed; a new meaning is a new type.
- `sequence` counts 1, 2, 3 … per license without a gap; the same event always has the same `id` and bytes.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from shared.contracts.identifiers import LicenseId
from shared.contracts.requests import RequestReference

EVENT_SOURCE = "keyway"


class EventType(StrEnum):
    """Types of public license events."""

    ISSUED = "keyway.license.issued"
    RENEWED = "keyway.license.renewed"
    UPGRADED = "keyway.license.upgraded"
    LAPSED = "keyway.license.lapsed"
    TERMINATED = "keyway.license.terminated"
    USAGE_CLOSED = "keyway.usage.closed"
    SUSPENDED = "keyway.license.suspended"
    RESUMED = "keyway.license.resumed"
    MOVED = "keyway.license.moved"
    MODIFIED = "keyway.license.modified"
    ATTENTION = "keyway.provider.attention"
    INTAKE_ACCEPTED = "keyway.intake.accepted"
    INTAKE_REJECTED = "keyway.intake.rejected"


class ShownStatus(StrEnum):
    """The status that people and events see: terminated > suspended > lapsed > active."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    LAPSED = "lapsed"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseEventData:
    """What every license event tells: the license as it is after the event."""

    __pydantic_config__ = {"use_attribute_docstrings": True}  # noqa: RUF012 - pydantic's own way; never written to

    license: str
    """License number as text."""
    account: str
    """Name of the account that owns the license."""
    product: str
    """SKU, with the `NFR-` prefix when not for resale."""
    status: ShownStatus
    """The shown status: terminated > suspended > lapsed > active."""
    expires_on: date | None
    """Last day (UTC); null for a tombstone of a number never issued."""
    revision: int
    """Issued bodies so far, from 1; 0 for a tombstone of a number never issued."""
    test: bool
    """A test order."""
    nfr: bool
    """Not for resale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEventData(LicenseEventData):
    """What events tell of a license that is managed through the Partner API: more members, none missing."""

    key_id: int
    owner: str
    nickname: str
    address: str | None
    """Address that the key is bound to, canonical."""
    auto_renew: bool
    parent: LicenseId | None
    operations: tuple[str, ...] | None = None
    """`modified` only: the operations of one request, in order of execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicEvent:
    """One public event before it is written as CloudEvents JSON by `codec.encode_event`."""

    event_id: UUID
    type: EventType
    subject: LicenseId
    time: datetime
    """When it happened, by the business clock."""
    sequence: int
    data: LicenseEventData | KeyEventData


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionData:
    """What a finding about a provider tells."""

    __pydantic_config__ = {"use_attribute_docstrings": True}  # noqa: RUF012 - pydantic's own way; never written to

    license: str | None
    """License number, where one is concerned."""
    account: str | None
    """Name of the account that owns the license."""
    kind: str
    """A word for machines: `shared.domain.open_operation.AttentionKind`."""
    text: str
    """A sentence for people; nothing secret."""
    order: UUID | None = None
    """The provider order concerned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionEvent:
    """`keyway.provider.attention`: no step in a license's life, so it has no sequence."""

    event_id: UUID
    subject: str
    """License id, or the provider account when no license is concerned."""
    time: datetime
    data: AttentionData


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedCounter:
    """One counter over all licenses of a closed month."""

    __pydantic_config__ = {"use_attribute_docstrings": True}  # noqa: RUF012 - pydantic's own way; never written to

    counter: str
    kind: str
    """`level` or `increment`."""
    value: str
    """Exact decimal number: the sum over the licenses."""
    units: int
    """The sum of each license's figure, rounded up."""
    licenses: int
    adjustment: str
    """Exact decimal number: what is added for earlier months that were closed before their events came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageClosedData:
    """What a closed settlement month tells."""

    __pydantic_config__ = {"use_attribute_docstrings": True}  # noqa: RUF012 - pydantic's own way; never written to

    account: str
    product: str
    month: str
    """`YYYY-MM`."""
    counters: tuple[ClosedCounter, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageClosedEvent:
    """`keyway.usage.closed`: no step in a license's life, so it has no sequence."""

    event_id: UUID
    time: datetime
    """Business clock."""
    data: UsageClosedData

    @property
    def subject(self) -> str:
        """`<account>:<product>:<YYYY-MM>`."""
        return f"{self.data.account}:{self.data.product}:{self.data.month}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeOutcomeData:
    """What became of a public request."""

    __pydantic_config__ = {"use_attribute_docstrings": True}  # noqa: RUF012 - pydantic's own way; never written to

    license: str
    """License number, as the request named it."""
    account: str
    """Account, as the request named it."""
    source: str
    """`source` of the request."""
    id: str
    """`id` of the request."""
    type: str
    """`type` of the request."""
    code: str
    """A word for machines: what was done, or why not. New words may come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeOutcomeEvent:
    """`keyway.intake.accepted` or `keyway.intake.rejected`: the answer to a public request. It has no sequence."""

    event_id: UUID
    accepted: bool
    subject: LicenseId
    time: datetime
    """When it was decided, by the business clock."""
    data: IntakeOutcomeData

    @property
    def type(self) -> EventType:
        """The public type."""
        return EventType.INTAKE_ACCEPTED if self.accepted else EventType.INTAKE_REJECTED


def intake_outcome_data(account: str, number: str, request: RequestReference, code: str) -> IntakeOutcomeData:
    """Return what is told of `request` about the license `number` of `account`."""
    return IntakeOutcomeData(
        license=number, account=account, source=request.source, id=request.id, type=request.type, code=code
    )
