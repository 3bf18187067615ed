"""Where license commands come in: the topic, the lane behind it, and everything that keeps its offsets honest."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shared.clock import SystemClock
from shared.contracts.topics import LICENSE_COMMANDS, LICENSE_REPLIES, LICENSE_WORKER_GROUP
from shared.kafka import ConsumedRecord, RecordConsumer, RecordProducer
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import WorkerMetrics
from workers.license.batch import CommandBatchWorker, CommandHandler
from workers.license.replies import ReplyOffice
from workers.runtime.consumption import Consumption
from workers.runtime.dead_letters import DeadLetters
from workers.runtime.lane import Lane
from workers.runtime.offsets import OffsetCommitter
from workers.runtime.subscription import DrainListener, Subscription, batch_subscriber, deliver_to, new_broker
from workers.runtime.watch import WorkerWatch
from workers.runtime.watermark import Watermarks


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a license worker stands on; made by the composition root."""

    bootstrap: str
    topic_prefix: str
    session_timeout_seconds: float
    replies: RecordProducer
    dead_letters: RecordProducer
    ask_database: Callable[[], Awaitable[None]]
    readiness: Readiness
    metrics: WorkerMetrics
    clock: SystemClock
    chance: Callable[[], float]
    """Draws from [0, 1), for back-off."""
    when_joined: Callable[[], None]


def license_commands(handler: CommandHandler, around: Surroundings) -> Consumption:
    """Return the consumption of `license.commands` by `handler`, with nothing connected yet."""
    topic = around.topic_prefix + LICENSE_COMMANDS
    watermarks = Watermarks()
    lane = Lane(_batch_worker(handler, around), watermarks, around.clock)

    def consumer() -> RecordConsumer | None:
        return subscription.consumer

    offsets = OffsetCommitter(
        topic=topic, watermarks=watermarks, consumer=consumer, metrics=around.metrics, clock=around.clock
    )
    listener = DrainListener(lane, offsets, around.metrics)
    broker = new_broker(around.bootstrap)
    subscriber = batch_subscriber(
        broker, topic, around.topic_prefix + LICENSE_WORKER_GROUP, listener, around.session_timeout_seconds
    )

    async def on_license_commands(records: Sequence[ConsumedRecord]) -> None:
        await lane.submit(records)

    deliver_to(subscriber, on_license_commands)
    subscription = Subscription(broker=broker, subscriber=subscriber, listener=listener)
    watch = WorkerWatch(
        topic=topic,
        readiness=around.readiness,
        subscription=subscription,
        lane=lane,
        producers=(around.replies, around.dead_letters),
        ask_database=around.ask_database,
        metrics=around.metrics,
        clock=around.clock,
    )
    return Consumption(
        subscription=subscription, lane=lane, offsets=offsets, watch=watch, when_joined=around.when_joined
    )


def _batch_worker(handler: CommandHandler, around: Surroundings) -> CommandBatchWorker:
    return CommandBatchWorker(
        handler=handler,
        replies=ReplyOffice(
            producer=around.replies, topic=around.topic_prefix + LICENSE_REPLIES, metrics=around.metrics
        ),
        dead_letters=DeadLetters(producer=around.dead_letters, metrics=around.metrics),
        clock=around.clock,
        chance=around.chance,
        metrics=around.metrics,
    )
