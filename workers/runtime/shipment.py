"""What a batch sends, until Kafka has acknowledged all of it.

The first attempt is made at once; acknowledgments are awaited while the next batch is worked on. A send that failed
may have been written: it is repeated all the same, because readers drop what they know.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
from aiokafka.errors import KafkaError
from prometheus_client import Histogram

from shared.clock import SystemClock
from shared.errors import UnavailableError
from shared.kafka import PRODUCE_TIMEOUT_SECONDS, Headers, RecordMetadata, RecordProducer, acknowledged
from shared.telemetry.metrics import RetriedStep, WorkerMetrics
from workers.runtime.backoff import delay_seconds

LOG_EVERY_ATTEMPTS = 10

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Parcel:
    """One record to send."""

    step: RetriedStep
    producer: RecordProducer
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    _future: asyncio.Future[RecordMetadata] | None = field(default=None, init=False)
    _failure: str = field(default="", init=False)

    async def begin(self) -> None:
        """Put the record into the producer's buffer; a failure shows in `is_acknowledged`."""
        try:
            async with asyncio.timeout(PRODUCE_TIMEOUT_SECONDS):
                self._future = await self._send()
        except (KafkaError, TimeoutError) as error:
            self._future, self._failure = None, type(error).__name__

    async def _send(self) -> asyncio.Future[RecordMetadata]:
        if self.key is None and self.value is None:  # `send` refuses such a record; a batch of one takes it
            batch = self.producer.create_batch()
            batch.append(timestamp=None, key=None, value=None, headers=self.headers)
            return await self.producer.send_batch(batch, self.topic, partition=self.partition)
        return await self.producer.send(
            self.topic, self.value, self.key, partition=self.partition, headers=self.headers
        )

    async def is_acknowledged(self) -> bool:
        """Wait for the broker's answer; False when there is none or it is a no."""
        if self._future is None:
            return False
        try:
            await acknowledged(self._future)
        except UnavailableError as error:
            self._failure = str(error)
            return False
        return True

    @property
    def failure(self) -> str:
        """What went wrong last."""
        return self._failure


@dataclass(slots=True, kw_only=True)
class Shipment:
    """The parcels of one batch; `settled` is its settlement."""

    parcels: Sequence[Parcel]
    is_stale: Callable[[], bool]
    clock: SystemClock
    chance: Callable[[], float]
    metrics: WorkerMetrics
    seconds: Histogram
    _began_at: float = field(default=0.0, init=False)

    async def begin(self) -> None:
        """Make the first attempt with every parcel."""
        self._began_at = self.clock.monotonic()
        for parcel in self.parcels:
            await parcel.begin()

    async def settled(self) -> bool:
        """Wait until every parcel is acknowledged, sending again as often as needed.

        Returns False only when the records behind it were taken away meanwhile: then their new owner sends.
        """
        attempt = 0
        while True:
            missing = [parcel for parcel in self.parcels if not await parcel.is_acknowledged()]
            if not missing:
                self.seconds.observe(self.clock.monotonic() - self._began_at)
                return True
            if self.is_stale():
                return False
            attempt += 1
            for parcel in missing:
                self.metrics.retries[parcel.step].inc()
            if attempt % LOG_EVERY_ATTEMPTS == 1:
                first = missing[0]
                log.warning(
                    "worker.send.failed", topic=first.topic, count=len(missing), attempt=attempt, reason=first.failure
                )
            await self.clock.sleep(delay_seconds(attempt, self.chance()))
            self.parcels = missing
            for parcel in missing:
                await parcel.begin()
