"""Connections that can only read: what the Partner API's GET, search and key file stand on (partner-api 3).

Two locks, because each alone can fail: every transaction is read-only unless a statement says otherwise, and the
session takes the role `keyway_reader`, which may SELECT from five tables and nothing else. The role is made by
migration where the server lets us; where it does not, or the address belongs to a user who may not take it, the first
lock stands alone.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, LiteralString

import asyncpg

from shared.database.pool import POOL_CONNECTIONS_MAX, OwnConnection, Pool, open_pool

READER: Final = "keyway_reader"
"""Group role without login: `GRANT keyway_reader TO …` lets a user of `KEYWAY_DATABASE_READER_URL` read."""

READ_ONLY: Final = {"default_transaction_read_only": "on"}

MAY_TAKE: Final[LiteralString] = """
SELECT EXISTS (
    SELECT FROM pg_roles AS r
    WHERE r.rolname = $1 AND pg_has_role(r.oid, 'MEMBER') AND NOT EXISTS (
        SELECT FROM unnest(ARRAY['license', 'revision', 'owner', 'product_configuration', 'account_owner']) AS kept
        WHERE NOT has_table_privilege(r.oid, kept, 'SELECT')))
"""


@asynccontextmanager
async def open_reading_pool(database_url: str, *, connections_max: int = POOL_CONNECTIONS_MAX) -> AsyncIterator[Pool]:
    """Open a pool of connections that cannot write, for the block; like `open_pool` in everything else."""
    async with open_pool(
        database_url, connections_max=connections_max, settings=READ_ONLY, on_connect=_take_reader_role
    ) as pool:
        yield pool


async def _take_reader_role(connection: OwnConnection) -> None:
    """Give up every right but that of reading, where this user may. The role outlives the pool's own resets."""
    if await connection.fetchval(MAY_TAKE, READER):
        with suppress(asyncpg.InsufficientPrivilegeError):  # a member that may not SET ROLE
            await connection.execute(f"SET ROLE {READER}")
