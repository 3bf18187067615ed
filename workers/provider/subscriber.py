"""Where bells come in: `provider.requests`, the lane behind it, and the crews that carry orders and sweeps.

A bell's offset moves when its order has been carried, or after `SETTLE_SECONDS`: what is due stands in the database,
so a slow provider account holds up neither the topic nor the group.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.clock import SystemClock
from shared.contracts.bells import SweepBell
from shared.contracts.codec import decode_provider_request
from shared.contracts.topics import PROVIDER_REQUESTS, PROVIDER_WORKER_GROUP
from shared.errors import InvalidRecordError
from shared.kafka import ConsumedRecord, RecordProducer
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import Phase, WorkerMetrics
from workers.provider.crew import OrderCrew
from workers.provider.sweep_crew import SweepCrew
from workers.runtime.consumption import Consumption
from workers.runtime.dead_letters import DeadLetters
from workers.runtime.shipment import Parcel, Shipment
from workers.runtime.topic_consumption import Ground, topic_consumption

SETTLE_SECONDS = 2.0
POLL_TIMEOUT_MS = 10
"""A call upstream takes far longer; polling for bells every other millisecond would cost a core's tenth for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSurroundings:
    """What a provider worker stands on; made by the composition root."""

    bootstrap: str
    topic_prefix: str
    session_timeout_seconds: float
    outcomes: RecordProducer
    dead_letters: RecordProducer
    ask_database: Callable[[], Awaitable[None]]
    readiness: Readiness
    metrics: WorkerMetrics
    clock: SystemClock
    chance: Callable[[], float]
    when_joined: Callable[[], None]
    """Called once, as soon as this worker is a member of its group."""


def provider_requests(crew: OrderCrew, sweeps: SweepCrew, around: ProviderSurroundings) -> Consumption:
    """Return the consumption of `provider.requests` by both crews, with nothing connected yet."""
    ground = Ground(
        bootstrap=around.bootstrap,
        topic_prefix=around.topic_prefix,
        session_timeout_seconds=around.session_timeout_seconds,
        producers=(around.outcomes, around.dead_letters),
        ask_database=around.ask_database,
        readiness=around.readiness,
        metrics=around.metrics,
        clock=around.clock,
        when_joined=around.when_joined,
        poll_timeout_ms=POLL_TIMEOUT_MS,
    )
    worker = BellWorker(crew=crew, sweeps=sweeps, around=around)
    return topic_consumption(PROVIDER_REQUESTS, PROVIDER_WORKER_GROUP, worker, ground)


@dataclass(frozen=True, slots=True, kw_only=True)
class BellWorker:
    """Begins the orders and sweeps that a batch of bells names; see `runtime.lane.BatchWorker` for the contract."""

    crew: OrderCrew
    sweeps: SweepCrew
    around: ProviderSurroundings

    async def work(self, records: Sequence[ConsumedRecord], is_stale: Callable[[], bool]) -> "Bells":
        """Begin what is rung for and set aside what nobody can read."""
        self.around.metrics.batch_commands.observe(len(records))
        dead_letters = DeadLetters(producer=self.around.dead_letters, metrics=self.around.metrics)
        order_ids = []
        sweep_ids = []
        letters: list[Parcel] = []
        for record in records:
            try:
                bell = decode_provider_request(record.value)
            except InvalidRecordError as error:
                letters.append(dead_letters.letter(record, error))
                continue
            if isinstance(bell, SweepBell):
                sweep_ids.append(bell.sweep_id)
            else:
                order_ids.append(bell.order_id)
        shipment = Shipment(
            parcels=letters,
            is_stale=is_stale,
            clock=self.around.clock,
            chance=self.around.chance,
            metrics=self.around.metrics,
            seconds=self.around.metrics.phase_seconds[Phase.REPLY],
        )
        await shipment.begin()
        await self.sweeps.begin(sweep_ids)
        await self.crew.begin(order_ids)
        return Bells(crew=self.crew, order_ids=order_ids, shipment=shipment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bells:
    """A batch of bells on its way."""

    crew: OrderCrew
    order_ids: Sequence[UUID]
    shipment: Shipment

    async def settled(self) -> bool:
        """Wait for the dead letters, and for the orders as long as is reasonable."""
        await self.crew.wait(self.order_ids, seconds=SETTLE_SECONDS)
        return await self.shipment.settled()
