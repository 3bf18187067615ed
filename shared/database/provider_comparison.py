"""Our side of a comparison with a provider account: only what is compared, read in pages.

Not the orders as they are stored: per service one row, with what its orders added up to, and the orders that are not
settled. So a sweep stays as large as what is held, however many renewals there have been, and no page holds up the
worker that carries orders beside it.
"""

from collections.abc import Callable, Sequence
from typing import Final, LiteralString, TypeVar
from uuid import UUID

import asyncpg

from shared.database.catalogs import PostgresCatalogs
from shared.database.pool import Pool, borrowed
from shared.database.provider_rows import plain
from shared.database.provider_writes import decode_service
from shared.domain.drift import Holding, MadeService, OpenOrder, OurSide
from shared.domain.provider_operation import Elid, marker_of
from shared.domain.provider_order import OrderState
from shared.domain.provider_record import markers_of
from shared.domain.provisioning import StepKind

PAGE_ROWS: Final = 1000

HELD: Final[LiteralString] = """
SELECT l.license_id, l.service::text AS service FROM license l
WHERE l.service IS NOT NULL AND l.license_id > $2
    AND coalesce(l.service ->> 'account', (
        SELECT o.provider_account FROM provider_order o WHERE o.license_id = l.license_id AND o.kind = 'order'
            AND o.state = 'confirmed' AND o.elid = (l.service ->> 'elid')::bigint
        ORDER BY o.decided_at DESC LIMIT 1), $1) = $1
ORDER BY l.license_id LIMIT $3
"""
"""A service belongs to the account that it names, else to that of the order that made it; else it shows in all."""
MADE: Final[LiteralString] = """
SELECT o.elid, o.order_id, o.license_id, o.marker_number, o.operation ->> 'is' = 'OrderModule' AS is_module,
    (o.operation -> 'of' ->> 'parent')::bigint AS parent, a.service_key AS account_key, t.paid, t.released
FROM provider_order o JOIN provider_account a ON a.name = o.provider_account
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE p.kind IN ('prolong', 'nodes')) AS paid,
        coalesce(bool_or(p.kind = 'end'), false) AS released
    FROM provider_order p WHERE p.provider_account = o.provider_account AND p.kind <> 'order'
        AND (p.operation -> 'of' ->> 'elid')::bigint = o.elid AND p.state = 'confirmed') t
WHERE o.provider_account = $1 AND o.kind = 'order' AND o.state = 'confirmed' AND o.elid > $2
ORDER BY o.elid LIMIT $3
"""
OPEN: Final[LiteralString] = """
SELECT o.order_id, o.license_id, o.kind, o.state, o.marker_number, o.quarantined, a.service_key AS account_key,
    CASE WHEN o.kind = 'order' THEN o.elid ELSE (o.operation -> 'of' ->> 'elid')::bigint END AS elid
FROM provider_order o JOIN provider_account a ON a.name = o.provider_account
WHERE o.provider_account = $1 AND o.settled_at IS NULL AND o.order_id > $2
ORDER BY o.order_id LIMIT $3
"""
Entry = TypeVar("Entry")


class PostgresOurSide:
    """Reads our side on a pool. Raises `UnavailableError` when the database does not answer."""

    def __init__(self, pool: Pool, *, page_rows: int = PAGE_ROWS) -> None:
        self._pool = pool
        self._page_rows = page_rows

    async def read(self, provider_account: str) -> OurSide | None:
        """Return everything on record about the account, None while there is no catalog.

        Raises `ConfigurationError` when the catalog cannot be read here.
        """
        catalog = await PostgresCatalogs(self._pool).newer_than(0)
        if catalog is None:
            return None
        held = await self._pages(HELD, provider_account, "", "license_id", _holding)
        return OurSide(
            holdings=[holding for holding in held if holding is not None],
            made=await self._pages(MADE, provider_account, 0, "elid", _made),
            open_orders=await self._pages(OPEN, provider_account, UUID(int=0), "order_id", _open),
            catalog=catalog,
        )

    async def _pages(
        self,
        query: LiteralString,
        provider_account: str,
        after: object,
        key: str,
        entry: Callable[[asyncpg.Record], Entry],
    ) -> Sequence[Entry]:
        """Return the entries of all rows above `after`, read page by page along column `key`."""
        entries: list[Entry] = []
        while True:
            async with borrowed(self._pool, "read our side") as connection:
                rows = await connection.fetch(query, provider_account, after, self._page_rows)
            entries += map(entry, rows)
            if len(rows) < self._page_rows:
                return entries
            after = rows[-1][key]


def _holding(row: asyncpg.Record) -> Holding | None:
    service = decode_service(row["service"])
    return None if service is None else Holding(license_id=row["license_id"], service=service)


def _made(row: asyncpg.Record) -> MadeService:
    return MadeService(
        elid=Elid(row["elid"]),
        order_id=plain(row["order_id"]),
        license_id=row["license_id"],
        marker=marker_of(row["account_key"], row["order_id"], row["marker_number"]),
        is_module=row["is_module"],
        parent=None if row["parent"] is None else Elid(row["parent"]),
        orders_paid=1 + row["paid"],
        released=row["released"],
    )


def _open(row: asyncpg.Record) -> OpenOrder:
    return OpenOrder(
        order_id=plain(row["order_id"]),
        license_id=row["license_id"],
        kind=StepKind(row["kind"]),
        state=OrderState(row["state"]),
        markers=frozenset(markers_of(row["account_key"], row["order_id"], row["marker_number"])),
        elid=None if row["elid"] is None else Elid(row["elid"]),
        quarantined=tuple(map(Elid, row["quarantined"])),
    )
