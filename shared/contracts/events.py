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

EVENT_SOURCE = "keyway"


class EventType(StrEnum):
    """Types of public license events."""

    ISSUED = "keyway.license.issued"
    RENEWED = "keyway.license.renewed"
    UPGRADED = "keyway.license.upgraded"
    LAPSED = "keyway.license.lapsed"
    TERMINATED = "keyway.license.terminated"
    SUSPENDED = "keyway.license.suspended"
    RESUMED = "keyway.license.resumed"
    MOVED = "keyway.license.moved"
    MODIFIED = "keyway.license.modified"
    ATTENTION = "keyway.provider.attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseEventData:
    """What every license event tells: the license as it is after the event."""

    license: str
    account: str
    product: str
    status: str
    """`active`, `suspended`, `lapsed` or `terminated`: the shown status."""
    expires_on: date | None
    """None for a tombstone of a number never issued."""
    revision: int
    test: bool
    nfr: bool


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

    license: str | None
    account: str | None
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
