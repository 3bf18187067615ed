"""Owners, configurations, price lists and account links: read as one snapshot, changed one at a time."""

from collections.abc import Sequence
from typing import Final, LiteralString

import asyncpg

from shared.database.pool import Pool, borrowed
from shared.domain.key_owners import LinkedAccount, Owner, OwnerBook, OwnerKind

OWNERS: Final[LiteralString] = """
SELECT o.owner_id, o.kind, o.reseller_id, o.suspended, coalesce(c.ids, '{}') AS configurations, c.default_id
FROM owner AS o
LEFT JOIN (
    SELECT owner_id, array_agg(configuration_id) AS ids, max(configuration_id) FILTER (WHERE is_default) AS default_id
    FROM product_configuration GROUP BY owner_id
) AS c ON c.owner_id = o.owner_id
ORDER BY o.owner_id
"""

LINKS: Final[LiteralString] = """
SELECT a.account_id, a.owner_id, a.default_client, p.items
FROM account_owner AS a LEFT JOIN price_list AS p ON p.name = a.price_list
ORDER BY a.account_id
"""


class PostgresOwners:
    """The owners. Every method raises `UnavailableError` when the database does not answer.

    The writing ones raise `StoreRefusedError` for an impossible id or a name of something that does not exist.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def all(self) -> OwnerBook:
        """Return everything as of one moment."""
        async with (
            borrowed(self._pool, "read owners") as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            owners, links = await connection.fetch(OWNERS), await connection.fetch(LINKS)
        return OwnerBook(
            owners={row["owner_id"]: owner_in(row) for row in owners},
            accounts={row["account_id"]: link_in(row) for row in links},
        )

    async def add(self, owner_id: str, kind: OwnerKind, *, reseller: str | None = None, name: str = "") -> bool:
        """Add a reseller or client; return False, changing nothing, when the id is taken."""
        async with borrowed(self._pool, "add owner") as connection:
            added = await connection.fetchval(
                "INSERT INTO owner (owner_id, kind, reseller_id, name) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (owner_id) DO NOTHING RETURNING true",
                owner_id,
                kind.value,
                reseller,
                name,
            )
        return added is not None

    async def suspend(self, owner_id: str, *, suspended: bool) -> bool:
        """Suspend or resume an owner; return False when there is no such owner."""
        async with borrowed(self._pool, "suspend owner") as connection:
            found = await connection.fetchval(
                "UPDATE owner SET suspended = $2 WHERE owner_id = $1 RETURNING true", owner_id, suspended
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

    async def link(
        self, account: str, owner_id: str, *, default_client: str | None = None, price_list: str | None = None
    ) -> None:
        """Let `account` speak for an owner from now on, with this default client and price list."""
        async with borrowed(self._pool, "link account") as connection:
            await connection.execute(
                "INSERT INTO account_owner (account_id, owner_id, default_client, price_list) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (account_id) DO UPDATE SET owner_id = EXCLUDED.owner_id,"
                " default_client = EXCLUDED.default_client, price_list = EXCLUDED.price_list",
                account,
                owner_id,
                default_client,
                price_list,
            )

    async def unlink(self, account: str) -> bool:
        """Let `account` speak for nobody any more; return False when it did not."""
        async with borrowed(self._pool, "unlink account") as connection:
            found = await connection.fetchval("DELETE FROM account_owner WHERE account_id = $1 RETURNING true", account)
        return found is not None


def owner_in(row: asyncpg.Record) -> Owner:
    """Return the owner in a row of `OWNERS`."""
    return Owner(
        owner_id=row["owner_id"],
        kind=OwnerKind(row["kind"]),
        reseller=row["reseller_id"],
        suspended=row["suspended"],
        default_configuration=row["default_id"],
        configurations=frozenset(row["configurations"]),
    )


def link_in(row: asyncpg.Record) -> LinkedAccount:
    """Return the account link in a row of `LINKS`."""
    return LinkedAccount(
        account=row["account_id"],
        owner=row["owner_id"],
        default_client=row["default_client"],
        price_list=None if row["items"] is None else frozenset(row["items"]),
    )
