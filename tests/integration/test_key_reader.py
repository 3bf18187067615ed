"""Who reads keys cannot write: by the transaction's mode, and by the role; with and without the right to make roles."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from shared.clock import MachineClock
from shared.contracts.key_commands import KeyReference
from shared.database.key_queries import PostgresKeyQueries
from shared.database.migrate import migrate
from shared.database.pool import Connection, Pool
from shared.database.reader import READER, open_reading_pool
from shared.domain.key_queries import KeyFilter
from tests.stack import with_database

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

WRITES = (
    "UPDATE license SET suspended = true",
    "DELETE FROM account_owner",
    "INSERT INTO owner (owner_id, kind) VALUES ('1', 'client')",
    "SELECT nextval('license_key_id')",
    "CREATE TABLE mine (a integer)",
)
BOTH = {"ReadOnlySQLTransactionError", "InsufficientPrivilegeError"}
"""The role refuses tables and sequences before the mode is asked; the mode refuses what is left."""


def as_user(database_url: str, user: str) -> str:
    """The address of the same database for another user, whose password is its name."""
    parts = urlsplit(database_url)
    return parts._replace(netloc=f"{user}:{user}@{parts.hostname}:{parts.port}").geturl()


@asynccontextmanager
async def a_user(server: str, database_url: str, *rights: str) -> AsyncIterator[str]:
    """A user of its own for the block, with `rights` given in the database; returns its name."""
    user = f"user_{secrets.token_hex(6)}"
    administrator = await asyncpg.connect(server)
    await administrator.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{user}'")
    own = await asyncpg.connect(database_url)
    try:
        for right in rights:
            await own.execute(right.replace("$user", user))
        yield user
    finally:
        await own.execute(f"REASSIGN OWNED BY {user} TO CURRENT_USER; DROP OWNED BY {user}")
        await own.close()
        await administrator.execute(f"DROP ROLE {user}")
        await administrator.close()


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_reading_pool(database_url, connections_max=1) as pool:
        yield pool


async def assert_reads(pool: Pool) -> None:
    """Every question is answered (with nothing: there is no key)."""
    queries, key = PostgresKeyQueries(pool, MachineClock()), KeyReference(key_id=1)
    assert await queries.search("partner", KeyFilter(product="A", status="ACTIVE")) == b"[]"
    assert await queries.find("partner", key) is None
    assert await queries.structure("partner", key) is None
    assert await queries.key_file("partner", key) is None
    assert await queries.activations("partner", key) is None


async def refusals(connection: Connection) -> set[str]:
    """What each attempt to write ends in."""
    met = set()
    for statement in WRITES:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.execute(statement)
        met.add(type(refused.value).__name__)
    return met


async def test_the_connections_of_the_reads_can_read_and_cannot_write(pool: Pool) -> None:
    await assert_reads(pool)
    for _ in range(2):  # and neither can one that was handed back
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT current_user") == READER
            assert await refusals(connection) == BOTH


async def test_not_even_a_transaction_that_says_it_writes_can_nor_does_it_see_secrets(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("SET default_transaction_read_only = off")
        assert await refusals(connection) == {"InsufficientPrivilegeError"}
        for table in ("account", "signing_key", "named_request", "audit", "outbox", "command_result"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SELECT FROM {table} LIMIT 1")


async def test_a_user_of_its_own_reads_once_it_is_in_the_role(postgres_server: str, database_url: str) -> None:
    async with (
        a_user(postgres_server, database_url, f"GRANT {READER} TO $user") as user,
        open_reading_pool(as_user(database_url, user)) as pool,
    ):
        await assert_reads(pool)
        async with pool.acquire() as connection:
            assert await refusals(connection) == BOTH


async def test_a_user_that_may_not_take_the_role_still_writes_nothing(postgres_server: str, database_url: str) -> None:
    everything = "GRANT ALL ON ALL TABLES IN SCHEMA public TO $user", "GRANT ALL ON SEQUENCE license_key_id TO $user"
    async with (
        a_user(postgres_server, database_url, *everything) as user,
        open_reading_pool(as_user(database_url, user)) as pool,
    ):
        await assert_reads(pool)
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT current_user") == user
            assert await refusals(connection) == {"ReadOnlySQLTransactionError"}


@pytest.mark.parametrize("may_make_roles", [True, False])
async def test_whoever_migrates_reads_afterwards_with_and_without_the_right_to_make_roles(
    postgres_server: str, *, may_make_roles: bool
) -> None:
    name, absent = f"test_{secrets.token_hex(6)}", f"reader_{secrets.token_hex(6)}"
    async with a_user(postgres_server, postgres_server) as user:
        administrator = await asyncpg.connect(postgres_server)
        try:
            if may_make_roles:
                await administrator.execute(f"ALTER ROLE {user} CREATEROLE")
            await administrator.execute(f"CREATE DATABASE {name} OWNER {user}")
            url = as_user(with_database(postgres_server, name), user)
            assert await migrate(url) != []
            assert await migrate(url) == []
            connection = await asyncpg.connect(url)
            try:
                assert await connection.fetchval("SELECT let_read($1)", absent) is may_make_roles
                assert await connection.fetchval("SELECT let_read($1)", absent) is may_make_roles
                if may_make_roles:
                    await connection.execute(f"SET ROLE {absent}")
                    await connection.execute("SELECT FROM license")
            finally:
                await connection.close()
            async with open_reading_pool(url) as pool:
                await assert_reads(pool)
                async with pool.acquire() as reading:
                    assert await refusals(reading) <= BOTH
        finally:
            await administrator.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await administrator.execute(f"DROP ROLE IF EXISTS {absent}")
            await administrator.close()
