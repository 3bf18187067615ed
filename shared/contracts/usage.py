"""Usage events on `usage.reported`: CloudEvents 1.0, structured JSON, written by other systems.

Evolution rules: members are only added, with a default; a type never changes its meaning. `data.account` and
`data.license` decide whom an event concerns; `subject` and the record key are not trusted. An event is known by
(`source`, `id`) for as long as the data are kept.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from shared.contracts.identifiers import LicenseId, license_id

NAME_LENGTH_MAX = 500
"""Of `source`, `id` and counter of a usage event, in characters."""


class UsageType(StrEnum):
    """Types of usage events."""

    LEVEL = "keyway.usage.level"
    """The value at `time`."""
    INCREMENT = "keyway.usage.increment"
    """So much more."""


class UsageKey(NamedTuple):
    """What names a usage event."""

    source: str
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedUsage:
    """One usage event as its source wrote it."""

    key: UsageKey
    type: UsageType
    account: str
    number: str
    """Of the license."""
    counter: str
    value: Decimal
    """Exact, as written."""
    at: datetime
    """CloudEvents `time`: when it happened, aware UTC."""

    @property
    def license_id(self) -> LicenseId:
        """The license concerned."""
        return license_id(self.account, self.number)
