"""The consumption of one topic by one batch worker, put together: the safe subscriber, its lane and its offsets."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shared.clock import SystemClock
from shared.kafka import ConsumedRecord, RecordConsumer, RecordProducer
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import WorkerMetrics
from workers.runtime.consumption import Consumption
from workers.runtime.lane import BATCH_RECORDS_MAX, BatchWorker, Lane
from workers.runtime.offsets import OffsetCommitter
from workers.runtime.subscription import (
    BATCH_TIMEOUT_MS,
    DrainListener,
    IsolationLevel,
    Subscription,
    batch_subscriber,
    deliver_to,
    new_broker,
)
from workers.runtime.watch import WorkerWatch
from workers.runtime.watermark import Watermarks


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a consuming worker stands on; made by the composition root."""

    bootstrap: str
    topic_prefix: str
    session_timeout_seconds: float
    producers: Sequence[RecordProducer]
    """Watched: the process ends when one of them dies."""
    ask_database: Callable[[], Awaitable[None]]
    readiness: Readiness
    metrics: WorkerMetrics
    clock: SystemClock
    when_joined: Callable[[], None]
    """Called once, when everything is built and the group is joined."""
    poll_timeout_ms: int = BATCH_TIMEOUT_MS
    """Latency against idle CPU; see `subscription.batch_subscriber`."""
    isolation_level: IsolationLevel = "read_uncommitted"
    batch_records_max: int = BATCH_RECORDS_MAX
    """See `lane.Lane`."""


def topic_consumption(topic: str, group: str, worker: BatchWorker, ground: Ground) -> Consumption:
    """Return the consumption of `topic` by `worker`, with nothing connected yet. Names come without the prefix."""
    prefixed = ground.topic_prefix + topic
    watermarks = Watermarks()
    lane = Lane(worker, watermarks, ground.clock, batch_records_max=ground.batch_records_max)

    def consumer() -> RecordConsumer | None:
        return subscription.consumer

    offsets = OffsetCommitter(
        topic=prefixed, watermarks=watermarks, consumer=consumer, metrics=ground.metrics, clock=ground.clock
    )
    listener = DrainListener(lane, offsets, ground.metrics)
    broker = new_broker(ground.bootstrap)
    subscriber = batch_subscriber(
        broker,
        prefixed,
        ground.topic_prefix + group,
        listener,
        ground.session_timeout_seconds,
        poll_timeout_ms=ground.poll_timeout_ms,
        isolation_level=ground.isolation_level,
    )

    async def on_records(records: Sequence[ConsumedRecord]) -> None:
        await lane.submit(records)

    deliver_to(subscriber, on_records)
    subscription = Subscription(broker=broker, subscriber=subscriber, listener=listener)
    watch = WorkerWatch(
        topic=prefixed,
        readiness=ground.readiness,
        subscription=subscription,
        lane=lane,
        producers=ground.producers,
        ask_database=ground.ask_database,
        metrics=ground.metrics,
        clock=ground.clock,
    )
    return Consumption(
        subscription=subscription, lane=lane, offsets=offsets, watch=watch, when_joined=ground.when_joined
    )
