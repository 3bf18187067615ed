"""One batch subscriber in the only shape that loses nothing, hosted by FastStream.

Why each option is as it is:
- `AckPolicy.MANUAL`: every other policy commits or seeks by itself; offsets are `runtime.offsets`' business alone.
- own parser and decoder, one parameter each: the library's decode every header strictly, and one bad header would
  drop its whole batch unseen; JSON is read later, record by record.
- `no_reply`: a `reply_to` header must not make the library publish anything.
- `batch_timeout_ms=2`: after an empty poll the library sleeps that long once more.
- `fetch_max_wait_ms=100`: a partition drained while a fetch is parked waits for its return.
- `auto_offset_reset="earliest"`: the first worker ever must see commands sent before it joined.
- `request_timeout_ms=40_000`: it bounds JoinGroup too, and must stay above the rebalance time-out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaAckableMessage
from faststream.kafka.subscriber.usecase import BatchSubscriber

from shared.kafka import BATCH_LIMIT_BYTES, ConsumedRecord, RecordConsumer
from shared.kafka_ending import cut_off
from shared.telemetry.metrics import WorkerMetrics
from workers.runtime.careful_consumer import CarefulConsumer
from workers.runtime.lane import POLL_RECORDS_MAX, Lane
from workers.runtime.offsets import OffsetCommitter

BATCH_TIMEOUT_MS = 2
FETCH_MAX_WAIT_MS = 100
FETCH_BYTES_MAX = 16 * 1024 * 1024
"""Of one fetch over all partitions; a single record above the limits is still handed out."""
REQUEST_TIMEOUT_MS = 40_000
REBALANCE_TIMEOUT_SECONDS = 20.0
HEARTBEAT_SECONDS_MAX = 1.0
REVOKE_SECONDS = 10.0
"""A running batch is waited for this long when partitions are taken away; well within the rebalance time-out."""
CLOSE_SECONDS = 3.0

log = structlog.get_logger()


class DrainListener(ConsumerRebalanceListener):  # type: ignore[misc] # the library is untyped
    """Gives partitions up in order: nothing new, running batches end, offsets are committed, all is forgotten."""

    def __init__(self, lane: Lane, offsets: OffsetCommitter, metrics: WorkerMetrics) -> None:
        self._lane = lane
        self._offsets = offsets
        self._metrics = metrics
        self.is_member = False
        self.assigned_count = 0

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Let go of everything; the protocol takes all partitions on every rebalance."""
        self.is_member = False
        if not revoked:
            return
        self._metrics.rebalances.inc()
        ended = await self._lane.revoke(seconds=REVOKE_SECONDS)
        committed = await self._offsets.commit()
        self._offsets.forget()
        log.info(
            "worker.partitions.revoked",
            partitions=len(revoked),
            outcome="drained" if ended and committed else "abandoned",
        )

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Begin anew, possibly with nothing: then this worker stands by."""
        self._offsets.forget()
        self.is_member = True
        self.assigned_count = len(assigned)
        self._metrics.partitions_assigned.set(len(assigned))
        log.info("worker.partitions.assigned", partitions=len(assigned))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A running or startable subscriber of one topic."""

    broker: KafkaBroker
    subscriber: BatchSubscriber
    listener: DrainListener

    @property
    def consumer(self) -> RecordConsumer | None:
        """The consumer, between start and stop."""
        consumer: RecordConsumer | None = self.subscriber.consumer
        return consumer

    @property
    def is_started(self) -> bool:
        """Whether the loop that polls Kafka has been started and not stopped."""
        return bool(self.subscriber.tasks)

    @property
    def is_polling(self) -> bool:
        """Whether the loop that polls Kafka is the one first started: a revived one may have lost records."""
        return len(self.subscriber.tasks) == 1 and not self.subscriber.tasks[0].done()

    @property
    def is_coordinating(self) -> bool:
        """Whether the group membership, and what the client knows of the brokers, are looked after."""
        consumer = self.subscriber.consumer
        return not isinstance(consumer, CarefulConsumer) or consumer.is_coordinating

    def pause(self) -> None:
        """Fetch nothing more."""
        consumer = self.consumer
        if consumer is not None:
            consumer.pause(*consumer.assignment())

    async def close(self) -> None:
        """Leave the group and disconnect, within `CLOSE_SECONDS`: with the broker down it is left without a word."""
        consumer = self.consumer
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.broker.stop()
        except TimeoutError:
            log.warning("worker.group.not_left", timeout_seconds=CLOSE_SECONDS)
            if consumer is not None:
                await cut_off(consumer)


