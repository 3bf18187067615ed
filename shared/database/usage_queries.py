"""Usage as people look at it: the counters of a license, its days, and the reports told, checked against raw events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final, LiteralString
from uuid import UUID

import orjson

from shared.contracts.identifiers import LicenseId
from shared.database.failures import mapped_failures
from shared.database.pool import Connection
from shared.database.usage_reports import read_usage
from shared.domain.catalog import CounterKind
from shared.domain.usage import CounterTotal, StoredUsage, UsageOnFile, recomputed

REPORTS_MAX = 50
DAYS_MAX = 62

RAW: Final[LiteralString] = """
SELECT counter, kind, value, at, event_id, source, partition, record_offset, generation
FROM usage_event WHERE license_id = $1
"""
REPORTS: Final[LiteralString] = """
SELECT command_id, reported_at, figures, kinds, watermark, generation FROM usage_report
WHERE license_id = $1 ORDER BY reported_at DESC, command_id DESC LIMIT $2
"""
DAYS: Final[LiteralString] = """
SELECT * FROM (
    SELECT counter, kind, (at AT TIME ZONE 'UTC')::date AS day,
        CASE kind WHEN 'level' THEN max(value) ELSE sum(value) END AS value
    FROM usage_event WHERE license_id = $1 GROUP BY counter, kind, day ORDER BY day DESC LIMIT $2
) AS latest ORDER BY counter, kind, day
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedReport:
    """One report as it was told, and what the raw events before its watermark give."""

    command_id: UUID
    reported_at: datetime
    figures: Mapping[str, int]
    recomputed: Mapping[str, int]

    @property
    def agrees(self) -> bool:
        """Whether the figures come out again."""
        return dict(self.figures) == dict(self.recomputed)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDay:
    """One day of a counter: its highest level, or its sum."""

    counter: str
    kind: CounterKind
    day: date
    value: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseUsage:
    """Everything on record about the usage of one license."""

    on_file: UsageOnFile
    days: Sequence[UsageDay]
    """The latest, rising, by counter."""
    reports: Sequence[CheckedReport]
    """The latest, falling."""


async def license_usage(connection: Connection, license_id: LicenseId) -> LicenseUsage:
    """Return what is on record about the usage of a license. Raises `UnavailableError`."""
    async with mapped_failures("read usage"):
        on_file = (await read_usage(connection, [license_id]))[license_id]
        days = await connection.fetch(DAYS, license_id, DAYS_MAX * 8)
        told = await connection.fetch(REPORTS, license_id, REPORTS_MAX)
        raw = await connection.fetch(RAW, license_id) if told else []
    events = [
        StoredUsage(
            counter=row["counter"],
            total=CounterTotal(
                kind=CounterKind(row["kind"]),
                value=row["value"],
                at=row["at"],
                event_id=row["event_id"],
                source=row["source"],
            ),
            partition=row["partition"],
            offset=row["record_offset"],
            generation=row["generation"],
        )
        for row in raw
    ]
    return LicenseUsage(
        on_file=on_file,
        days=[
            UsageDay(counter=row["counter"], kind=CounterKind(row["kind"]), day=row["day"], value=row["value"])
            for row in days
        ],
        reports=[
            CheckedReport(
                command_id=row["command_id"],
                reported_at=row["reported_at"],
                figures=orjson.loads(row["figures"]),
                recomputed=recomputed(
                    events,
                    {name: CounterKind(kind) for name, kind in orjson.loads(row["kinds"]).items()},
                    row["watermark"],
                    row["generation"],
                ),
            )
            for row in told
        ],
    )
