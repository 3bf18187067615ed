"""Usage as the license worker sees it: counters with how far the topic is read, and the reports that were told."""

from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

import orjson

from shared.contracts.identifiers import LicenseId
from shared.database.pool import Connection, OwnConnection
from shared.domain.catalog import CounterKind
from shared.domain.effects import CommandEffect
from shared.domain.usage import CounterTotal, UsageOnFile, dense

READ_USAGE: Final[LiteralString] = """
SELECT license_id, counter, kind, value, at, event_id, source, events, NULL::integer AS partition,
    NULL::bigint AS next_offset, NULL::integer AS generation, NULL::boolean AS is_accepted
FROM usage_total WHERE license_id = ANY($1::text[])
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, partition, next_offset, NULL, NULL FROM usage_watermark
UNION ALL
(SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, generation, accepted_at IS NOT NULL
FROM usage_topic ORDER BY generation DESC LIMIT 1)
"""
"""Counters, watermarks and the topic they belong to in one statement, so as of one moment."""

WRITE_REPORT: Final[LiteralString] = """
INSERT INTO usage_report (command_id, license_id, reported_at, figures, kinds, watermark, generation)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::jsonb[], $5::jsonb[])
    AS told (command_id, license_id, reported_at, figures, kinds)
CROSS JOIN (SELECT $6::bigint[], $7::integer) AS read (watermark, generation)
"""


async def read_usage(connection: Connection, license_ids: Sequence[LicenseId]) -> Mapping[LicenseId, UsageOnFile]:
    """Return what is stored about the usage of every one of the licenses, all as of one moment."""
    totals: dict[LicenseId, dict[tuple[str, CounterKind], CounterTotal]] = {each: {} for each in license_ids}
    marks: dict[int, int] = {}
    generation, is_accepted = 1, True
    for row in await connection.fetch(READ_USAGE, license_ids):
        if row["partition"] is not None:
            marks[row["partition"]] = row["next_offset"]
            continue
        if row["generation"] is not None:
            generation, is_accepted = row["generation"], row["is_accepted"]
            continue
        kind = CounterKind(row["kind"])
        totals[LicenseId(row["license_id"])][row["counter"], kind] = CounterTotal(
            kind=kind,
            value=row["value"],
            at=row["at"],
            event_id=row["event_id"],
            source=row["source"],
            events=row["events"],
        )
    watermark = dense(marks)
    return {
        license_id: UsageOnFile(totals=found, watermark=watermark, generation=generation, is_accepted=is_accepted)
        for license_id, found in totals.items()
    }


async def write_usage_reports(connection: OwnConnection, effects: Sequence[CommandEffect]) -> None:
    """Write the reports that were told, inside the caller's transaction."""
    told = [
        (each, each.usage, (each.usage.told.watermark, each.usage.told.generation)) for each in effects if each.usage
    ]
    for read_to in {read_to for _, _, read_to in told}:
        watermark, generation = read_to
        reports = [(effect, usage) for effect, usage, other in told if other == read_to]
        await connection.execute(
            WRITE_REPORT,
            [effect.command_id for effect, _ in reports],
            [effect.license_id for effect, _ in reports],
            [report.reported_at for _, report in reports],
            [orjson.dumps(dict(report.told.figures)).decode() for _, report in reports],
            [orjson.dumps(dict(report.told.kinds)).decode() for _, report in reports],
            list(watermark),
            generation,
        )
