"""Our accounts at the provider: which of them this installation uses, and whether each takes new orders.

The provider role writes them at its start, because only it has their logins; the license role reads them. Every method
raises `UnavailableError` when the database does not answer.
"""

from collections.abc import Mapping
from typing import Final, LiteralString
from uuid import UUID

from shared.database.pool import Pool, borrowed

ACCEPTING: Final[LiteralString] = """
SELECT a.name, (a.paused_until IS NULL OR a.paused_until <= clock_timestamp())
    AND (SELECT count(*) FROM provider_order o WHERE o.provider_account = a.name AND o.state IN ('unknown', 'manual')
        AND o.kind IN ('order', 'nodes', 'prolong')) < a.unresolved_max AS accepts
FROM provider_account a WHERE a.in_use
"""
ENROLL: Final[LiteralString] = """
INSERT INTO provider_account (name, unresolved_max, in_use)
SELECT name, unresolved_max, true FROM unnest($1::text[], $2::integer[]) AS given (name, unresolved_max)
ON CONFLICT (name) DO UPDATE SET unresolved_max = excluded.unresolved_max, in_use = true
"""
RETIRE: Final[LiteralString] = """
UPDATE provider_account SET in_use = false WHERE in_use AND name <> ALL($1::text[])
"""


class PostgresProviderAccounts:
    """The provider accounts on a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def enroll(self, unresolved_max: Mapping[str, int]) -> None:
        """Note which provider accounts this installation uses, with their limits; all others are in use no more."""
        names = sorted(unresolved_max)
        async with borrowed(self._pool, "enroll provider accounts") as connection, connection.transaction():
            await connection.execute(ENROLL, names, [unresolved_max[name] for name in names])
            await connection.execute(RETIRE, names)

    async def accepting(self) -> Mapping[str, bool]:
        """Return whether each account in use takes new orders: not paused, few enough with an unknown outcome."""
        async with borrowed(self._pool, "ask whether orders are taken") as connection:
            return {row["name"]: row["accepts"] for row in await connection.fetch(ACCEPTING)}

    async def account_of(self, order_id: UUID) -> str | None:
        """Return the provider account of an order, None for an id that nobody stored."""
        async with borrowed(self._pool, "find an order's account") as connection:
            account: str | None = await connection.fetchval(
                "SELECT provider_account FROM provider_order WHERE order_id = $1", order_id
            )
        return account
