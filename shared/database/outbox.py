"""The outbox in PostgreSQL: what the relay reads, marks and counts, and what the license worker marks.

Rows of one license are written in sequence by transactions that exclude each other, so whoever sees an event sees all
before it. Rows are read only below the snapshot's xmin: a transaction that commits late must not find itself overtaken.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, LiteralString

from shared.contracts.identifiers import LicenseId
from shared.database.lane import Lane
from shared.database.leadership import LedConnection
from shared.database.pool import OwnConnection
from shared.domain.outgoing import OutgoingRecord

RELAY: Final = "relay"
"""Name of the role's advisory lock."""

DUE: Final[LiteralString] = """
SELECT o.topic, o.license_id, o.event_id, o.sequence, o.value,
    (SELECT e.published_at IS NOT NULL FROM outbox AS e
     WHERE e.license_id = o.license_id AND e.sequence = o.sequence - 1) IS TRUE AS follows
FROM outbox AS o
WHERE o.published_at IS NULL AND o.created_at < $1 AND o.created_xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY o.id LIMIT $2
"""
OLDEST: Final[LiteralString] = "SELECT created_at FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT 1"
MARK_EVENTS: Final[LiteralString] = """
UPDATE outbox AS o SET published_at = $3
FROM unnest($1::text[], $2::bigint[]) AS m (license_id, sequence)
WHERE o.license_id = m.license_id AND o.sequence = m.sequence AND o.published_at IS NULL
"""
MARK_OTHERS: Final[LiteralString] = """
UPDATE outbox AS o SET published_at = $3
FROM unnest($1::text[], $2::uuid[]) AS m (license_id, event_id)
WHERE o.license_id = m.license_id AND o.sequence IS NULL AND o.event_id = m.event_id AND o.published_at IS NULL
"""
UNCOUNTED: Final[LiteralString] = """
SELECT o.id, o.license_id, o.sequence,
    o.published_at IS NOT NULL AND o.created_xid < pg_snapshot_xmin(pg_current_snapshot()) AS settled
FROM outbox AS o
WHERE o.id > (SELECT counted_up_to FROM relay_progress)
ORDER BY o.id LIMIT $1
"""
COUNT: Final[LiteralString] = """
UPDATE license AS l SET published_sequence = m.sequence
FROM unnest($1::text[], $2::bigint[]) AS m (license_id, sequence)
WHERE l.license_id = m.license_id AND l.published_sequence < m.sequence
"""
COUNTED: Final[LiteralString] = "UPDATE relay_progress SET counted_up_to = $1"


class PostgresOutbox:
    """The outbox as the relay sees it: one active relay per database."""

    def __init__(self, database_url: str) -> None:
        self._led = LedConnection(database_url, RELAY)

    async def lead(self) -> bool:
        """Become the active relay, or learn that another one is. Raises `UnavailableError`."""
        return await self._led.lead()

    async def due(self, before: datetime, limit: int) -> tuple[list[OutgoingRecord], dict[LicenseId, int]]:
        """Return up to `limit` unpublished rows written before `before`, oldest first, and what precedes them.

        The second part tells per license up to which sequence its events are published, as far as the rows show it.
        Raises `UnavailableError`.
        """
        rows = await self._led.run("read outbox", lambda connection: connection.fetch(DUE, before, limit))
        records = [
            OutgoingRecord(
                topic=row["topic"],
                license_id=LicenseId(row["license_id"]),
                event_id=row["event_id"],
                sequence=row["sequence"],
                value=row["value"],
            )
            for row in rows
        ]
        published = {LicenseId(row["license_id"]): row["sequence"] - 1 for row in rows if row["follows"]}
        return records, published

    async def oldest(self) -> datetime | None:
        """Return when the oldest unpublished row was written. Raises `UnavailableError`."""
        return await self._led.run("read outbox age", lambda connection: connection.fetchval(OLDEST))

    async def mark(self, records: Sequence[OutgoingRecord], at: datetime) -> None:
        """Mark rows as published. Raises `UnavailableError`; then they will be published once more."""
        await self._led.run("mark outbox", lambda connection: mark_published(connection, records, at))

    async def count(self, limit: int) -> int:
        """Carry published events over into `license.published_sequence`; return how many rows were counted.

        Stops at the first row that is not published yet. Raises `UnavailableError`.
        """
        return await self._led.run("count outbox", lambda connection: _count(connection, limit))

    async def close(self) -> None:
        """Let another relay lead."""
        await self._led.close()


class PostgresOutboxMarks:
    """Marks of those who publish right after their COMMIT; on a connection of its own."""

    def __init__(self, database_url: str) -> None:
        self._lane = Lane(database_url)

    async def mark(self, records: Sequence[OutgoingRecord], at: datetime) -> None:
        """Mark rows as published. Raises `UnavailableError`, or `ConflictError` when the relay marks them too."""
        await self._lane.run("mark outbox", lambda connection: mark_published(connection, records, at))

    async def close(self) -> None:
        """Give the connection back."""
        await self._lane.close()


async def mark_published(connection: OwnConnection, records: Sequence[OutgoingRecord], at: datetime) -> None:
    """Mark rows in one order for everybody, so that two who mark the same rows never wait for each other in turn."""
    events = sorted((record.license_id, record.sequence) for record in records if record.sequence is not None)
    others = sorted((record.license_id, record.event_id) for record in records if record.sequence is None)
    if events:
        await connection.execute(MARK_EVENTS, [key for key, _ in events], [number for _, number in events], at)
    if others:
        await connection.execute(MARK_OTHERS, [key for key, _ in others], [event_id for _, event_id in others], at)


async def _count(connection: OwnConnection, limit: int) -> int:
    counted, last_id = 0, 0
    reached: dict[str, int] = {}
    for row in await connection.fetch(UNCOUNTED, limit):
        if not row["settled"]:
            break
        counted, last_id = counted + 1, row["id"]
        if row["sequence"] is not None:
            reached[row["license_id"]] = max(row["sequence"], reached.get(row["license_id"], 0))
    if counted:
        ordered = sorted(reached.items())  # workers lock licenses in this order too
        async with connection.transaction():
            await connection.execute(COUNT, [key for key, _ in ordered], [number for _, number in ordered])
            await connection.execute(COUNTED, last_id)
    return counted
