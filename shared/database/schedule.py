"""What only time brings, as the database shows it: licenses whose last day is over, services to release, old results
and names.

Read and forgotten by the one active scheduler; nothing here changes a license: commands do.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Final, LiteralString

from shared.contracts.identifiers import LicenseId
from shared.database.leadership import LedConnection
from shared.database.pool import OwnConnection

SCHEDULER: Final = "scheduler"
"""Name of the role's advisory lock."""
DAY_TABLE: Final = re.compile(r"command_result_(\d{8})")

LAPSING: Final[LiteralString] = """
SELECT license_id FROM license WHERE status = 'active' AND expires_on <= $1 ORDER BY expires_on LIMIT $2
"""
ENDING: Final[LiteralString] = """
SELECT l.license_id FROM license AS l
JOIN unnest($1::text[], $2::timestamptz[]) AS c (sku, before) ON l.service ->> 'sku' = c.sku
WHERE l.status = 'terminated' AND l.service IS NOT NULL AND l.terminated_at <= c.before AND NOT EXISTS (
    SELECT FROM provider_order AS o WHERE o.license_id = l.license_id AND o.kind = 'end'
    AND o.operation -> 'of' ->> 'elid' = l.service ->> 'elid'
    AND o.provider_account = coalesce(l.service ->> 'account', o.provider_account))
LIMIT $3
"""
"""A service with an order to release it is not asked for again, whatever became of that: a refusal is for people.
A service of another account may have the same id."""
FORGET: Final[LiteralString] = """
WITH forgotten AS (
    DELETE FROM named_request WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM named_request WHERE handled_at < $1 ORDER BY handled_at LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING 1
)
SELECT count(*) FROM forgotten
"""
"""`SKIP LOCKED`: a name that is being taken again at this moment is somebody's, and waited for by nobody."""
DAYS: Final[LiteralString] = """
SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'command_result'::regclass
"""


class PostgresSchedule:
    """What is due, for the active scheduler. Every method may raise `UnavailableError`."""

    def __init__(self, database_url: str) -> None:
        self._led = LedConnection(database_url, SCHEDULER)

    async def lead(self) -> bool:
        """Become the active scheduler, or learn that another one is."""
        return await self._led.lead()

    async def lapsing(self, last_day: date, limit: int) -> list[LicenseId]:
        """Return active licenses whose last day is `last_day` or before, the longest over first."""
        rows = await self._led.run("read lapsing", lambda connection: connection.fetch(LAPSING, last_day, limit))
        return [LicenseId(row["license_id"]) for row in rows]

    async def ending(self, terminated_before: Mapping[str, datetime], limit: int) -> list[LicenseId]:
        """Return terminated licenses that still hold a service, by the SKU of the service; none under way already."""
        skus, moments = list(terminated_before), list(terminated_before.values())
        rows = await self._led.run("read ending", lambda connection: connection.fetch(ENDING, skus, moments, limit))
        return [LicenseId(row["license_id"]) for row in rows]

    async def forget_results(self, before: date) -> list[str]:
        """Drop the day partitions of command results before that day (UTC); return their names."""

        async def drop(connection: OwnConnection) -> list[str]:
            names = [row["relname"] for row in await connection.fetch(DAYS)]
            old = [name for name in sorted(names) if _is_before(name, before)]
            for name in old:
                await connection.execute(f'DROP TABLE "{name}"')
            return old

        return await self._led.run("forget command results", drop)

    async def forget_names(self, before: datetime, limit: int) -> int:
        """Forget at most `limit` named requests that were answered before that moment, the oldest first."""
        return int(
            await self._led.run("forget named requests", lambda connection: connection.fetchval(FORGET, before, limit))
        )

    async def close(self) -> None:
        """Let another scheduler lead."""
        await self._led.close()


def _is_before(table: str, day: date) -> bool:
    """Whether the table holds the results of one day, and that day is over before `day`."""
    found = DAY_TABLE.fullmatch(table)
    return found is not None and found[1] <= (day - timedelta(days=1)).strftime("%Y%m%d")
