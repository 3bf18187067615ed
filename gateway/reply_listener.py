"""The ear of the command bus: this gateway's own partition of `license.replies`, and the canary that proves it hears.

The partition is read without a group from its end on. `gateway.app.open_bus` hands the bus out only once that end is
known and a canary has come back: a reply that arrived before the position was resolved would be lost
(docs/protocols/isv-endpoint.md 8.3).
"""

import asyncio

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from gateway.command_bus import CommandBus
from shared.clock import SystemClock
from shared.contracts.envelope import new_id
from shared.contracts.replies import Reply, ReplyStatus, encode_frame, pack_frames, unpack_frames
from shared.errors import InvalidRecordError, UnavailableError
from shared.kafka import RecordConsumer, RecordMetadata, RecordProducer
from shared.patience import patience
from shared.telemetry.metrics import GatewayMetrics

POSITION_SECONDS = 10.0
POLL_MS = 1000
RETRY_SECONDS = 0.2
LATE_CANARIES_MAX = 64
"""So many canaries that nobody waits for any more are still known when they come: they are no late replies."""
CANARY = Reply(ReplyStatus.TERMINATED, b"", b"")

log = structlog.get_logger()


class ReplyListener:
    """Reads one reply partition and hands every reply to the bus."""

    __slots__ = ("_bus", "_canaries", "_clock", "_consumer", "_metrics", "_partition", "_producer", "_topic")

    def __init__(  # noqa: PLR0913 - one argument per collaborator, all by name
        self,
        *,
        consumer: RecordConsumer,
        producer: RecordProducer,
        bus: CommandBus,
        topic: str,
        partition: int,
        clock: SystemClock,
        metrics: GatewayMetrics,
    ) -> None:
        """Consumer and producer are started and stopped by the caller; the consumer reads nothing else."""
        self._consumer = consumer
        self._producer = producer
        self._bus = bus
        self._topic = topic
        self._partition = partition
        self._clock = clock
        self._metrics = metrics
        self._canaries: dict[bytes, asyncio.Future[None]] = {}

    async def resolve_position(self) -> None:
        """Pin the end of the partition. Raises `UnavailableError` when the broker does not tell in time."""
        partition = TopicPartition(self._topic, self._partition)
        try:
            async with asyncio.timeout(POSITION_SECONDS):
                await self._consumer.position(partition)
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(
                f"no position in {self._topic} partition {self._partition} ({type(error).__name__}): "
                "is the topic there? run `keyway topics apply`"
            ) from None

    async def run(self) -> None:
        """Read replies, for ever. A broker that does not answer is asked again."""
        while True:
            try:
                polled = await self._consumer.getmany(timeout_ms=POLL_MS)
            except KafkaError as error:
                log.warning("gateway.replies.poll_failed", error_class=type(error).__name__)
                await self._clock.sleep(RETRY_SECONDS)
                continue
            for records in polled.values():
                for record in records:
                    if record.value is not None:
                        self._take(record.value)

    def _take(self, value: bytes) -> None:
        try:
            for correlation_id, reply in unpack_frames(value):
                if self._bus.take(correlation_id, reply):
                    continue
                canary = self._canaries.pop(correlation_id, None)
                if canary is None:
                    self._metrics.replies_dropped["late"].inc()
                elif not canary.done():
                    canary.set_result(None)
        except InvalidRecordError as error:
            self._metrics.replies_dropped["unreadable"].inc()
            log.warning("gateway.reply.unreadable", reason=error.reason, detail=error.detail)

    async def canary(self, *, timeout_seconds: float) -> float:
        """Send a reply to ourselves through the command producer and return the seconds until it was heard.

        Raises `TimeoutError` or `KafkaError`. Needs `run` to run.
        """
        started = self._clock.monotonic()
        correlation_id = new_id().bytes
        heard = self._canaries[correlation_id] = asyncio.get_running_loop().create_future()
        (value,) = pack_frames([encode_frame(correlation_id, CANARY)])
        try:
            async with patience(timeout_seconds):
                sent = await self._producer.send(self._topic, value, partition=self._partition)
                sent.add_done_callback(_seen)
                await heard
        finally:
            while len(self._canaries) > LATE_CANARIES_MAX:
                del self._canaries[next(iter(self._canaries))]
        seconds = self._clock.monotonic() - started
        self._metrics.canary_seconds.set(seconds)
        return seconds


def _seen(acknowledgment: asyncio.Future[RecordMetadata]) -> None:
    """Look at a failure, so that the loop does not complain: the canary that is not heard tells enough."""
    if not acknowledgment.cancelled():
        acknowledgment.exception()
