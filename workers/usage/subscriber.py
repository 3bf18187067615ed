"""Where usage events come in: the topic, the lane behind it, and everything that keeps its offsets honest."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shared.clock import SystemClock
from shared.contracts.topics import USAGE_REPORTED, USAGE_WORKER_GROUP
from shared.kafka import ConsumedRecord, RecordConsumer, RecordProducer
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import UsageMetrics, WorkerMetrics
from workers.runtime.consumption import Consumption
from workers.runtime.dead_letters import DeadLetters
from workers.runtime.lane import Lane
from workers.runtime.offsets import OffsetCommitter
from workers.runtime.subscription import DrainListener, Subscription, batch_subscriber, deliver_to, new_broker
from workers.runtime.watch import WorkerWatch
from workers.runtime.watermark import Watermarks
from workers.usage.batch import Handler, UsageBatchWorker
from workers.usage.gaps import GapKeeper


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSurroundings:
    """What a usage worker stands on; made by the composition root."""

    bootstrap: str
    topic_prefix: str
    session_timeout_seconds: float
    dead_letters: RecordProducer
    ask_database: Callable[[], Awaitable[None]]
    readiness: Readiness
    metrics: WorkerMetrics
    usage_metrics: UsageMetrics
    clock: SystemClock
    chance: Callable[[], float]
    """Draws from [0, 1), for back-off."""
    when_joined: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageConsumption:
    """The consumption of `usage.reported`, and what keeps the stored watermark at the end of what is read."""

    consumption: Consumption
    gaps: GapKeeper


def usage_events(handler: Handler, around: UsageSurroundings) -> UsageConsumption:
    """Return the consumption of `usage.reported` by `handler`, with nothing connected yet."""
    topic = around.topic_prefix + USAGE_REPORTED
    watermarks = Watermarks()
    worker = UsageBatchWorker(
        handler=handler,
        dead_letters=DeadLetters(producer=around.dead_letters, metrics=around.metrics),
        clock=around.clock,
        chance=around.chance,
        metrics=around.metrics,
        usage_metrics=around.usage_metrics,
    )
    lane = Lane(worker, watermarks, around.clock)

    def consumer() -> RecordConsumer | None:
        return subscription.consumer

    offsets = OffsetCommitter(
        topic=topic, watermarks=watermarks, consumer=consumer, metrics=around.metrics, clock=around.clock
    )
    listener = DrainListener(lane, offsets, around.metrics)
    broker = new_broker(around.bootstrap)
    subscriber = batch_subscriber(
        broker,
        topic,
        around.topic_prefix + USAGE_WORKER_GROUP,
        listener,
        around.session_timeout_seconds,
        isolation_level="read_committed",
    )

    async def on_usage_events(records: Sequence[ConsumedRecord]) -> None:
        await lane.submit(records)

    deliver_to(subscriber, on_usage_events)
    subscription = Subscription(broker=broker, subscriber=subscriber, listener=listener)
    watch = WorkerWatch(
        topic=topic,
        readiness=around.readiness,
        subscription=subscription,
        lane=lane,
        producers=(around.dead_letters,),
        ask_database=around.ask_database,
        metrics=around.metrics,
        clock=around.clock,
    )
    return UsageConsumption(
        consumption=Consumption(
            subscription=subscription, lane=lane, offsets=offsets, watch=watch, when_joined=around.when_joined
        ),
        gaps=GapKeeper(
            subscription=subscription, watermarks=watermarks, move=handler.move_watermark, clock=around.clock
        ),
    )
