"""Settlement months in PostgreSQL: closing, disputing, settling, and their figures.

A month is closed in one transaction that excludes the taking in of events: the lines, the state and the public event
stand together. Only events that are neither of a test license nor not for resale are ever looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final, LiteralString

import asyncpg

from shared.contracts.codec import encode_usage_closed
from shared.contracts.envelope import new_id
from shared.contracts.events import ClosedCounter, EventType, UsageClosedData, UsageClosedEvent
from shared.contracts.topics import LICENSE_EVENTS
from shared.database.failures import mapped_failures
from shared.database.pool import OwnConnection
from shared.database.usage_store import SETTLEMENT_LOCK
from shared.domain.catalog import CounterKind
from shared.domain.settlement import SettlementState, months_to_close
from shared.domain.usage import EXACT, rounded_up

ACCOUNTS: Final[LiteralString] = """
SELECT e.account_id, e.product, min((date_trunc('month', e.at AT TIME ZONE 'UTC'))::date) AS first_month,
    (SELECT max(s.month) FROM usage_settlement s WHERE s.account_id = e.account_id AND s.product = e.product)
        AS closed_through
FROM usage_event e
WHERE NOT e.test AND NOT e.nfr AND ($1::text IS NULL OR e.account_id = $1) AND ($2::text IS NULL OR e.product = $2)
GROUP BY e.account_id, e.product ORDER BY e.account_id, e.product
"""

CLOSE: Final[LiteralString] = """
INSERT INTO usage_settlement (account_id, product, month, state, closed_at) VALUES ($1, $2, $3, 'closed', $4)
"""

FIGURES: Final[LiteralString] = """
WITH own AS (
    SELECT license_id, counter, kind, value, at, event_id, source,
        (date_trunc('month', at AT TIME ZONE 'UTC'))::date AS own_month
    FROM usage_event
    WHERE account_id = $1 AND product = $2 AND month = $3 AND NOT test AND NOT nfr
), levels AS (
    SELECT DISTINCT ON (license_id, counter, at) license_id, counter, own_month, value
    FROM own WHERE kind = 'level'
    ORDER BY license_id, counter, at, event_id DESC, source DESC
), carried AS (
    SELECT l.license_id, t.counter, before.value
    FROM license l
    JOIN usage_total t ON t.license_id = l.license_id AND t.kind = 'level'
    CROSS JOIN LATERAL (
        SELECT e.value, e.product FROM usage_event e
        WHERE e.license_id = l.license_id AND e.counter = t.counter AND e.kind = 'level'
            AND e.at < $3::date::timestamp AT TIME ZONE 'UTC'
        ORDER BY e.at DESC, e.event_id DESC, e.source DESC LIMIT 1
    ) AS before
    WHERE l.account_id = $1 AND l.product = $2 AND before.product = $2 AND NOT l.test
        AND (l.terminated_at IS NULL OR l.terminated_at >= $3::date::timestamp AT TIME ZONE 'UTC')
), figures AS (
    SELECT license_id, counter, own_month AS for_month, 'increment' AS kind, sum(value) AS value, count(*) AS events
    FROM own WHERE kind = 'increment' GROUP BY license_id, counter, own_month
    UNION ALL
    SELECT license_id, counter, for_month, 'level', max(value), sum(events)::bigint
    FROM (
        SELECT license_id, counter, own_month AS for_month, value, 1 AS events FROM levels
        UNION ALL
        SELECT license_id, counter, $3::date, value, 0 FROM carried
    ) AS each GROUP BY license_id, counter, for_month
)
SELECT f.license_id, f.counter, f.for_month, f.kind, f.events,
    CASE WHEN f.kind = 'level' AND f.for_month < $3 THEN greatest(0, f.value - coalesce(settled.value, 0))
        ELSE f.value END AS value
