"""The fixtures that other tests stand on: every test has a database and topics to itself."""

import asyncio

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from shared.clock import MachineClock

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

seen: set[str] = set()


@pytest.mark.parametrize("turn", ["first", "second"])
async def test_each_test_has_a_migrated_database_of_its_own(database_url: str, turn: str) -> None:
    assert database_url not in seen
    seen.add(database_url)
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert "license" in " ".join(row["tablename"] for row in tables)
        await connection.execute(f"CREATE TABLE left_by_{turn} ()")
        left = await connection.fetch("SELECT 1 FROM pg_tables WHERE tablename LIKE 'left_by_%'")
        assert len(left) == 1
    finally:
        await connection.close()


@pytest.mark.parametrize("turn", ["first", "second"])
async def test_topics_of_an_earlier_test_are_gone(kafka_server: str, topic_prefix: str, turn: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(f"{topic_prefix}mine-{turn}", 1, 1)])
        async with asyncio.timeout(30):  # the fixture deletes what it is told of, which comes a moment later
            while f"{topic_prefix}mine-{turn}" not in (topics := await admin.list_topics()):
                await MachineClock().sleep(0.05)
        assert [topic for topic in topics if ".mine-" in topic and topic_prefix not in topic] == []
    finally:
        await admin.close()
