"""The relay on real servers: everything committed is published, in sequence, by one at a time, through sudden death."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from keyway.cli.topics import apply_topics
from shared.contracts.envelope import new_id
from shared.contracts.identifiers import LicenseId
from shared.contracts.topics import LICENSE_EVENTS
from shared.database.outbox import PostgresOutbox, PostgresOutboxMarks
from shared.database.pool import OwnConnection, close, open_connection
from shared.domain.outgoing import OutgoingRecord
from shared.settings import Settings
from tests.integration.outbox_rig import CLOCK, LONG_AGO, gaps, make_relay, published, write_event

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

ROOT = Path(__file__).resolve().parents[2]
UNPUBLISHED = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
UNCOUNTED = "SELECT count(*) FROM license WHERE published_sequence < sequence"


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[OwnConnection]:
    connection = await open_connection(database_url)
    yield connection
    await close(connection)


@pytest_asyncio.fixture
async def topics(kafka_server: str, topic_prefix: str) -> tuple[str, str]:
    await apply_topics(Settings(kafka_bootstrap=kafka_server, topic_prefix=topic_prefix))
    return kafka_server, topic_prefix


@asynccontextmanager
async def running(database_url: str, topics: tuple[str, str]) -> AsyncIterator[None]:
    relay, outbox, press = make_relay(database_url, *topics)
    stop = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(relay.run(stop))
            try:
                yield
            finally:
                stop.set()
    finally:
        await press.close()
        await outbox.close()


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 40.0) -> None:
    ends = CLOCK.monotonic() + seconds
    while not await condition():
        assert CLOCK.monotonic() < ends, f"not within {seconds} s: {what}"
        await CLOCK.sleep(0.05)


async def all_published(database: OwnConnection) -> bool:
    return await database.fetchval(UNPUBLISHED) == 0 and await database.fetchval(UNCOUNTED) == 0


async def test_what_is_committed_is_published_in_sequence_marked_and_counted(
    database_url: str, database: OwnConnection, topics: tuple[str, str]
) -> None:
    for sequence in range(1, 4):
        for number in range(40):
            await write_event(database, f"{number:08d}", sequence)

    async with running(database_url, topics):
        await until(lambda: all_published(database), "all published and counted")

    records = await published(*topics)
    assert sorted(records) == sorted((f"ka:{n:08d}", s) for n in range(40) for s in range(1, 4))
    assert not gaps(records)


async def test_a_transaction_that_commits_late_is_neither_lost_nor_overtaken(
    database_url: str, database: OwnConnection, topics: tuple[str, str]
) -> None:
    late = await open_connection(database_url)
    transaction = late.transaction()
    await transaction.start()
    await write_event(late, "00000001", 1)  # takes the lower outbox id, and waits
    await write_event(database, "00000002", 1)

    async with running(database_url, topics):
        await CLOCK.sleep(1.0)
        early = await database.fetchval(UNPUBLISHED)
        await transaction.commit()
        await until(lambda: all_published(database), "both published")
    await close(late)

    assert early == 1, "nothing above an open transaction is taken"
    assert [license_id for license_id, _ in sorted(await published(*topics))] == ["ka:00000001", "ka:00000002"]


async def test_an_event_never_leaves_before_its_predecessor(
    database_url: str, database: OwnConnection, topics: tuple[str, str]
) -> None:
    await write_event(database, "00000001", 2)  # its predecessor is missing, whatever the reason

    async with running(database_url, topics):
        await CLOCK.sleep(1.0)
        before = await published(*topics)
        await write_event(database, "00000001", 1)
        await until(lambda: all_published(database), "both published")

    assert before == []
    assert await published(*topics) == [("ka:00000001", 1), ("ka:00000001", 2)]


async def test_what_somebody_published_and_marked_is_left_alone_but_counted(
    database_url: str, database: OwnConnection, topics: tuple[str, str]
) -> None:
    await write_event(database, "00000001", 1)
    marks = PostgresOutboxMarks(database_url)
    record = OutgoingRecord(
        topic=LICENSE_EVENTS, license_id=LicenseId("ka:00000001"), event_id=new_id(), sequence=1, value=b"{}"
    )
    await marks.mark([record], CLOCK.now())
    await marks.close()

    async with running(database_url, topics):
        await until(lambda: all_published(database), "counted")

    assert await published(*topics) == []


async def test_a_fresh_row_belongs_to_its_writer_for_a_while(database_url: str, database: OwnConnection) -> None:
    await write_event(database, "00000001", 1, at=CLOCK.now())
    outbox = PostgresOutbox(database_url)
    assert await outbox.lead()

    fresh, _ = await outbox.due(LONG_AGO, 10)
    later, _ = await outbox.due(CLOCK.now(), 10)
    await outbox.close()

    assert fresh == []
    assert len(later) == 1


async def test_one_relay_is_active_and_another_takes_over_when_it_goes(database_url: str) -> None:
    first, second = PostgresOutbox(database_url), PostgresOutbox(database_url)

    assert (await first.lead(), await second.lead()) == (True, False)
    assert (await first.lead(), await second.lead()) == (True, False)
    await first.close()
    await until(second.lead, "the second leads")
    await second.close()


@pytest.mark.timeout(240)
async def test_first_occurrences_stay_in_sequence_through_kills_and_fail_over(
    database_url: str, database: OwnConnection, topics: tuple[str, str]
) -> None:
    chance = Random(4)
    relays = [start_relay(database_url, topics) for _ in range(2)]
    sequences = dict.fromkeys(range(60), 0)
    kills = 0
    try:
        for step in range(1500):
            number = chance.randrange(60)
            sequences[number] += 1
            async with database.transaction():
                await write_event(database, f"{number:08d}", sequences[number])
            if step % 150 == 75:
                victim = relays.pop(0)  # the active one first, then its successor
                victim.kill()
                victim.wait()
                relays.append(start_relay(database_url, topics))
                kills += 1
            await CLOCK.sleep(0.002)
        await until(lambda: all_published(database), "all published after the last kill", seconds=90)
    finally:
        for relay in relays:
            relay.kill()
            relay.wait()
    records = await published(*topics)

    assert kills == 10
    assert not gaps(records)
    written = {(f"ka:{number:08d}", s) for number, last in sequences.items() for s in range(1, last + 1)}
    assert set(records) == written
    with suppress(ZeroDivisionError):
        print(f"{len(written)} events, {len(records)} records: {len(records) / len(written):.2f} of each")


def start_relay(database_url: str, topics: tuple[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.integration.outbox_rig", database_url, *topics], cwd=ROOT)
