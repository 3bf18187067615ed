"""Where usage events come in: the topic, the lane behind it, and everything that keeps its offsets honest."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.clock import SystemClock
from shared.contracts.topics import USAGE_REPORTED, USAGE_WORKER_GROUP
from shared.kafka import RecordProducer
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import UsageMetrics, WorkerMetrics
from workers.runtime.consumption import Consumption
from workers.runtime.dead_letters import DeadLetters
from workers.runtime.lane import POLL_RECORDS_MAX
from workers.runtime.topic_consumption import Ground, topic_consumption
from workers.usage.batch import Handler, UsageBatchWorker
from workers.usage.gaps import GapKeeper

POLL_TIMEOUT_MS = 20
"""Nobody waits for a single usage event: an idle worker may look seldom."""


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
    generation: int
    """Of the topic: each is read by a group of its own, from its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageConsumption:
    """The consumption of `usage.reported`, and what keeps the stored watermark at the end of what is read."""

    consumption: Consumption
    gaps: GapKeeper


def usage_events(handler: Handler, around: UsageSurroundings) -> UsageConsumption:
    """Return the consumption of `usage.reported` by `handler`, with nothing connected yet."""
    worker = UsageBatchWorker(
        handler=handler,
        dead_letters=DeadLetters(producer=around.dead_letters, metrics=around.metrics),
        clock=around.clock,
        chance=around.chance,
        metrics=around.metrics,
        usage_metrics=around.usage_metrics,
    )
    ground = Ground(
        bootstrap=around.bootstrap,
        topic_prefix=around.topic_prefix,
        session_timeout_seconds=around.session_timeout_seconds,
        producers=(around.dead_letters,),
        ask_database=around.ask_database,
        readiness=around.readiness,
        metrics=around.metrics,
        clock=around.clock,
        when_joined=around.when_joined,
        isolation_level="read_committed",
        poll_timeout_ms=POLL_TIMEOUT_MS,
        batch_records_max=POLL_RECORDS_MAX,  # one commit to disk for a whole poll
    )
    consumption = topic_consumption(USAGE_REPORTED, group_of(around.generation), worker, ground)
    return UsageConsumption(
        consumption=consumption,
        gaps=GapKeeper(
            subscription=consumption.subscription,
            watermarks=consumption.offsets.watermarks,
            move=handler.move_watermark,
            clock=around.clock,
        ),
    )


def group_of(generation: int) -> str:
    """Return the group that reads a generation of the topic; offsets committed for another one mean nothing to it."""
    return USAGE_WORKER_GROUP if generation == 1 else f"{USAGE_WORKER_GROUP}.{generation}"
