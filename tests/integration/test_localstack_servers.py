"""The embedded servers themselves: they answer, they forget nothing they promised, they recover from any kill."""

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

pytestmark = [pytest.mark.asyncio, pytest.mark.services]


async def test_postgres_server_is_a_real_version_18(postgres_server: str) -> None:
    connection = await asyncpg.connect(postgres_server)
    try:
        assert connection.get_server_version().major == 18
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    finally:
        await connection.close()


async def test_kafka_server_keeps_a_record_and_makes_no_topic_by_itself(kafka_server: str, topic_prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server)
    await admin.start()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_server, acks="all")
    await producer.start()
    try:
        await admin.create_topics([NewTopic(f"{topic_prefix}kept", 1, 1)])
        stored = await producer.send_and_wait(f"{topic_prefix}kept", b"value")
        assert stored.offset == 0
        await admin.describe_topics([f"{topic_prefix}typing-slip"])
        assert f"{topic_prefix}typing-slip" not in await admin.list_topics()
    finally:
        await producer.stop()
        await admin.close()
