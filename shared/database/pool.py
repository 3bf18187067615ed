"""Connections: how every one of them is opened, bounded and set up, and the pool for everything off the hot path."""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias, Union

import asyncpg

from shared.database.failures import mapped_failures
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
OwnConnection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
"""A connection that its holder opened and closes."""
Connection: TypeAlias = Union[OwnConnection, "PoolConnectionProxy[asyncpg.Record]"]
"""A connection of our own or one lent by a pool."""

CONNECT_SECONDS = 2.0
CLOSE_SECONDS = 1.0
COMMAND_SECONDS = 2.0
POOL_CONNECTIONS_MAX = 4
ACQUIRE_SECONDS = 2.0

BOUNDS: Mapping[str, str] = {
    "application_name": "keyway",
    "timezone": "UTC",
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
}
"""Server-side bounds of every session: what we forget, the server ends."""


async def open_connection(
    database_url: str,
    *,
    connect_seconds: float = CONNECT_SECONDS,
    command_seconds: float = COMMAND_SECONDS,
    settings: Mapping[str, str] | None = None,
) -> OwnConnection:
    """Return one bounded connection; end it with `close`. `settings` are added to `BOUNDS`.

    Raises `UnavailableError` when there is no answer within `connect_seconds`, and `ConfigurationError` when
    `database_url` is no address.
    """
    async with mapped_failures("connect"):
        try:
            return await asyncpg.connect(
                database_url,
                timeout=connect_seconds,
                command_timeout=command_seconds,
                max_cached_statement_lifetime=0,  # plans are kept as long as the connection
                server_settings={**BOUNDS, **(settings or {})},
            )
        except ValueError as error:  # its text may quote the password
            raise ConfigurationError(f"KEYWAY_DATABASE_URL is no PostgreSQL address: {type(error).__name__}") from None


async def close(connection: OwnConnection) -> None:
    """End `connection` within `CLOSE_SECONDS`, politely where the server still listens."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection.terminate()


@asynccontextmanager
async def connected(database_url: str, *, command_seconds: float = COMMAND_SECONDS) -> AsyncIterator[OwnConnection]:
    """Open one connection for the block: short programs, such as the verbs of the command."""
    connection = await open_connection(database_url, command_seconds=command_seconds)
    try:
        yield connection
    finally:
        await close(connection)


@asynccontextmanager
async def open_pool(
    database_url: str,
    *,
    connections_max: int = POOL_CONNECTIONS_MAX,
    settings: Mapping[str, str] | None = None,
    on_connect: Callable[[OwnConnection], Coroutine[None, None, None]] | None = None,
) -> AsyncIterator[Pool]:
    """Open a pool for the block; it connects on first use, so that a process can start before its database.

    Acquire with `borrowed`, which is bounded and maps failures. `settings` are added to `BOUNDS`; `on_connect` prepares
    every new connection.
    """
    pool: Pool = asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=connections_max,
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        server_settings={**BOUNDS, **(settings or {})},
        init=on_connect,
    )
    async with mapped_failures("open pool"):
        await pool
    try:
        yield pool
    finally:
        pool.terminate()


@asynccontextmanager
async def borrowed(pool: Pool, action: str) -> AsyncIterator[Connection]:
    """Lend a connection of `pool` for the block, and map every failure of `action` to one of ours.

    Unless the server itself answered, a connection that failed is thrown away at once: handing it back in order would
    first ask the silent server to tidy it up.
    """
    async with mapped_failures(action), pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
        try:
            yield connection
        except asyncpg.PostgresError:
            raise
        except BaseException:
            connection.terminate()
            raise


async def ping(pool: Pool) -> None:
    """Ask the database for a sign of life. Raises `UnavailableError`."""
    async with borrowed(pool, "ping") as connection:
        await connection.execute("SELECT 1")
