"""Usage events in PostgreSQL: one statement reads what a batch must know, one transaction takes it in.

The primary key of `usage_event` is the promise that a duplicate changes nothing: an event that somebody else took in
meanwhile breaks it, the transaction ends as a conflict, and the batch is judged again. Closing a settlement month and
taking events in exclude each other by an advisory lock, so that no event slips into a month while it is closed.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, LiteralString

from shared.contracts.identifiers import LicenseId
from shared.contracts.usage import UsageKey
from shared.database.lane import Lane
from shared.database.pool import COMMAND_SECONDS, CONNECT_SECONDS, Connection, OwnConnection
from shared.domain.catalog import CounterKind
from shared.domain.usage import CounterTotal, UsageHolder, fold
from shared.domain.usage_batch import TakenUsage, UsageLoaded
from shared.errors import ConflictError, UnavailableError

SETTLEMENT_LOCK: Final = 0x7573_6167_65  # "usage"
"""Advisory lock: shared while events are taken in, exclusive while months are closed or another topic is begun."""
FIRST_GENERATION: Final = 1

READ: Final[LiteralString] = """
SELECT e.source, e.event_id, e.content_sha256, NULL AS license_id, NULL AS account_id, NULL AS product,
    NULL::boolean AS test, NULL::integer AS revision, NULL::timestamptz AS terminated_at, NULL::date AS closed_through
FROM unnest($1::text[], $2::text[]) AS asked (source, event_id)
JOIN usage_event e ON e.source = asked.source AND e.event_id = asked.event_id
UNION ALL
SELECT NULL, NULL, NULL, l.license_id, l.account_id, l.product, l.test, l.revision, l.terminated_at,
    (SELECT max(s.month) FROM usage_settlement s WHERE s.account_id = l.account_id AND s.product = l.product)
