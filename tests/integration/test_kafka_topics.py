"""`keyway topics apply` on a real broker: creates, repairs, repeats, refuses."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from keyway.cli.topics import apply_topics, read_declaration
from shared.contracts.topics import LICENSE_COMMANDS, LICENSE_EVENTS
from shared.errors import ConfigurationError, UnavailableError
from shared.settings import Settings

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def settings_now(client: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    (answer,) = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {entry[0]: entry[1] for entry in answer.resources[0][4]}


async def settings_like(client: AIOKafkaAdminClient, topic: str, wanted: dict[str, str]) -> dict[str, str]:
    """Look until the broker tells `wanted`: it learns of a change a moment after it was taken."""
    now: dict[str, str] = {}
    for _ in range(100):
        now = await settings_now(client, topic)
        if wanted.items() <= now.items():
            break
        await asyncio.sleep(0.05)
    return now


async def test_topics_are_created_as_declared_and_a_repeat_changes_nothing(
    kafka_server: str, topic_prefix: str
) -> None:
    settings = Settings(kafka_bootstrap=kafka_server, topic_prefix=topic_prefix)
    declared = read_declaration()

    first = await apply_topics(settings)
    again = await apply_topics(settings)

    assert len(first) == len(declared.topics)
    assert again == []
    async with admin(kafka_server) as client:
        described = await client.describe_topics([topic_prefix + name for name in declared.topics])
        assert {topic["topic"]: len(topic["partitions"]) for topic in described} == {
            topic_prefix + name: topic.partitions for name, topic in declared.topics.items()
        }
        for name, topic in declared.topics.items():
            now = await settings_now(client, topic_prefix + name)
            assert declared.settings_of(topic, 1).items() <= now.items()


async def test_whoever_comes_next_can_write_at_once(
    kafka_server: str, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Leaders that are told of are not yet at work: they refuse records until they have made their logs."""
    await apply_topics(Settings(kafka_bootstrap=kafka_server, topic_prefix=topic_prefix))
    producer = AIOKafkaProducer(bootstrap_servers=kafka_server, acks="all")
    await producer.start()
    try:
        for name, topic in read_declaration().topics.items():
            await producer.send_and_wait(topic_prefix + name, b"value", b"key", partition=topic.partitions - 1)
    finally:
        await producer.stop()

    assert [told.getMessage() for told in caplog.records if topic_prefix in told.getMessage()] == []


async def test_changed_setting_is_set_back_and_told(kafka_server: str, topic_prefix: str) -> None:
    settings = Settings(kafka_bootstrap=kafka_server, topic_prefix=topic_prefix)
    topic = topic_prefix + LICENSE_EVENTS
    await apply_topics(settings)
    async with admin(kafka_server) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "50005"})])
        await settings_like(client, topic, {"retention.ms": "50005"})

        changes = await apply_topics(settings)

        assert f"set {topic} retention.ms=604800000 (was 50005)" in changes
        now = await settings_like(client, topic, {"retention.ms": "604800000"})
        assert now["retention.ms"] == "604800000"


async def test_wrong_partition_count_is_refused_and_nothing_else_is_touched(
    kafka_server: str, topic_prefix: str
) -> None:
    settings = Settings(kafka_bootstrap=kafka_server, topic_prefix=topic_prefix)
    async with admin(kafka_server) as client:
        await client.create_topics([NewTopic(topic_prefix + LICENSE_COMMANDS, 3, 1)])
        for _ in range(100):
            if topic_prefix + LICENSE_COMMANDS in await client.list_topics():
                break
            await asyncio.sleep(0.05)

        with pytest.raises(ConfigurationError, match="has 3 partitions, declared are 24"):
            await apply_topics(settings)

        ours = [topic for topic in await client.list_topics() if topic.startswith(topic_prefix)]
        assert ours == [topic_prefix + LICENSE_COMMANDS]


async def test_two_at_once_both_end_well(kafka_server: str, topic_prefix: str) -> None:
    settings = Settings(kafka_bootstrap=kafka_server, topic_prefix=topic_prefix)

    await asyncio.gather(apply_topics(settings), apply_topics(settings))

    assert await apply_topics(settings) == []


async def test_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 "):
        await apply_topics(Settings(kafka_bootstrap="127.0.0.1:1"))


@pytest.mark.timeout(240)
async def test_verb_prints_changes_as_json(kafka_server: str, topic_prefix: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "KEYWAY_KAFKA_BOOTSTRAP": kafka_server, "KEYWAY_TOPIC_PREFIX": topic_prefix}
    command = [sys.executable, "-m", "keyway", "topics", "apply", "--json"]

    first, again = [
        await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, timeout=100, check=True
        )
        for _ in range(2)
    ]

    assert len(orjson.loads(first.stdout)["changes"]) == len(read_declaration().topics)
    assert orjson.loads(again.stdout) == {"changes": []}
