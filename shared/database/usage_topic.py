"""Which topic `usage.reported` is, and how far it is taken in: offsets mean nothing without the topic they belong to.

A topic that was made anew, or whose end fell back, begins a generation of its own: the watermark starts at 0 again in
the same transaction, under the lock that keeps everybody from taking events in meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

from shared.database.failures import mapped_failures
from shared.database.pool import Connection, Pool, borrowed
from shared.database.usage_store import FIRST_GENERATION, SETTLEMENT_LOCK
from shared.domain.usage import ReadTopic, dense

READ: Final[LiteralString] = """
(SELECT generation, topic_id, accepted_at IS NOT NULL AS is_accepted, NULL::integer AS partition,
    NULL::bigint AS next_offset
FROM usage_topic ORDER BY generation DESC LIMIT 1)
UNION ALL
SELECT NULL, NULL, NULL, partition, next_offset FROM usage_watermark
"""
BEGIN: Final[LiteralString] = """
INSERT INTO usage_topic (generation, topic_id, noticed_at, earlier_watermark, accepted_at)
VALUES ($1::integer, $2, $3::timestamptz, $4, CASE WHEN $1 = 1 THEN $3 END)
"""
ALL: Final[LiteralString] = """
SELECT generation, topic_id, noticed_at, earlier_watermark, accepted_at, reason,
    (SELECT max(received_at) FROM usage_event e WHERE e.generation < t.generation) AS earlier_event_at
FROM usage_topic t ORDER BY generation
"""
ACCEPT: Final[LiteralString] = """
UPDATE usage_topic SET accepted_at = $1, reason = $2
WHERE accepted_at IS NULL RETURNING generation
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicGeneration:
    """One topic that has borne the name."""

    generation: int
    topic_id: UUID
    noticed_at: datetime
    earlier_watermark: Sequence[int]
    """How far the one before was read, per partition."""
    earlier_event_at: datetime | None
    """When the last event of the ones before was taken in."""
    accepted_at: datetime | None
    reason: str


class PostgresUsageTopic:
    """The topic as it is on record."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self) -> ReadTopic:
        """Return the topic on record with its watermark, as of one moment. Raises `UnavailableError`."""
        async with borrowed(self._pool, "read usage topic") as connection:
            return await _read(connection)

    async def look(self, topic_id: UUID, *, has_fallen: bool, now: datetime) -> ReadTopic:
        """Return the topic on record after it was seen to be `topic_id`: another one begins a generation.

        `has_fallen` says that the same topic's end is below what was read of it. Raises `UnavailableError`.
        """
        async with borrowed(self._pool, "look at usage topic") as connection:
            before = await _read(connection)
            if before.topic_id == topic_id and not has_fallen:
                return before
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", SETTLEMENT_LOCK)
                now_before = await _read(connection)
                if (now_before.generation, now_before.topic_id) != (before.generation, before.topic_id):
                    return now_before  # somebody else was quicker
                if now_before.topic_id is None and not has_fallen:
                    await connection.execute(BEGIN, FIRST_GENERATION, topic_id, now, [])
                else:
                    await _begin_anew(connection, now_before, topic_id, now)
            return await _read(connection)


async def _begin_anew(connection: Connection, before: ReadTopic, topic_id: UUID, now: datetime) -> None:
    if before.topic_id is None:  # read before topics were on record
        await connection.execute(BEGIN, FIRST_GENERATION, UUID(int=0), now, [])
    await connection.execute(BEGIN, before.generation + 1, topic_id, now, list(before.watermark))
    await connection.execute("DELETE FROM usage_watermark")


async def _read(connection: Connection) -> ReadTopic:
    rows = await connection.fetch(READ)
    marks = dense({row["partition"]: row["next_offset"] for row in rows if row["partition"] is not None})
    newest = next((row for row in rows if row["generation"] is not None), None)
    if newest is None:
        return ReadTopic(watermark=marks)
    return ReadTopic(
        generation=newest["generation"],
        topic_id=newest["topic_id"],
        is_accepted=newest["is_accepted"],
        watermark=marks,
    )


async def topic_generations(connection: Connection) -> list[TopicGeneration]:
    """Return every topic that has borne the name, oldest first. Raises `UnavailableError`."""
    async with mapped_failures("read usage topics"):
        return [TopicGeneration(**dict(row)) for row in await connection.fetch(ALL)]


async def accept_topic(connection: Connection, reason: str, now: datetime) -> list[int]:
    """Accept every topic that waits for it and return their generations. Raises `UnavailableError`."""
    async with mapped_failures("accept usage topic"):
        return sorted(row["generation"] for row in await connection.fetch(ACCEPT, now, reason))
