"""The intake role put together from what the composition root opened."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from shared.clock import BusinessClock, SystemClock
from shared.contracts.topics import INTAKE_WORKER_GROUP, LICENSE_INTAKE
from shared.kafka import RecordProducer
from shared.settings import Settings
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import IntakeMetrics, WorkerMetrics
from workers.intake.batch import IntakeBatchWorker
from workers.intake.commands_out import CommandsOut
from workers.intake.ports import RequestLog
from workers.runtime.consumption import Consumption
from workers.runtime.dead_letters import DeadLetters
from workers.runtime.topic_consumption import Ground, topic_consumption

POLL_TIMEOUT_MS = 20
"""Nobody waits on a line for the answer to a public request: an idle worker may look seldom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeParts:
    """What an intake worker stands on."""

    requests: RequestLog
    commands: RecordProducer
    dead_letters: RecordProducer
    business_clock: BusinessClock
    clock: SystemClock
    readiness: Readiness
    registry: CollectorRegistry
    when_joined: Callable[[], None]


def license_intake(parts: IntakeParts, settings: Settings) -> Consumption:
    """Return the consumption of `license.intake`, with nothing connected yet."""
    metrics = WorkerMetrics.bound_to(parts.registry)
    worker = IntakeBatchWorker(
        requests=parts.requests,
        commands=CommandsOut(producer=parts.commands, topic_prefix=settings.topic_prefix),
        dead_letters=DeadLetters(producer=parts.dead_letters, metrics=metrics),
        business_clock=parts.business_clock,
        clock=parts.clock,
        chance=secrets.SystemRandom().random,
        worker_metrics=metrics,
        metrics=IntakeMetrics.bound_to(parts.registry),
    )
    ground = Ground(
        bootstrap=settings.require_kafka_bootstrap(),
        topic_prefix=settings.topic_prefix,
        session_timeout_seconds=settings.kafka_session_timeout_seconds,
        producers=(parts.commands, parts.dead_letters),
        ask_database=parts.requests.ping,
        readiness=parts.readiness,
        metrics=metrics,
        clock=parts.clock,
        when_joined=parts.when_joined,
        poll_timeout_ms=POLL_TIMEOUT_MS,
        isolation_level="read_committed",
    )
    return topic_consumption(LICENSE_INTAKE, INTAKE_WORKER_GROUP, worker, ground)
