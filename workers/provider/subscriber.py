"""Where bells come in: `provider.requests`, the lane behind it, and the crew that carries the orders.

A bell's offset moves when its order has been carried, or after `SETTLE_SECONDS`: what is due stands in the database,
so a slow provider holds up neither the topic nor the group.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shared.clock import SystemClock
from shared.contracts.codec import decode_provider_request
from shared.contracts.topics import PROVIDER_REQUESTS, PROVIDER_WORKER_GROUP
from shared.errors import InvalidRecordError
from shared.kafka import ConsumedRecord, RecordConsumer, RecordProducer
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import Phase, WorkerMetrics
from workers.provider.crew import OrderCrew
from workers.runtime.consumption import Consumption
from workers.runtime.dead_letters import DeadLetters
from workers.runtime.lane import Lane
from workers.runtime.offsets import OffsetCommitter
from workers.runtime.shipment import Parcel, Shipment
from workers.runtime.subscription import DrainListener, Subscription, batch_subscriber, deliver_to, new_broker
from workers.runtime.watch import WorkerWatch
from workers.runtime.watermark import Watermarks

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


def provider_requests(crew: OrderCrew, around: ProviderSurroundings) -> Consumption:
    """Return the consumption of `provider.requests` by `crew`, with nothing connected yet."""
    topic = around.topic_prefix + PROVIDER_REQUESTS
    watermarks = Watermarks()
    lane = Lane(BellWorker(crew=crew, around=around), watermarks, around.clock)

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
        around.topic_prefix + PROVIDER_WORKER_GROUP,
        listener,
        around.session_timeout_seconds,
        poll_timeout_ms=POLL_TIMEOUT_MS,
    )

    async def on_provider_requests(records: Sequence[ConsumedRecord]) -> None:
        await lane.submit(records)

    deliver_to(subscriber, on_provider_requests)
    subscription = Subscription(broker=broker, subscriber=subscriber, listener=listener)
    watch = WorkerWatch(
        topic=topic,
        readiness=around.readiness,
        subscription=subscription,
        lane=lane,
        producers=(around.outcomes, around.dead_letters),
        ask_database=around.ask_database,
        metrics=around.metrics,
        clock=around.clock,
    )
    return Consumption(
        subscription=subscription, lane=lane, offsets=offsets, watch=watch, when_joined=around.when_joined
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BellWorker:
    """Begins the orders that a batch of bells names; see `runtime.lane.BatchWorker` for the contract."""

    crew: OrderCrew
    around: ProviderSurroundings

    async def work(self, records: Sequence[ConsumedRecord], is_stale: Callable[[], bool]) -> "Bells":
        """Begin the orders and set aside what nobody can read."""
        self.around.metrics.batch_commands.observe(len(records))
        dead_letters = DeadLetters(producer=self.around.dead_letters, metrics=self.around.metrics)
        order_ids = []
        letters: list[Parcel] = []
        for record in records:
            try:
                order_ids.append(decode_provider_request(record.value))
            except InvalidRecordError as error:
                letters.append(dead_letters.letter(record, error))
        shipment = Shipment(
            parcels=letters,
            is_stale=is_stale,
            clock=self.around.clock,
            chance=self.around.chance,
            metrics=self.around.metrics,
            seconds=self.around.metrics.phase_seconds[Phase.REPLY],
        )
        await shipment.begin()
        return Bells(tasks=await self.crew.begin(order_ids), shipment=shipment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bells:
    """A batch of bells on its way."""

    tasks: Sequence[asyncio.Task[None]]
    shipment: Shipment

    async def settled(self) -> bool:
        """Wait for the dead letters, and for the orders as long as is reasonable."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=SETTLE_SECONDS)
        return await self.shipment.settled()