FROM license l WHERE l.license_id = ANY($3::text[])
"""

HOLD: Final[LiteralString] = "SELECT pg_advisory_xact_lock_shared($1)"

MOVED_ON: Final[LiteralString] = """
SELECT EXISTS (
    SELECT FROM unnest($1::text[], $2::text[], $3::date[]) AS counted (account_id, product, month)
    JOIN usage_settlement s
        ON s.account_id = counted.account_id AND s.product = counted.product AND s.month >= counted.month
) AS month_closed, (SELECT max(generation) FROM usage_topic) AS generation
"""

WRITE: Final[LiteralString] = """
WITH taken AS (
    INSERT INTO usage_event (source, event_id, license_id, account_id, product, test, counter, kind, value, at, month,
        content_sha256, partition, record_offset, received_at, generation)
    SELECT *, $26::integer
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[],
        $8::text[], $9::numeric[], $10::timestamptz[], $11::date[], $12::bytea[], $13::integer[], $14::bigint[],
        $15::timestamptz[])
), folded AS (
    INSERT INTO usage_total AS t (license_id, counter, kind, value, at, event_id, source, events)
    SELECT * FROM unnest($16::text[], $17::text[], $18::text[], $19::numeric[], $20::timestamptz[], $21::text[],
        $22::text[], $23::bigint[])
    ON CONFLICT (license_id, counter, kind) DO UPDATE SET
        value = CASE
            WHEN t.kind = 'increment' THEN t.value + excluded.value
            WHEN (excluded.at, excluded.event_id, excluded.source) > (t.at, t.event_id, t.source) THEN excluded.value
            ELSE t.value
        END,
        (at, event_id, source) = (
            SELECT each.at, each.event_id, each.source
            FROM (VALUES (t.at, t.event_id, t.source), (excluded.at, excluded.event_id, excluded.source))
                AS each (at, event_id, source)
            ORDER BY each.at DESC, each.event_id DESC, each.source DESC LIMIT 1
        ),
        events = t.events + excluded.events
)
INSERT INTO usage_watermark AS w (partition, next_offset)
SELECT * FROM unnest($24::integer[], $25::bigint[])
ON CONFLICT (partition) DO UPDATE SET next_offset = greatest(w.next_offset, excluded.next_offset)
"""
"""Events, their fold and the watermark together. Rows come sorted, so that two workers lock in the same order."""


class PostgresUsageStore:
    """The usage store on a connection of its own: one per worker process."""

    def __init__(
        self,
        database_url: str,
        *,
        generation: int = FIRST_GENERATION,
        connect_seconds: float = CONNECT_SECONDS,
        command_seconds: float = COMMAND_SECONDS,
    ) -> None:
        """`generation` says which topic the events come from (`usage_topic`)."""
        self._generation = generation
        self._lane = Lane(database_url, connect_seconds=connect_seconds, command_seconds=command_seconds)

    async def load(self, keys: Collection[UsageKey], license_ids: Collection[LicenseId]) -> UsageLoaded:
        """Return which events are known and who holds the licenses, in one round trip. Raises `UnavailableError`."""
        sources, ids = [key.source for key in keys], [key.event_id for key in keys]
        asked = list(license_ids)
        rows = await self._lane.run("load usage", lambda connection: connection.fetch(READ, sources, ids, asked))
        known: dict[UsageKey, bytes] = {}
        holders: dict[LicenseId, UsageHolder] = {}
        for row in rows:
            if row["license_id"] is None:
                known[UsageKey(row["source"], row["event_id"])] = row["content_sha256"]
                continue
            holders[LicenseId(row["license_id"])] = UsageHolder(
                account=row["account_id"],
                product=row["product"],
                test=row["test"],
                was_issued=row["revision"] > 0,
                terminated_at=row["terminated_at"],
                closed_through=row["closed_through"],
            )
        return UsageLoaded(known, holders)

    async def take(self, events: Sequence[TakenUsage], marks: Mapping[int, int], *, received_at: datetime) -> None:
        """Take `events` in, add them up, and move the watermark of each partition to `marks`, all in one transaction.

        Raises `ConflictError` when an event is known or its month is closed meanwhile, `StoreRefusedError` when a
        value cannot be stored; then nothing was stored. After `UnavailableError` that is not known; it is also raised
        when the topic was made anew, and then for good: the process must begin again with the new one.
        """
        columns = (*_event_columns(events, received_at), *_total_columns(events), *_mark_columns(marks))
        arguments = (*columns, self._generation)

        async def write(connection: OwnConnection) -> None:
            async with connection.transaction():
                await self._hold(connection, events)
                await connection.execute(WRITE, *arguments)

        await self._lane.run("take usage", write)

    async def _hold(self, connection: Connection, events: Sequence[TakenUsage]) -> None:
        """Keep months and topic as they are until the transaction ends; refuse when they moved on since the reading."""
        await connection.execute(HOLD, SETTLEMENT_LOCK)
        months = {(each.counted.event.account, each.counted.product, each.counted.month) for each in events}
        columns = [list(column) for column in zip(*sorted(months), strict=True)] or [[], [], []]
        found = await connection.fetchrow(MOVED_ON, *columns)
        if found is not None and (found["generation"] or FIRST_GENERATION) != self._generation:
            raise UnavailableError(
                f"usage.reported was made anew: this worker still reads generation {self._generation}"
            )
        if found is not None and found["month_closed"]:
            raise ConflictError("a settlement month was closed since it was read")

    async def ping(self) -> None:
        """Ask for a sign of life, in turn with the batches. Raises `UnavailableError`."""
        await self._lane.run("ping", lambda connection: connection.execute("SELECT 1"))

    async def close(self) -> None:
        """Give the connection back; the store opens another when it is used again."""
        await self._lane.close()


def _event_columns(events: Sequence[TakenUsage], received_at: datetime) -> tuple[list[object], ...]:
    ordered = sorted(events, key=lambda each: each.counted.event.key)
    counted = [each.counted for each in ordered]
    reported = [each.event for each in counted]
    return (
        [event.key.source for event in reported],
        [event.key.event_id for event in reported],
        [event.license_id for event in reported],
        [event.account for event in reported],
        [each.product for each in counted],
        [each.test for each in counted],
        [event.counter for event in reported],
        [each.kind.value for each in counted],
        [event.value for event in reported],
        [event.at for event in reported],
        [each.month for each in counted],
        [each.content_sha256 for each in ordered],
        [each.partition for each in ordered],
        [each.offset for each in ordered],
        [received_at for _ in ordered],
    )


def _total_columns(events: Sequence[TakenUsage]) -> tuple[list[object], ...]:
    totals: list[tuple[tuple[LicenseId, str, CounterKind], CounterTotal]] = sorted(
        fold(each.counted for each in events).items(), key=lambda item: item[0]
    )
    return (
        [license_id for (license_id, _, _), _ in totals],
        [counter for (_, counter, _), _ in totals],
        [kind.value for (_, _, kind), _ in totals],
        [total.value for _, total in totals],
        [total.at for _, total in totals],
        [total.event_id for _, total in totals],
        [total.source for _, total in totals],
        [total.events for _, total in totals],
    )


def _mark_columns(marks: Mapping[int, int]) -> tuple[list[object], ...]:
    ordered = sorted(marks.items())
    return [partition for partition, _ in ordered], [offset for _, offset in ordered]