FROM figures f
LEFT JOIN LATERAL (
    SELECT sum(s.value) AS value FROM usage_settlement_line s
    WHERE s.account_id = $1 AND s.product = $2 AND s.for_month = f.for_month AND s.license_id = f.license_id
        AND s.counter = f.counter
) AS settled ON true
ORDER BY f.license_id, f.counter, f.for_month
"""
"""The figures of month `$3` as of now: an open month's so far, or those to be written when it is closed.

A level counts with the highest value in force at any time of the month, the one carried into it included; an increment
with its sum. What came for a month that was closed before is an adjustment: the increment, or by how much the level is
above what was settled for that month.
"""

KEEP: Final[LiteralString] = """
INSERT INTO usage_settlement_line (account_id, product, month, license_id, counter, for_month, kind, value, events)
SELECT $1, $2, $3, * FROM unnest($4::text[], $5::text[], $6::date[], $7::text[], $8::numeric[], $9::bigint[])
"""

TELL: Final[LiteralString] = """
INSERT INTO outbox (event_id, topic, key, license_id, command_id, type, value, created_at)
VALUES ($1, $2, $3, $3, $1, $4, $5, $6)
"""

MONTHS: Final[LiteralString] = """
SELECT account_id, product, month, state, closed_at, disputed_at, settled_at, reason
FROM usage_settlement
WHERE ($1::text IS NULL OR account_id = $1) AND ($2::text IS NULL OR product = $2) AND ($3::date IS NULL OR month = $3)
ORDER BY month, account_id, product
"""

LINES: Final[LiteralString] = """
SELECT license_id, counter, for_month, kind, value, events FROM usage_settlement_line
WHERE account_id = $1 AND product = $2 AND month = $3 ORDER BY license_id, counter, for_month
"""

MOVE: Final[LiteralString] = """
UPDATE usage_settlement SET state = $4, reason = CASE WHEN $5 = '' THEN reason ELSE $5 END,
    disputed_at = CASE WHEN $4 = 'disputed' THEN $6 ELSE disputed_at END,
    settled_at = CASE WHEN $4 = 'settled' THEN $6 ELSE settled_at END
