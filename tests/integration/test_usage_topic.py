"""`usage.reported` deleted and made anew: noticed, read from its beginning, and trusted only once people say so."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from keyway.cli.topics import apply_topics
from shared.contracts.topics import USAGE_REPORTED_PARTITIONS
from shared.database.pool import Pool, connected, open_pool
from shared.database.usage_queries import license_usage
from shared.database.usage_store import PostgresUsageStore
from shared.database.usage_topic import PostgresUsageTopic, accept_topic, topic_generations
from shared.domain.usage import ReadTopic
from shared.errors import UnavailableError
from shared.kafka import offset_reader
from shared.kafka_topic_ends import TopicEnd, TopicEnds
from shared.settings import Settings
from tests.command_line import Shell, shell
from tests.conformance.test_usage_store import LICENSE, taken
from tests.integration.usage_rig import UsageRig, an_event, usage_rig

__all__ = ["shell"]
pytestmark = [pytest.mark.asyncio, pytest.mark.services]

NOW = datetime(2027, 3, 1, 4, 0, tzinfo=UTC)
FIRST, SECOND = UUID(int=1), UUID(int=2)


@asynccontextmanager
async def end_of(rig: UsageRig) -> AsyncIterator[TopicEnds]:
    consumer = offset_reader(rig.bootstrap)
    await consumer.start()
    try:
        yield TopicEnds(consumer, rig.topic, USAGE_REPORTED_PARTITIONS)
    finally:
        await consumer.stop()


async def made_anew(rig: UsageRig, before: TopicEnd) -> TopicEnd:
    """Delete the topic and make it again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=rig.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([rig.topic])
        deadline = time.monotonic() + 60
        while rig.topic in await admin.list_topics():  # told of for a moment after it was deleted
            assert time.monotonic() < deadline, "the topic is still told of"
            await asyncio.sleep(0.05)
    finally:
        await admin.close()
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline, "the topic was not made anew"
        try:
            await apply_topics(Settings(kafka_bootstrap=rig.bootstrap, topic_prefix=rig.prefix))
            async with end_of(rig) as ends:
                after = await ends.read()
        except UnavailableError:
            pass
        else:
            if after.topic_id != before.topic_id:
                return after
        await asyncio.sleep(0.2)


@pytest.mark.timeout(240)
async def test_a_topic_made_anew_is_read_from_its_beginning_and_not_trusted_until_people_say_so(
    kafka_server: str, topic_prefix: str, database_url: str, tmp_path: Path, shell: Shell
) -> None:
    now = datetime.now(UTC)
    old = [an_event(f"old {number}", "1", "sentGigabytes", 1, now, kind="increment") for number in range(5)]
    new = [an_event(f"new {number}", "1", "sentGigabytes", 1, now, kind="increment") for number in range(3)]
    with usage_rig(kafka_server, topic_prefix, database_url, tmp_path) as rig:
        await rig.prepare({"1": {"product": "CloudTransfer"}})
        first = rig.start_worker()
        await rig.publish([(5, event) for event in old])
        await rig.until_taken_in(seconds=60)
        async with end_of(rig) as ends:
            before = await ends.read()

        after = await made_anew(rig, before)
        await rig.publish([(5, event) for event in (old[0], *new)])

        assert await asyncio.to_thread(first.wait, 60) == 1
        rig.start_worker()
        # Not the end: the first worker's mark of the topic before, 5, is beyond it, and it may have counted the new
        # events in its own generation.
        await rig.until_watermark(5, 4, seconds=60)
        assert (await rig.query("SELECT count(*) AS counted FROM usage_event"))[0]["counted"] == 8
        async with open_pool(database_url) as pool:
            read = await PostgresUsageTopic(pool).read()
        assert (read.generation, read.topic_id, read.is_accepted) == (2, after.topic_id, False)
        assert (before.last[5], read.watermark[5]) == (5, 4)

    shell.export(database_url=database_url)
    shown = await asyncio.to_thread(shell.keyway, "usage", "topic")
    assert "NOT ACCEPTED" in shown.out
    assert "5 records of the one before were read" in shown.out
    assert (await asyncio.to_thread(shell.keyway, "usage", "topic", "--accept")).status == 2
    done = await asyncio.to_thread(shell.keyway, "usage", "topic", "--accept", "--reason", "sent again", "--json")
    assert done.document["accepted"] == [2]
    assert (await asyncio.to_thread(shell.keyway, "usage", "topic", "--accept", "--reason", "again")).status == 1


@asynccontextmanager
async def record(database_url: str) -> AsyncIterator[tuple[PostgresUsageTopic, Pool]]:
    async with open_pool(database_url) as pool:
        yield PostgresUsageTopic(pool), pool


async def test_another_topic_begins_a_generation_and_shuts_out_who_still_reads_the_one_before(
    database_url: str,
) -> None:
    old, new = PostgresUsageStore(database_url), PostgresUsageStore(database_url, generation=2)
    async with record(database_url) as (topic, _):
        assert await topic.read() == ReadTopic()
        first = await topic.look(FIRST, has_fallen=False, now=NOW)
        await old.take([taken("1", "2", offset=8)], {3: 9}, received_at=NOW)
        assert await topic.look(FIRST, has_fallen=False, now=NOW) == ReadTopic(topic_id=FIRST, watermark=(0, 0, 0, 9))

        second = await topic.look(SECOND, has_fallen=False, now=NOW)
        for events in ([], [taken("2")]):
            with pytest.raises(UnavailableError, match="made anew"):
                await old.take(events, {3: 10}, received_at=NOW)
        await new.take([taken("3", "5", offset=0)], {3: 1}, received_at=NOW)

        assert first == ReadTopic(topic_id=FIRST)
        assert second == ReadTopic(topic_id=SECOND, generation=2, is_accepted=False)
        assert (await topic.read()).watermark == (0, 0, 0, 1)
    async with connected(database_url) as connection:
        on_file = (await license_usage(connection, LICENSE)).on_file
        assert (on_file.generation, on_file.is_accepted) == (2, False)
        assert await accept_topic(connection, "sent again", NOW) == [2]
        assert (await license_usage(connection, LICENSE)).on_file.is_accepted
        told = await topic_generations(connection)
    assert [(each.generation, list(each.earlier_watermark), each.reason) for each in told] == [
        (1, [], ""),
        (2, [0, 0, 0, 9], "sent again"),
    ]
    await old.close()
    await new.close()


async def test_many_who_notice_at_once_begin_one_generation(database_url: str) -> None:
    async with record(database_url) as (topic, _):
        await topic.look(FIRST, has_fallen=False, now=NOW)
        found = await asyncio.gather(*(topic.look(SECOND, has_fallen=False, now=NOW) for _ in range(4)))
    assert {each.generation for each in found} == {2}


async def test_an_end_below_what_was_read_before_topics_were_on_record_is_another_topic(database_url: str) -> None:
    store = PostgresUsageStore(database_url)
    await store.take([], {3: 9}, received_at=NOW)
    async with record(database_url) as (topic, _):
        found = await topic.look(FIRST, has_fallen=True, now=NOW)
    assert found == ReadTopic(topic_id=FIRST, generation=2, is_accepted=False)
    await store.close()
