"""The publisher: one batch out per partition, full batches continued, failures told to those who wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from aiokafka.errors import KafkaConnectionError

from gateway.command_publisher import CommandPublisher
from shared.kafka import BatchBuilder, Headers, RecordMetadata, RecordProducer

pytestmark = pytest.mark.asyncio

RECORDS_PER_BATCH = 3


class SmallBatch:
    """Takes three records."""

    def __init__(self) -> None:
        self.values: list[bytes | None] = []

    def append(
        self,
        *,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
    ) -> object | None:
        if len(self.values) == RECORDS_PER_BATCH:
            return None
        self.values.append(value)
        return object()


class HeldProducer:
    """Keeps what it is sent until the test acknowledges it."""

    def __init__(self) -> None:
        self.out: list[tuple[int, list[bytes | None], asyncio.Future[RecordMetadata]]] = []
        self.refuses = False

    def create_batch(self) -> BatchBuilder:
        return SmallBatch()

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[RecordMetadata]:
        assert topic == "commands"
        assert isinstance(batch, SmallBatch)
        if self.refuses:
            raise KafkaConnectionError
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        self.out.append((partition, batch.values, future))
        return future

    def acknowledge(self, place: int) -> None:
        self.out[place][2].set_result(cast("RecordMetadata", object()))


@asynccontextmanager
async def publishing(producer: HeldProducer) -> AsyncIterator[tuple[CommandPublisher, list[bytes]]]:
    unknown: list[bytes] = []
    publisher = CommandPublisher(cast("RecordProducer", producer), "commands", partitions=2)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(publisher.run(unknown.extend))
        yield publisher, unknown
        task.cancel()


def publish(publisher: CommandPublisher, partition: int, *values: bytes) -> None:
    for value in values:
        publisher.publish(partition, b"key", value, [], value)


async def turns(count: int = 5) -> None:
    for _turn in range(count):
        await asyncio.sleep(0)


async def test_what_comes_together_leaves_together() -> None:
    producer = HeldProducer()
    async with publishing(producer) as (publisher, _unknown):
        publish(publisher, 0, b"a", b"b")
        publish(publisher, 1, b"c")
        await turns()
    assert [(partition, values) for partition, values, _ in producer.out] == [(0, [b"a", b"b"]), (1, [b"c"])]


async def test_the_next_batch_of_a_partition_waits_for_the_acknowledgment_of_the_one_before() -> None:
    producer = HeldProducer()
    async with publishing(producer) as (publisher, unknown):
        publish(publisher, 0, b"a")
        await turns()
        publish(publisher, 0, b"b", b"c")
        await turns()
        assert [values for _, values, _ in producer.out] == [[b"a"]]
        producer.acknowledge(0)
        await turns()
        assert [values for _, values, _ in producer.out] == [[b"a"], [b"b", b"c"]]
        assert unknown == []


async def test_a_full_batch_continues_in_the_next_in_order() -> None:
    producer = HeldProducer()
    values = [b"%d" % number for number in range(8)]
    async with publishing(producer) as (publisher, _unknown):
        publish(publisher, 0, *values)
        for place in range(3):
            await turns()
            producer.acknowledge(place)
    assert [value for _, batch, _ in producer.out for value in batch] == values


async def test_a_failed_acknowledgment_is_told_and_the_next_batch_goes_out() -> None:
    producer = HeldProducer()
    async with publishing(producer) as (publisher, unknown):
        publish(publisher, 0, b"a", b"b")
        await turns()
        publish(publisher, 0, b"c")
        producer.out[0][2].set_exception(KafkaConnectionError())
        await turns()
        assert unknown == [b"a", b"b"]
        assert producer.out[1][1] == [b"c"]


async def test_a_producer_that_takes_nothing_is_told_and_tried_again_for_the_next() -> None:
    producer = HeldProducer()
    async with publishing(producer) as (publisher, unknown):
        producer.refuses = True
        publish(publisher, 0, b"a")
        await turns()
        assert unknown == [b"a"]
        producer.refuses = False
        publish(publisher, 0, b"b")
        await turns()
    assert [values for _, values, _ in producer.out] == [[b"b"]]
