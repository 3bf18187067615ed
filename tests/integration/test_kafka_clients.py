"""Our Kafka clients as made, on a real broker; and every subscriber in the shape that loses nothing."""

import ast
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from faststream import AckPolicy
from faststream.kafka.subscriber.usecase import BatchSubscriber
from prometheus_client import CollectorRegistry

from keyway.cli.topics import apply_topics
from shared.contracts.topics import LICENSE_COMMANDS, LICENSE_REPLIES, LICENSE_REPLIES_PARTITIONS
from shared.errors import ConfigurationError, UnavailableError
from shared.kafka import (
    RECORD_HEAD_BYTES,
    RECORD_LIMIT_BYTES,
    acknowledged,
    command_producer,
    dead_letter_producer,
    event_producer,
    is_sending,
    reply_consumer,
    reply_producer,
    require_c_extensions,
    start_client,
    warm_up,
)
from shared.settings import Settings
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import WorkerMetrics
from tests.integration.worker_rig import CLOCK, MemoryHandler, surroundings
from workers.license.subscriber import license_commands

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).resolve().parents[2]


async def test_reply_goes_from_producer_to_an_assigned_consumer(kafka_server: str, topic_prefix: str) -> None:
    await apply_topics(Settings(kafka_bootstrap=kafka_server, topic_prefix=topic_prefix))
    producer, consumer = reply_producer(kafka_server), reply_consumer(kafka_server)
    slot = TopicPartition(topic_prefix + LICENSE_REPLIES, 17)
    await start_client(producer, kafka_server)
    await start_client(consumer, kafka_server)
    try:
        consumer.assign([slot])
        assert await consumer.position(slot) == 0
        await warm_up(producer, {slot.topic: LICENSE_REPLIES_PARTITIONS})

        sent = await acknowledged(await producer.send(slot.topic, b"frame", partition=17))
        (record,) = (await consumer.getmany(timeout_ms=30_000))[slot]

        assert (record.offset, record.value) == (sent.offset, b"frame")
        assert is_sending(producer)
    finally:
        await producer.stop()
        await consumer.stop()
    assert not is_sending(producer)


@pytest.mark.parametrize("make", [command_producer, dead_letter_producer])
async def test_largest_record_is_taken_by_the_broker(make: object, kafka_server: str, topic_prefix: str) -> None:
    await apply_topics(Settings(kafka_bootstrap=kafka_server, topic_prefix=topic_prefix))
    suffix = ".dead" if make is dead_letter_producer else ""
    producer = (dead_letter_producer if suffix else command_producer)(kafka_server)
    await start_client(producer, kafka_server)
    try:
        value = bytes(RECORD_LIMIT_BYTES - 2 * RECORD_HEAD_BYTES)
        sent = await acknowledged(await producer.send(topic_prefix + LICENSE_COMMANDS + suffix, value, partition=0))
    finally:
        await producer.stop()

    assert sent.offset == 0


async def test_topic_with_another_partition_count_is_refused(kafka_server: str, topic_prefix: str) -> None:
    await apply_topics(Settings(kafka_bootstrap=kafka_server, topic_prefix=topic_prefix))
    producer = event_producer(kafka_server)
    await start_client(producer, kafka_server)
    try:
        with pytest.raises(ConfigurationError, match="24 partitions, not 23"):
            await warm_up(producer, {topic_prefix + LICENSE_COMMANDS: 23})
    finally:
        await producer.stop()


async def test_broker_that_is_not_there_is_named_and_the_client_is_closed() -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 "):
        await start_client(command_producer("127.0.0.1:1"), "127.0.0.1:1")


async def test_compiled_record_code_is_in_use() -> None:
    require_c_extensions()


async def test_license_subscriber_acknowledges_nothing_by_itself() -> None:
    metrics, readiness = WorkerMetrics.bound_to(CollectorRegistry()), Readiness(CLOCK)
    producers = [reply_producer("127.0.0.1:1"), dead_letter_producer("127.0.0.1:1")]
    consumption = license_commands(MemoryHandler(), surroundings("127.0.0.1:1", "", producers, readiness, metrics))
    for producer in producers:
        await producer.stop()

    (subscriber,) = consumption.subscription.broker.subscribers
    assert isinstance(subscriber, BatchSubscriber)
    assert subscriber.ack_policy is AckPolicy.MANUAL
    assert subscriber._no_reply
    options = subscriber._connection_args
    assert options["enable_auto_commit"] is False
    assert options["auto_offset_reset"] == "earliest"
    assert options["fetch_max_wait_ms"] == 100
    assert options["rebalance_timeout_ms"] < 40_000, "JoinGroup must be answered before the request times out"
    assert options["heartbeat_interval_ms"] * 3 <= options["session_timeout_ms"]


async def test_subscribers_are_made_in_one_place_and_name_their_ack_policy() -> None:
    calls = [
        (path.relative_to(ROOT).as_posix(), node)
        for package in ("gateway", "workers", "shared", "keyway")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "subscriber"
    ]

    assert [path for path, _ in calls] == ["workers/runtime/subscription.py"]
    assert all("ack_policy" in {keyword.arg for keyword in call.keywords} for _, call in calls)
