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
    NULL::bigint AS next_offset
FROM usage_total WHERE license_id = ANY($1::text[])
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, partition, next_offset FROM usage_watermark
"""
"""Counters and watermarks in one statement, so as of one moment."""

WRITE_REPORT: Final[LiteralString] = """
INSERT INTO usage_report (command_id, license_id, reported_at, figures, kinds, watermark)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::jsonb[], $5::jsonb[])
    AS told (command_id, license_id, reported_at, figures, kinds)
CROSS JOIN (SELECT $6::bigint[]) AS read (watermark)
"""


async def read_usage(connection: Connection, license_ids: Sequence[LicenseId]) -> Mapping[LicenseId, UsageOnFile]:
    """Return what is stored about the usage of every one of the licenses, all as of one moment."""
    totals: dict[LicenseId, dict[tuple[str, CounterKind], CounterTotal]] = {each: {} for each in license_ids}
    marks: dict[int, int] = {}
    for row in await connection.fetch(READ_USAGE, license_ids):
        if row["partition"] is not None:
            marks[row["partition"]] = row["next_offset"]
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
    return {license_id: UsageOnFile(totals=found, watermark=watermark) for license_id, found in totals.items()}


async def write_usage_reports(connection: OwnConnection, effects: Sequence[CommandEffect]) -> None:
    """Write the reports that were told, inside the caller's transaction."""
    for watermark in {effect.usage.told.watermark for effect in effects if effect.usage is not None}:
        reports = [(each, each.usage) for each in effects if each.usage and each.usage.told.watermark == watermark]
        await connection.execute(
            WRITE_REPORT,
            [effect.command_id for effect, _ in reports],
            [effect.license_id for effect, _ in reports],
            [report.reported_at for _, report in reports],
            [orjson.dumps(dict(report.told.figures)).decode() for _, report in reports],
            [orjson.dumps(dict(report.told.kinds)).decode() for _, report in reports],
            list(watermark),
        )