class CarefulBroker(KafkaBroker):
    """FastStream's broker with our consumer in place of the library's."""

    async def _connect(self) -> Callable[..., CarefulConsumer]:
        await super()._connect()
        options = cast("partial[Any]", self.config.broker_config.builder).keywords
        self.config.broker_config.builder = partial(CarefulConsumer, **options)
        return self.config.broker_config.builder


def new_broker(bootstrap: str) -> KafkaBroker:
    """Return a broker for consuming only: we publish through producers of our own (`shared.kafka`)."""
    return CarefulBroker(
        bootstrap,
        client_id="keyway-worker",
        consumer_only=True,
        apply_types=False,
        serializer=None,
        allow_auto_create_topics=False,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        graceful_timeout=CLOSE_SECONDS,
        logger=logging.getLogger("faststream"),
        log_level=logging.DEBUG,
    )


IsolationLevel = Literal["read_uncommitted", "read_committed"]


def batch_subscriber(  # noqa: PLR0913 - each is a choice of its topic, by name where it has a default
    broker: KafkaBroker,
    topic: str,
    group: str,
    listener: DrainListener,
    session_timeout_seconds: float,
    *,
    poll_timeout_ms: int = BATCH_TIMEOUT_MS,
    isolation_level: IsolationLevel = "read_uncommitted",
) -> BatchSubscriber:
    """Return the subscriber of `topic` in the safe shape, with nothing connected yet.

    `poll_timeout_ms` is latency against idle CPU: an idle worker polls every two of them. Topics that other systems
    write are read committed: what they take back must not count.
    """
    return broker.subscriber(
        topic,
        group_id=group,
        batch=True,
        max_records=POLL_RECORDS_MAX,
        batch_timeout_ms=poll_timeout_ms,
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        fetch_min_bytes=1,
        fetch_max_bytes=FETCH_BYTES_MAX,
        max_partition_fetch_bytes=BATCH_LIMIT_BYTES,
        auto_offset_reset="earliest",
        isolation_level=isolation_level,
        session_timeout_ms=int(session_timeout_seconds * 1000),
        heartbeat_interval_ms=int(min(HEARTBEAT_SECONDS_MAX, session_timeout_seconds / 3) * 1000),
        rebalance_timeout_ms=int(REBALANCE_TIMEOUT_SECONDS * 1000),
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,
        listener=listener,
        include_in_schema=False,
    )


def deliver_to(subscriber: BatchSubscriber, on_records: Callable[[Sequence[ConsumedRecord]], Awaitable[None]]) -> None:
    """Hand every batch of raw records to `on_records`, which never raises."""

    async def raw_parser(records: tuple[Any, ...]) -> KafkaAckableMessage:
        return KafkaAckableMessage(
            raw_message=records,
            body=b"",
            correlation_id="-",
            message_id="-",
            consumer=subscriber.consumer,
        )

    async def raw_decoder(message: KafkaAckableMessage) -> Any:  # noqa: ANN401 - the library's own type
        return message.raw_message

    async def on_batch(records: tuple[ConsumedRecord, ...]) -> None:
        await on_records(records)

    subscriber(on_batch, parser=raw_parser, decoder=raw_decoder)
