"""Outbox rows on their way to Kafka, and the one rule about their order.

First occurrences of a license's events stand in sequence, without a gap: an event may leave only when the one before it
was acknowledged, or leaves with it in one indivisible batch. Rows without a sequence (bells, attention) have no order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from shared.contracts.identifiers import LicenseId


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRecord:
    """One committed outbox row."""

    topic: str
    """Without the installation's prefix."""
    license_id: LicenseId
    """Record key, and so partition and unit of order."""
    event_id: UUID
    sequence: int | None
    value: bytes


def in_order(records: Iterable[OutgoingRecord], published: Mapping[LicenseId, int]) -> list[OutgoingRecord]:
    """Return the records that may leave now, in the order in which they must.

    `published` tells up to which sequence the events of a license are known to be published; a license that is missing
    counts as 0, nothing. What is left out must wait for an event that somebody else has yet to publish. An event that
    was published before may leave again.
    """
    reached: dict[LicenseId, int] = {}
    leaving = []
    for record in sorted(records, key=lambda record: record.sequence or 0):
        if record.sequence is not None:
            last = reached.get(record.license_id, published.get(record.license_id, 0))
            if record.sequence > last + 1:
                continue
            reached[record.license_id] = max(last, record.sequence)
        leaving.append(record)
    return leaving