WHERE account_id = $1 AND product = $2 AND month = $3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledMonth:
    """One month of an account and product."""

    account: str
    product: str
    month: date
    state: SettlementState
    closed_at: datetime | None = None
    disputed_at: datetime | None = None
    settled_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementLine:
    """The figure of one license and counter in a month."""

    license_id: str
    counter: str
    for_month: date
    """The month itself, or an earlier one for an adjustment."""
    kind: CounterKind
    value: Decimal
    events: int

    @property
    def units(self) -> int:
        """The whole number that is settled."""
        return rounded_up(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccount:
    """An account and product with usage, and how far it is closed."""

    account: str
    product: str
    first_month: date
    closed_through: date | None


class UsageSettlements:
    """Settlement on one connection; every method raises `UnavailableError` when the database does not answer."""

    def __init__(self, connection: OwnConnection) -> None:
        self._connection = connection

    async def accounts(self, account: str | None, product: str | None) -> Sequence[OpenAccount]:
        """Return every account and product with usage to be settled; None names all."""
        async with mapped_failures("look for usage to settle"):
            rows = await self._connection.fetch(ACCOUNTS, account, product)
        return [
            OpenAccount(
                account=row["account_id"],
                product=row["product"],
                first_month=row["first_month"],
                closed_through=row["closed_through"],
            )
            for row in rows
        ]

    async def close(
        self, opened: OpenAccount, last: date, *, business_now: datetime, system_now: datetime
    ) -> list[date]:
        """Close every open month up to `last`, in order, and return them; none when all are closed already."""
        async with mapped_failures("close settlement months"), self._connection.transaction():
            await self._connection.execute("SELECT pg_advisory_xact_lock($1)", SETTLEMENT_LOCK)
            rows = await self._connection.fetch(ACCOUNTS, opened.account, opened.product)
            if not rows:
                return []
            months = list(months_to_close(rows[0]["first_month"], last, rows[0]["closed_through"]))
            for month in months:
                await self._close_one(opened, month, business_now, system_now)
        return months

    async def _close_one(self, opened: OpenAccount, month: date, business_now: datetime, system_now: datetime) -> None:
        which = (opened.account, opened.product, month)
        lines = await self._figures(*which)
        await self._connection.execute(CLOSE, *which, business_now)
        await self._connection.execute(
            KEEP,
            *which,
            [line.license_id for line in lines],
            [line.counter for line in lines],
            [line.for_month for line in lines],
            [line.kind.value for line in lines],
            [line.value for line in lines],
            [line.events for line in lines],
        )
        event = closed_event(opened, month, lines, business_now)
        await self._connection.execute(
            TELL,
            event.event_id,
            LICENSE_EVENTS,
            event.subject,
            EventType.USAGE_CLOSED,
            encode_usage_closed(event),
            system_now,
        )

    async def _figures(self, account: str, product: str, month: date) -> list[SettlementLine]:
        return [_line(row) for row in await self._connection.fetch(FIGURES, account, product, month)]

    async def months(self, account: str | None, product: str | None, month: date | None) -> Sequence[SettledMonth]:
        """Return the months that are no longer open; None names all."""
        async with mapped_failures("read settlement months"):
            rows = await self._connection.fetch(MONTHS, account, product, month)
        return [
            SettledMonth(
                account=row["account_id"],
                product=row["product"],
                month=row["month"],
                state=SettlementState(row["state"]),
                closed_at=row["closed_at"],
                disputed_at=row["disputed_at"],
                settled_at=row["settled_at"],
                reason=row["reason"],
            )
            for row in rows
        ]

    async def lines(self, month: SettledMonth) -> Sequence[SettlementLine]:
        """Return the figures of a month: as written when it was closed, or as they are so far."""
        async with mapped_failures("read settlement lines"):
            if month.state is SettlementState.OPEN:
                return await self._figures(month.account, month.product, month.month)
            rows = await self._connection.fetch(LINES, month.account, month.product, month.month)
        return [_line(row) for row in rows]

    async def move(self, month: SettledMonth, target: SettlementState, *, reason: str, business_now: datetime) -> None:
        """Move a month that is no longer open to `target`, which `may_become` allows."""
        async with mapped_failures("move settlement month"):
            await self._connection.execute(
                MOVE, month.account, month.product, month.month, target.value, reason, business_now
            )


def _line(row: asyncpg.Record) -> SettlementLine:
    return SettlementLine(
        license_id=row["license_id"],
        counter=row["counter"],
        for_month=row["for_month"],
        kind=CounterKind(row["kind"]),
        value=row["value"],
        events=row["events"],
    )


def closed_event(
    opened: OpenAccount, month: date, lines: Sequence[SettlementLine], business_now: datetime
) -> UsageClosedEvent:
    """Return the public event that tells of a closed month."""
    names = sorted({(line.counter, line.kind) for line in lines})
    return UsageClosedEvent(
        event_id=new_id(),
        time=business_now,
        data=UsageClosedData(
            account=opened.account,
            product=opened.product,
            month=f"{month:%Y-%m}",
            counters=tuple(_closed_counter(name, kind, month, lines) for name, kind in names),
        ),
    )


def _closed_counter(name: str, kind: CounterKind, month: date, lines: Sequence[SettlementLine]) -> ClosedCounter:
    own = [line for line in lines if line.counter == name and line.kind is kind]
    regular = [line for line in own if line.for_month == month]
    return ClosedCounter(
        counter=name,
        kind=kind.value,
        value=_sum(regular),
        units=sum(line.units for line in own),
        licenses=len({line.license_id for line in own}),
        adjustment=_sum([line for line in own if line.for_month != month]),
    )


def _sum(lines: Sequence[SettlementLine]) -> str:
    total = Decimal(0)
    for line in lines:
        total = EXACT.add(total, line.value)
    return f"{total:f}"
