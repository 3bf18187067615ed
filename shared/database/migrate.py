"""Brings a database to the present schema: plain SQL files, each applied once, whoever runs it how often at once.

pogo-core applies `migrations/*.sql` in the order of their `-- depends:` lines, each in a transaction of its own. It
takes no lock, so we hold a session-level advisory lock around it. The lock is polled: a session that *waits* for it
would hold a snapshot, and `CREATE INDEX CONCURRENTLY` in another session waits for all of those.
"""

import logging
from datetime import UTC, timedelta
from pathlib import Path

import asyncpg
from pogo_core.error import BadMigrationError
from pogo_core.util import migrate as pogo

from shared.clock import MachineClock, SystemClock
from shared.database.command_result_days import ensure_command_result_days
from shared.database.failures import mapped, mapped_failures
from shared.database.pool import Connection, OwnConnection, close, open_connection
from shared.database.reader import READER
from shared.errors import ConfigurationError, KeywayError, UnavailableError

MIGRATIONS = Path(__file__).with_name("migrations")
SCHEMA = "public"
LOCK_KEY = 0x6B65_7977_6179  # "keyway"
LOCK_POLL_SECONDS = 0.1
LOCK_WAIT_SECONDS = 60.0
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 60.0
LOCK_TIMEOUT = "5s"
"""A migration that cannot get its table lock gives up rather than letting the whole service queue behind it."""
OUTAGES = frozenset({"08", "53", "55", "57", "58"})
"""SQLSTATE classes that say nothing about the migration: connection, resources, locks, shutdown, system."""


async def migrate(database_url: str, clock: SystemClock | None = None) -> list[str]:
    """Apply what is missing and return the names of the migrations applied here, in order; none when all is done.

    Raises `UnavailableError` when the database does not answer or another process migrates for over
    `LOCK_WAIT_SECONDS`, and `ConfigurationError` when a migration fails; those before it stay applied.
    """
    clock = clock or MachineClock()
    connection = await open_connection(
        database_url,
        connect_seconds=CONNECT_SECONDS,
        command_seconds=STATEMENT_SECONDS,
        settings={"lock_timeout": LOCK_TIMEOUT, "statement_timeout": f"{STATEMENT_SECONDS:.0f}s"},
    )
    try:
        async with mapped_failures("migrate"):
            await _take_lock(connection, clock)
            applied = await _apply(connection)
            await connection.fetchval("SELECT let_read($1)", READER)
            await ensure_command_result_days(connection, clock.now().astimezone(UTC).date() - timedelta(days=1))
            return applied
    finally:
        await close(connection)  # which also gives the lock back


async def missing_migrations(connection: Connection) -> list[str]:
    """Return the names of the migrations that `connection`'s database lacks. Raises `UnavailableError`."""
    async with mapped_failures("look at migrations"):
        known = await _applied(connection)
    return sorted(path.stem for path in MIGRATIONS.glob("*.sql") if path.stem not in known)


async def _take_lock(connection: Connection, clock: SystemClock) -> None:
    deadline = clock.monotonic() + LOCK_WAIT_SECONDS
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
        if clock.monotonic() >= deadline:
            raise UnavailableError(f"another process has been migrating for {LOCK_WAIT_SECONDS:.0f} s: try again later")
        await clock.sleep(LOCK_POLL_SECONDS)


async def _apply(connection: OwnConnection) -> list[str]:
    before = await _applied(connection)
    try:
        silent = logging.Logger("pogo", logging.CRITICAL)  # noqa: LOG001 - in no hierarchy: the caller tells what came
        await pogo.apply(connection, MIGRATIONS, schema_name=SCHEMA, logger=silent)
    except BadMigrationError as error:
        raise _explained(error) from None
    return sorted(await _applied(connection) - before)


def _explained(error: BadMigrationError) -> KeywayError:
    cause = error.__cause__
    if isinstance(cause, asyncpg.PostgresError) and str(cause.sqlstate)[:2] not in OUTAGES:
        return ConfigurationError(f"{error}: {cause}")  # whole: a migration holds nobody's data
    return mapped(cause, str(error)) if isinstance(cause, Exception) else ConfigurationError(str(error))


async def _applied(connection: Connection) -> set[str]:
    if await connection.fetchval("SELECT to_regclass('public._pogo_migration')") is None:
        return set()
    rows = await connection.fetch("SELECT migration_id FROM public._pogo_migration WHERE schema_name = $1", SCHEMA)
    return {row["migration_id"] for row in rows}
