"""Commands on their way to Kafka: one batch out per partition, the next one gathers meanwhile.

`publish` only puts a record into the open batch of its partition, so a request costs no coroutine and no future of its
own; all commands of a batch share one acknowledgment. Nobody waits for it: a failure is told to `run`'s `on_unknown`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from aiokafka.errors import KafkaError

from shared.kafka import RECORD_HEAD_BYTES, RECORD_LIMIT_BYTES, BatchBuilder, Headers, RecordMetadata, RecordProducer

VALUE_BYTES_MAX = RECORD_LIMIT_BYTES - 4 * RECORD_HEAD_BYTES


def _nobody_waits(_correlation_ids: list[bytes]) -> None:
    """Stand in until `run` knows who waits."""


class _Batch:
    """Records that go out together, and whose they are."""

    __slots__ = ("builder", "correlation_ids")

    def __init__(self, builder: BatchBuilder) -> None:
        self.builder = builder
        self.correlation_ids: list[bytes] = []


class _Lane:
    """One partition: what gathers, and whether something is out."""

    __slots__ = ("batches", "is_out", "partition")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.batches: deque[_Batch] = deque()
        """More than one only while the broker is slow; bounded by the requests in flight."""
        self.is_out = False


class CommandPublisher:
    """Sends commands through one producer. `run` must run for as long as `publish` is called."""

    __slots__ = ("_lanes", "_on_unknown", "_producer", "_ready", "_topic", "_wake")

    def __init__(self, producer: RecordProducer, topic: str, *, partitions: int) -> None:
        """`topic` has `partitions`; nobody else sends to it through `producer`."""
        self._producer = producer
        self._topic = topic
        self._on_unknown: Callable[[list[bytes]], None] = _nobody_waits
        self._lanes = [_Lane(partition) for partition in range(partitions)]
        self._ready: deque[_Lane] = deque()
        self._wake = asyncio.Event()

    def publish(self, partition: int, key: bytes, value: bytes, headers: Headers, correlation_id: bytes) -> None:
        """Put one command on its way. `value` is at most `VALUE_BYTES_MAX` long."""
        lane = self._lanes[partition]
        if not lane.batches:
            lane.batches.append(_Batch(self._producer.create_batch()))
            if not lane.is_out:
                self._ready.append(lane)
                self._wake.set()
        batch = lane.batches[-1]
        if batch.builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            batch = _Batch(self._producer.create_batch())
            batch.builder.append(timestamp=None, key=key, value=value, headers=headers)  # an empty batch takes any size
            lane.batches.append(batch)
        batch.correlation_ids.append(correlation_id)

    async def run(self, on_unknown: Callable[[list[bytes]], None]) -> None:
        """Hand gathered batches to the producer, for ever.

        `on_unknown` gets the correlation ids of commands that may or may not have been written.
        """
        self._on_unknown = on_unknown
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ready:
                await self._send(self._ready.popleft())

    async def _send(self, lane: _Lane) -> None:
        batch = lane.batches.popleft()
        lane.is_out = True
        try:
            acknowledgment = await self._producer.send_batch(batch.builder, self._topic, partition=lane.partition)
        except (KafkaError, AssertionError):  # the library asserts that the partition exists
            self._settled(lane, batch, None)
        else:
            acknowledgment.add_done_callback(partial(self._settled, lane, batch))

    def _settled(self, lane: _Lane, batch: _Batch, acknowledgment: asyncio.Future[RecordMetadata] | None) -> None:
        lane.is_out = False
        if lane.batches:
            self._ready.append(lane)
            self._wake.set()
        if acknowledgment is None or acknowledgment.cancelled() or acknowledgment.exception() is not None:
            self._on_unknown(batch.correlation_ids)
