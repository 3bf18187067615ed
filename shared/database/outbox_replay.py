"""The outbox read again: published events in the order in which a replay sends them, a page at a time.

Pages follow the key (license, sequence), so that each license's events come in sequence, memory is bounded, and a page
costs the same wherever it begins. What was never published is left to the relay: a replay must not overtake it.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from shared.contracts.identifiers import LicenseId
from shared.database.failures import mapped_failures
from shared.database.pool import OwnConnection
from shared.domain.outgoing import OutgoingRecord

PAGE_ROWS: Final = 500

OF_ONE: Final[LiteralString] = """
SELECT license_id, sequence, event_id, topic, value, published_at IS NOT NULL AS wanted
FROM outbox WHERE license_id = $1 AND sequence > $2
ORDER BY sequence LIMIT $3
"""
OF_ALL: Final[LiteralString] = """
SELECT license_id, sequence, event_id, topic, wanted, CASE WHEN wanted THEN value END AS value
FROM (
    SELECT *, published_at IS NOT NULL AND ($4::timestamptz IS NULL OR created_at >= $4)
        AND ($5::timestamptz IS NULL OR created_at < $5) AS wanted
    FROM outbox WHERE sequence IS NOT NULL AND (license_id, sequence) > ($1, $2)
    ORDER BY license_id, sequence LIMIT $3
) AS page
ORDER BY license_id, sequence
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayScope:
    """What to send again. Everything, unless narrowed."""

    license_id: LicenseId | None = None
    from_sequence: int = 1
    """Of that license only."""
    since: datetime | None = None
    """Stored at this moment or later (system clock)."""
    until: datetime | None = None
    """Stored before this moment."""


async def replay_pages(
    connection: OwnConnection, scope: ReplayScope, *, page_rows: int = PAGE_ROWS
) -> AsyncIterator[list[OutgoingRecord]]:
    """Yield the published events of `scope`, by license and sequence; pages may be empty. Raises `UnavailableError`."""
    license_id, sequence = scope.license_id or LicenseId(""), scope.from_sequence - 1
    while True:
        async with mapped_failures("read outbox for a replay"):
            if scope.license_id is not None:
                rows = await connection.fetch(OF_ONE, license_id, sequence, page_rows)
            else:
                rows = await connection.fetch(OF_ALL, license_id, sequence, page_rows, scope.since, scope.until)
        yield [
            OutgoingRecord(
                topic=row["topic"],
                license_id=LicenseId(row["license_id"]),
                event_id=row["event_id"],
                sequence=row["sequence"],
                value=row["value"],
            )
            for row in rows
            if row["wanted"]
        ]
        if len(rows) < page_rows:
            return
        license_id, sequence = LicenseId(rows[-1]["license_id"]), rows[-1]["sequence"]
