"""A license worker's outside: takes commands from Kafka and answers each, without deciding or storing anything."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.contracts.codec import decode_envelope
from shared.contracts.envelope import Envelope
from shared.contracts.replies import Reply, ReplyStatus, encode_frame, pack_frames
from shared.contracts.topics import (
    HEADER_COMMAND_ID,
    HEADER_REPLY_PARTITION,
    LICENSE_COMMANDS,
    LICENSE_COMMANDS_PARTITIONS,
    LICENSE_REPLIES,
)
from shared.kafka import ConsumedRecord, RecordProducer, reply_producer

Answer = Callable[[Envelope], Sequence[Reply]]
"""The replies to one command: none, one, or more than one."""


def numbered_body(envelope: Envelope) -> Sequence[Reply]:
    """Answer with the license's own number."""
    return [Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15", envelope.command.number.encode())]


class Replier:
    """Reads all commands from now on; `seen` keeps them with their headers."""

    def __init__(self, producer: RecordProducer, prefix: str, answer: Answer) -> None:
        self.answer = answer
        self.paused = asyncio.Event()
        self.paused.set()
        """Cleared: nothing is answered."""
        self.seen: list[tuple[Envelope, Mapping[str, bytes | None], int]] = []
        self._producer = producer
        self._topic = prefix + LICENSE_REPLIES

    async def send(self, reply_partition: int, frames: Sequence[bytes]) -> None:
        """Send frames to a gateway."""
        for value in pack_frames(frames):
            await self._producer.send(self._topic, value, partition=reply_partition)

    async def take(self, records: Sequence[ConsumedRecord]) -> None:
        """Answer a batch: the replies to one gateway leave together."""
        frames: dict[int, list[bytes]] = defaultdict(list)
        for record in records:
            headers = dict(record.headers)
            envelope, _digest = decode_envelope(record.value)
            self.seen.append((envelope, headers, record.partition))
            partition = _number(headers)
            frames[partition] += [
                encode_frame(headers[HEADER_COMMAND_ID] or b"", reply) for reply in self.answer(envelope)
            ]
        for partition, batch in frames.items():
            await self.send(partition, batch)


def _number(headers: Mapping[str, bytes | None]) -> int:
    return int.from_bytes(headers[HEADER_REPLY_PARTITION] or b"", "big")


@asynccontextmanager
async def replying(bootstrap: str, prefix: str, answer: Answer = numbered_body) -> AsyncIterator[Replier]:
    """Answer commands while the block runs."""
    producer = reply_producer(bootstrap)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="latest", fetch_max_wait_ms=100
    )
    partitions = [TopicPartition(prefix + LICENSE_COMMANDS, number) for number in range(LICENSE_COMMANDS_PARTITIONS)]
    consumer.assign(partitions)
    await producer.start()
    await consumer.start()
    for partition in partitions:
        await consumer.position(partition)
    replier = Replier(producer, prefix, answer)

    async def work() -> None:
        while True:
            polled = await consumer.getmany(timeout_ms=100)
            await replier.paused.wait()
            records = [record for batch in polled.values() for record in batch]
            if records:
                await replier.take(records)

    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work())
            try:
                yield replier
            finally:
                task.cancel()
    finally:
        await consumer.stop()
        await producer.stop()
