"""Owners, configurations, price lists and account links: read as one snapshot, changed one at a time."""

from collections.abc import Sequence
from typing import Final, LiteralString

import asyncpg

from shared.database.pool import Pool, borrowed
from shared.domain.owners import AccountLink, Owner, OwnerKind, Owners

OWNERS: Final[LiteralString] = """
SELECT o.owner_id, o.kind, o.reseller_id, o.name, o.suspended, p.items,
    coalesce(c.ids, '{}') AS configurations, c.default_id
FROM owner AS o
LEFT JOIN owner AS r ON r.owner_id = o.reseller_id
LEFT JOIN price_list AS p ON p.name = coalesce(o.price_list, r.price_list)
LEFT JOIN (
    SELECT owner_id, array_agg(configuration_id) AS ids, max(configuration_id) FILTER (WHERE is_default) AS default_id
    FROM product_configuration GROUP BY owner_id
) AS c ON c.owner_id = o.owner_id
ORDER BY o.owner_id
"""

LINKS: Final[LiteralString] = "SELECT account_id, owner_id, default_client FROM account_owner ORDER BY account_id"


class PostgresOwners:
    """The owners. Every method raises `UnavailableError` when the database does not answer.

    The writing ones raise `StoreRefusedError` for an impossible id or a name of something that does not exist.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def all(self) -> Owners:
        """Return everything as of one moment."""
        async with (
            borrowed(self._pool, "read owners") as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            owners, links = await connection.fetch(OWNERS), await connection.fetch(LINKS)
        return Owners(
            owners={row["owner_id"]: _owner(row) for row in owners},
            links={
                row["account_id"]: AccountLink(owner_id=row["owner_id"], default_client=row["default_client"])
                for row in links
            },
        )

    async def add(
        self,
        owner_id: str,
        kind: OwnerKind,
        *,
        reseller_id: str | None = None,
        name: str = "",
        prices: str | None = None,
    ) -> bool:
        """Add a reseller or client; return False, changing nothing, when the id is taken."""
        async with borrowed(self._pool, "add owner") as connection:
            added = await connection.fetchval(
                "INSERT INTO owner (owner_id, kind, reseller_id, name, price_list) VALUES ($1, $2, $3, $4, $5)"
                " ON CONFLICT (owner_id) DO NOTHING RETURNING true",
                owner_id,
                kind.value,
                reseller_id,
                name,
                prices,
            )
        return added is not None

    async def suspend(self, owner_id: str, *, suspended: bool) -> bool:
        """Suspend or resume an owner with all keys; return False when there is no such owner."""
        async with borrowed(self._pool, "suspend owner") as connection:
            found = await connection.fetchval(
                "UPDATE owner SET suspended = $2 WHERE owner_id = $1 RETURNING true", owner_id, suspended
            )
        return found is not None

    async def set_price_list(self, owner_id: str, prices: str | None) -> bool:
        """Give an owner a price list, or with None that of its reseller; return False when there is no such owner."""
        async with borrowed(self._pool, "set price list") as connection:
            found = await connection.fetchval(
                "UPDATE owner SET price_list = $2 WHERE owner_id = $1 RETURNING true", owner_id, prices
            )
        return found is not None

    async def put_price_list(self, name: str, items: Sequence[str]) -> None:
        """Make a price list, or replace what it holds."""
        async with borrowed(self._pool, "put price list") as connection:
            await connection.execute(
                "INSERT INTO price_list (name, items) VALUES ($1, $2)"
                " ON CONFLICT (name) DO UPDATE SET items = EXCLUDED.items",
                name,
                list(items),
            )

    async def price_lists(self) -> dict[str, list[str]]:
        """Return the items of every price list."""
        async with borrowed(self._pool, "read price lists") as connection:
            rows = await connection.fetch("SELECT name, items FROM price_list ORDER BY name")
        return {row["name"]: list(row["items"]) for row in rows}

    async def add_configuration(self, configuration_id: int, owner_id: str, *, name: str = "", default: bool) -> bool:
        """Add a configuration; a default one takes over from the one before. Return False when the id is taken."""
        async with borrowed(self._pool, "add configuration") as connection, connection.transaction():
            added = await connection.fetchval(
                "INSERT INTO product_configuration (configuration_id, owner_id, name) VALUES ($1, $2, $3)"
                " ON CONFLICT (configuration_id) DO NOTHING RETURNING true",
                configuration_id,
                owner_id,
                name,
            )
            if added is not None and default:
                await connection.execute(
                    "UPDATE product_configuration SET is_default = false WHERE owner_id = $1 AND is_default", owner_id
                )
                await connection.execute(
                    "UPDATE product_configuration SET is_default = true WHERE configuration_id = $1", configuration_id
                )
        return added is not None

    async def link(self, account: str, owner_id: str, *, default_client: str | None = None) -> None:
        """Let `account` speak for an owner from now on."""
        async with borrowed(self._pool, "link account") as connection:
            await connection.execute(
                "INSERT INTO account_owner (account_id, owner_id, default_client) VALUES ($1, $2, $3)"
                " ON CONFLICT (account_id) DO UPDATE"
                " SET owner_id = EXCLUDED.owner_id, default_client = EXCLUDED.default_client",
                account,
                owner_id,
                default_client,
            )

    async def unlink(self, account: str) -> bool:
        """Let `account` speak for nobody any more; return False when it did not."""
        async with borrowed(self._pool, "unlink account") as connection:
            found = await connection.fetchval("DELETE FROM account_owner WHERE account_id = $1 RETURNING true", account)
        return found is not None


def _owner(row: asyncpg.Record) -> Owner:
    return Owner(
        owner_id=row["owner_id"],
        kind=OwnerKind(row["kind"]),
        reseller_id=row["reseller_id"],
        name=row["name"],
        suspended=row["suspended"],
        configurations=frozenset(row["configurations"]),
        default_configuration=row["default_id"],
        items=None if row["items"] is None else frozenset(row["items"]),
    )
