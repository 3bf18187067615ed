"""What becomes of failures: a conflict, an outage or a refusal; never the driver's own error, never a value told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from shared.database.lane import Lane
from shared.database.license_store import PostgresLicenseStore
from shared.database.pool import OwnConnection, borrowed, open_pool
from shared.domain.effects import CommandEffect
from shared.errors import ConfigurationError, ConflictError, KeywayError, StoreRefusedError, UnavailableError
from tests.builders import a_license
from tests.conformance.test_license_store import LICENSE, a_change, a_renewal, an_issue, load_one

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

Work = Callable[[OwnConnection], Awaitable[object]]


def saying(statement: str) -> Work:
    return lambda connection: connection.execute(statement)


def raising(sqlstate: str) -> Work:
    return saying(f"DO $$ BEGIN RAISE EXCEPTION 'secret value' USING ERRCODE = '{sqlstate}'; END $$")


@asynccontextmanager
async def opened(lane: Lane) -> AsyncIterator[Lane]:
    try:
        yield lane
    finally:
        await lane.close()


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("KW001", ConflictError),
        ("23505", ConflictError),
        ("40001", ConflictError),
        ("40P01", ConflictError),
        ("22021", StoreRefusedError),
        ("22P05", StoreRefusedError),
        ("23502", StoreRefusedError),
        ("23514", StoreRefusedError),
        ("54000", StoreRefusedError),
        ("08006", UnavailableError),
        ("25006", UnavailableError),
        ("25P03", UnavailableError),
        ("53100", UnavailableError),
        ("53300", UnavailableError),
        ("55P03", UnavailableError),
        ("57014", UnavailableError),
        ("57P01", UnavailableError),
        ("42P01", UnavailableError),
        ("58030", UnavailableError),
        ("XX000", UnavailableError),
    ],
)
async def test_every_failure_of_the_server_becomes_one_of_ours_and_tells_no_value(
    database_url: str, sqlstate: str, expected: type[KeywayError]
) -> None:
    async with opened(Lane(database_url)) as lane:
        with pytest.raises(expected, match=sqlstate) as caught:
            await lane.run("try", raising(sqlstate))
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert await lane.run("go on", lambda connection: connection.fetchval("SELECT 1")) == 1


@pytest.mark.parametrize("sqlstate", ["KW001", "23514"])
async def test_a_connection_outlives_an_answer_of_the_server(database_url: str, sqlstate: str) -> None:
    async with opened(Lane(database_url)) as lane:
        before = await lane.run("ask", lambda connection: connection.fetchval("SELECT pg_backend_pid()"))
        with pytest.raises(KeywayError):
            await lane.run("try", raising(sqlstate))
        assert await lane.run("ask", lambda connection: connection.fetchval("SELECT pg_backend_pid()")) == before


async def test_a_value_that_the_driver_cannot_encode_is_refused(database_url: str) -> None:
    async with opened(Lane(database_url)) as lane:
        with pytest.raises(StoreRefusedError):
            await lane.run("try", lambda connection: connection.fetchval("SELECT $1::integer", 1 << 40))


async def test_a_statement_without_end_is_unavailable_and_its_connection_is_thrown_away(database_url: str) -> None:
    async with opened(Lane(database_url, command_seconds=1.0)) as lane:
        before = await lane.run("ask", lambda connection: connection.fetchval("SELECT pg_backend_pid()"))
        with pytest.raises(UnavailableError, match="TimeoutError"):
            await lane.run("wait", saying("SELECT pg_sleep(5)"))
        assert await lane.run("ask", lambda connection: connection.fetchval("SELECT pg_backend_pid()")) != before


async def test_a_cancelled_caller_leaves_no_connection_in_doubt(database_url: str) -> None:
    async with opened(Lane(database_url)) as lane:
        before = await lane.run("ask", lambda connection: connection.fetchval("SELECT pg_backend_pid()"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await lane.run("wait", saying("SELECT pg_sleep(5)"))
        assert await lane.run("ask", lambda connection: connection.fetchval("SELECT pg_backend_pid()")) != before


async def test_a_killed_session_is_unavailable_once_and_replaced(database_url: str) -> None:
    store = PostgresLicenseStore(database_url)
    await store.store([an_issue()])
    await kill_sessions(database_url)

    effect = a_renewal()
    for _ in range(2):
        try:
            await store.store([effect])
            break
        except UnavailableError:
            assert (await store.load([effect.command_id], [], [])).results == {}

    assert (await load_one(store)).version == 2
    await store.close()


async def test_a_session_that_is_killed_in_the_middle_of_a_batch_leaves_all_or_nothing(database_url: str) -> None:
    store = PostgresLicenseStore(database_url)
    blocker = await asyncpg.connect(database_url)
    await store.store([an_issue(), an_issue(a_license(number="2"))])
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT FROM license WHERE license_id = 'ka:2' FOR UPDATE")
    batch = [a_change(a_license(), 1), a_change(a_license(number="2"), 1), an_issue(a_license(number="3"))]

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(outcome_of(store, batch))
        await wait_until_blocked(database_url)
        await blocker.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert isinstance(writing.result(), UnavailableError)
    await transaction.rollback()
    await blocker.close()

    found = await store.load([effect.command_id for effect in batch], [LICENSE, batch[2].license_id], [])
    assert found.results == {}
    assert {license_id: stored.version for license_id, stored in found.licenses.items()} == {LICENSE: 1}
    await store.store(batch)
    assert (await load_one(store)).version == 2
    await store.close()


async def test_a_writer_that_finds_a_row_locked_for_long_is_unavailable(database_url: str) -> None:
    store = PostgresLicenseStore(database_url, command_seconds=5)
    blocker = await asyncpg.connect(database_url)
    await store.store([an_issue()])
    async with blocker.transaction():
        await blocker.execute("SELECT FROM license FOR UPDATE")
        with pytest.raises(UnavailableError, match="55P03"):
            await store.store([a_change(a_license(), 1)])
    await blocker.close()
    await store.store([a_change(a_license(), 1)])
    await store.close()


async def test_two_batches_that_cross_never_deadlock(database_url: str) -> None:
    """Both are caught in the middle: in the order of arrival each would hold what the other one wants."""
    stores = [PostgresLicenseStore(database_url, command_seconds=10) for _ in range(2)]
    numbers = ["1", "2", "3"]
    await stores[0].store([an_issue(a_license(number=number)) for number in numbers])
    batches = [
        [a_change(a_license(number=number), 1) for number in numbers],
        [a_change(a_license(number=number), 1) for number in reversed(numbers)],
    ]
    blocker = await asyncpg.connect(database_url)

    async with asyncio.TaskGroup() as tasks, blocker.transaction():
        await blocker.execute("SELECT FROM license WHERE license_id = 'ka:2' FOR UPDATE")
        writing = [tasks.create_task(outcome_of(store, batch)) for store, batch in zip(stores, batches, strict=True)]
        await wait_until_blocked(database_url, sessions=2)
    await blocker.close()

    outcomes = {str(task.result()) for task in writing}
    assert len(outcomes) == 2
    assert [told for told in outcomes if "KW001" in told]
    assert "None" in outcomes
    for store in stores:
        await store.close()


async def test_no_server_is_unavailable_within_the_connect_time() -> None:
    store = PostgresLicenseStore("postgresql://keyway:secret@127.0.0.1:1/postgres")
    with pytest.raises(UnavailableError) as caught:
        await store.ping()
    assert "secret" not in str(caught.value)


async def test_a_silent_server_is_unavailable_within_the_connect_time() -> None:
    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = PostgresLicenseStore(f"postgresql://keyway@127.0.0.1:{port}/postgres", connect_seconds=0.2)
        with pytest.raises(UnavailableError):
            await store.ping()


async def test_an_address_that_is_none_is_a_wrong_setting() -> None:
    store = PostgresLicenseStore("mysql://keyway:secret@127.0.0.1/x")
    with pytest.raises(ConfigurationError, match="KEYWAY_DATABASE_URL") as caught:
        await store.ping()
    assert "secret" not in str(caught.value)


async def test_a_wrong_password_is_unavailable_and_says_so(database_url: str) -> None:
    user, rest = database_url.split("@")
    store = PostgresLicenseStore(f"{user}wrong@{rest}")
    with pytest.raises(UnavailableError, match="InvalidPasswordError"):
        await store.ping()


async def test_a_pool_opens_without_a_server_and_its_use_is_unavailable() -> None:
    async with open_pool("postgresql://keyway@127.0.0.1:1/postgres") as pool:
        with pytest.raises(UnavailableError):
            async with borrowed(pool, "look") as connection:
                await connection.execute("SELECT 1")


async def outcome_of(store: PostgresLicenseStore, batch: list[CommandEffect]) -> KeywayError | None:
    try:
        await store.store(batch)
    except KeywayError as error:
        return error
    return None


async def wait_until_blocked(database_url: str, sessions: int = 1) -> None:
    connection = await asyncpg.connect(database_url)  # outside any transaction: inside one the view stands still
    try:
        for _ in range(2000):
            waiting = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if waiting >= sessions:
                return
            await asyncio.sleep(0.01)
    finally:
        await connection.close()
    raise AssertionError("too few wait")


async def kill_sessions(database_url: str) -> None:
    """End all sessions but our own, and wait until they are gone: one that still lives may carry out a statement."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
