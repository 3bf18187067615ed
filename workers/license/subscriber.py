"""Where license commands come in: the topic, the lane behind it, and everything that keeps its offsets honest."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.clock import SystemClock
from shared.contracts.topics import LICENSE_COMMANDS, LICENSE_REPLIES, LICENSE_WORKER_GROUP
from shared.kafka import RecordProducer
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import WorkerMetrics
from workers.license.batch import CommandBatchWorker, CommandHandler
from workers.license.replies import ReplyOffice
from workers.runtime.consumption import Consumption
from workers.runtime.dead_letters import DeadLetters
from workers.runtime.topic_consumption import Ground, topic_consumption


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
    ground = Ground(
        bootstrap=around.bootstrap,
        topic_prefix=around.topic_prefix,
        session_timeout_seconds=around.session_timeout_seconds,
        producers=(around.replies, around.dead_letters),
        ask_database=around.ask_database,
        readiness=around.readiness,
        metrics=around.metrics,
        clock=around.clock,
        when_joined=around.when_joined,
    )
    return topic_consumption(LICENSE_COMMANDS, LICENSE_WORKER_GROUP, _batch_worker(handler, around), ground)


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
