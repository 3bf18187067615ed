"""What the relay needs from the outside, in its own words."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from shared.contracts.identifiers import LicenseId
from shared.domain.outgoing import OutgoingRecord
from workers.outbox import Sent


class Outbox(Protocol):
    """The committed rows. Every method may raise `UnavailableError`; then another relay may be the active one."""

    async def lead(self) -> bool:
        """Become the active relay, or learn that another one is."""
        ...

    async def due(self, before: datetime, limit: int) -> tuple[list[OutgoingRecord], dict[LicenseId, int]]:
        """Return unpublished rows written before `before`, and up to where the events before them are published."""
        ...

    async def oldest(self) -> datetime | None:
        """Return when the oldest unpublished row was written."""
        ...

    async def mark(self, records: Sequence[OutgoingRecord], at: datetime) -> None:
        """Mark rows as published."""
        ...

    async def count(self, limit: int) -> int:
        """Carry published events over into the licenses; return how many rows were counted."""
        ...


class Press(Protocol):
    """Where records are published."""

    async def send(self, records: Sequence[OutgoingRecord]) -> Sent:
        """Send records in the order given and wait for the answers. Raises `UnavailableError`."""
        ...
