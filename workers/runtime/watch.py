"""Eyes on a running worker: probes refreshed every second, and the end of the process when a part has died.

A part that cannot come back by itself (the polling loop, a producer's sender) ends the process: its supervisor starts
it again within seconds, and nothing is lost because offsets stood still.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from shared.clock import SystemClock
from shared.errors import KeywayError, UnavailableError
from shared.kafka import RecordProducer, is_sending
from shared.telemetry.health import Probe, Readiness
from shared.telemetry.metrics import WorkerMetrics
from workers.runtime.lane import Lane
from workers.runtime.subscription import Subscription

LOOK_SECONDS = 1.0
STALE_SECONDS = 5.0
ASK_SECONDS = 2.0
COORDINATOR_LOST_SECONDS = 20.0
"""So long the group's coordinator may be silent while the broker itself answers; a restarted broker needs five."""


class PartDiedError(KeywayError):
    """A part of this process that nothing revives has ended; the process must be started again."""

    code = "part_died"


@dataclass(slots=True, kw_only=True)
class WorkerWatch:
    """Looks after a consuming worker."""

    topic: str
    readiness: Readiness
    subscription: Subscription
    lane: Lane
    producers: Sequence[RecordProducer]
    ask_database: Callable[[], Awaitable[None]]
    """Raises `UnavailableError` when the database does not answer."""
    metrics: WorkerMetrics
    clock: SystemClock
    _probes: dict[str, Probe] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Add the probes, so that nobody takes a worker for ready that has not begun."""
        for name in ("group", "polling", "sending", "kafka", "postgres"):
            self._probes[name] = self.readiness.probe(name, stale_after_seconds=STALE_SECONDS)

    async def run(self) -> None:
        """Look every second for as long as the process lives. Raises `PartDiedError`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_parts())
            group.create_task(self._watch_kafka())
            group.create_task(self._watch_database())

    async def _watch_parts(self) -> None:
        while True:
            self.metrics.queued_records.set(self.lane.queued_count)
            if not all(is_sending(producer) for producer in self.producers):
                raise PartDiedError("a producer's sender has ended")
            self._probes["sending"].succeeded(f"{len(self.producers)} producers")
            if self.subscription.is_started:
                self._look_at_subscription()
            await self.clock.sleep(LOOK_SECONDS)

    def _look_at_subscription(self) -> None:
        if not self.subscription.is_polling:
            raise PartDiedError("the loop that polls Kafka has ended")
        if not self.subscription.is_coordinating:
            raise PartDiedError("a task that keeps the group membership or the metadata has ended")
        if self.lane.blocked_seconds < STALE_SECONDS:
            self._probes["polling"].succeeded(f"{self.lane.queued_count} records queued")
        if self.subscription.listener.is_member:
            count = self.subscription.listener.assigned_count
            self._probes["group"].succeeded(f"{count} partitions" if count else "standing by: more workers than needed")

    async def _watch_kafka(self) -> None:
        probe = self._probes["kafka"]
        silent_since: float | None = None
        while True:
            consumer = self.subscription.consumer
            if consumer is None or not self.subscription.is_started:
                silent_since = None
            elif await _answers(consumer.committed(TopicPartition(self.topic, 0))):
                silent_since = None
                probe.succeeded("the group's coordinator answered")
            elif not await _answers(consumer.topics()):
                silent_since = None  # the broker is away: once it is back, its coordinator has its whole time to answer
            elif silent_since is None:
                silent_since = self.clock.monotonic()
            elif self.clock.monotonic() - silent_since > COORDINATOR_LOST_SECONDS:
                # Seen after a broker's sudden death: the client waits for its coordinator and never asks again.
                raise PartDiedError("the broker answers, but the client has lost the group's coordinator for good")
            await self.clock.sleep(LOOK_SECONDS)

    async def _watch_database(self) -> None:
        probe = self._probes["postgres"]
        while True:
            try:
                await self.ask_database()
            except UnavailableError:
                pass
            else:
                probe.succeeded()
            await self.clock.sleep(LOOK_SECONDS)


async def _answers(question: Awaitable[object]) -> bool:
    """Whether the broker answers `question` in time."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            await question
    except (KafkaError, TimeoutError):
        return False
    return True
