"""The log of public requests: each (`source`, `id`) once, for as long as the data lives."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

from shared.contracts.identifiers import CommandId
from shared.contracts.topics import LICENSE_EVENTS
from shared.database.lane import Lane
from shared.database.pool import COMMAND_SECONDS, CONNECT_SECONDS, OwnConnection
from shared.domain.intake import KnownRequest, NewRequest

KNOWN_ACCOUNTS: Final[LiteralString] = "SELECT name FROM account WHERE name = ANY($1::text[])"

REMEMBER: Final[LiteralString] = """
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::uuid[], $7::uuid[],
        $8::text[], $9::bytea[])
        AS t (source, request_id, type, license_id, content_sha256, command_id, event_id, event_type, event)
), remembered AS (
    INSERT INTO intake_request
        (source, request_id, type, license_id, content_sha256, command_id, first_seen_at, handed_over_at)
    SELECT source, request_id, type, license_id, content_sha256, command_id, $10::timestamptz,
        CASE WHEN event_id IS NOT NULL THEN $10::timestamptz END
    FROM asked
    ON CONFLICT DO NOTHING
    RETURNING source, request_id
)
INSERT INTO outbox (event_id, topic, key, license_id, command_id, type, value, created_at)
SELECT a.event_id, $11::text, a.license_id, a.license_id, a.command_id, a.event_type, a.event, $10::timestamptz
FROM asked AS a JOIN remembered AS r ON r.source = a.source AND r.request_id = a.request_id
WHERE a.event_id IS NOT NULL
"""
"""New requests, with the answers of those that need no command: only a row that is new brings its answer."""

RECALL: Final[LiteralString] = """
SELECT r.source, r.request_id, r.command_id, r.content_sha256, r.handed_over_at IS NOT NULL AS is_handed_over
FROM unnest($1::text[], $2::text[]) AS k (source, request_id)
JOIN intake_request AS r ON r.source = k.source AND r.request_id = k.request_id
"""

HAND_OVER: Final[LiteralString] = """
UPDATE intake_request AS r SET handed_over_at = $3::timestamptz
FROM unnest($1::text[], $2::text[]) AS k (source, request_id)
WHERE r.source = k.source AND r.request_id = k.request_id AND r.handed_over_at IS NULL
"""


class PostgresIntakeRequests:
    """The request log on a connection of its own: one per worker process."""

    def __init__(
        self, database_url: str, *, connect_seconds: float = CONNECT_SECONDS, command_seconds: float = COMMAND_SECONDS
    ) -> None:
        self._lane = Lane(database_url, connect_seconds=connect_seconds, command_seconds=command_seconds)

    async def known_accounts(self, names: Collection[str]) -> frozenset[str]:
        """Return those of `names` that are accounts, disabled ones too."""
        asked = list(names)
        rows = await self._lane.run("known_accounts", lambda connection: connection.fetch(KNOWN_ACCOUNTS, asked))
        return frozenset(row["name"] for row in rows)

    async def remember(self, requests: Sequence[NewRequest], at: datetime) -> Mapping[tuple[str, str], KnownRequest]:
        """Remember the requests that are new, and return what is remembered of each, by its key.

        Raises `StoreRefusedError` for a value that cannot be stored and `UnavailableError`.
        """
        ordered = sorted(requests, key=lambda each: each.request.key)  # two workers lock in the same order
        sources = [each.request.reference.source for each in ordered]
        ids = [each.request.reference.id for each in ordered]
        columns = (
            [each.request.reference.type.value for each in ordered],
            [each.request.license_id for each in ordered],
            [each.request.content_sha256 for each in ordered],
            [each.command_id for each in ordered],
            [None if each.answer is None else each.answer.event_id for each in ordered],
            [None if each.answer is None else each.answer.type for each in ordered],
            [None if each.answer is None else each.answer.value for each in ordered],
        )

        async def remember_and_recall(connection: OwnConnection) -> Mapping[tuple[str, str], KnownRequest]:
            await connection.execute(REMEMBER, sources, ids, *columns, at, LICENSE_EVENTS)
            rows = await connection.fetch(RECALL, sources, ids)
            return {
                (row["source"], row["request_id"]): KnownRequest(
                    command_id=CommandId(UUID(int=row["command_id"].int)),
                    content_sha256=row["content_sha256"],
                    is_handed_over=row["is_handed_over"],
                )
                for row in rows
            }

        return await self._lane.run("remember requests", remember_and_recall)

    async def hand_over(self, keys: Collection[tuple[str, str]], at: datetime) -> None:
        """Note that the commands of these requests stand on the topic. Raises `UnavailableError`."""
        ordered = sorted(keys)
        sources, ids = [source for source, _ in ordered], [request_id for _, request_id in ordered]
        await self._lane.run("hand over", lambda connection: connection.execute(HAND_OVER, sources, ids, at))

    async def ping(self) -> None:
        """Ask for a sign of life, in turn with the batches. Raises `UnavailableError`."""
        await self._lane.run("ping", lambda connection: connection.execute("SELECT 1"))

    async def close(self) -> None:
        """Give the connection back; the log opens another when it is used again."""
        await self._lane.close()
