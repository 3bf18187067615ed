"""The relay's producer, made anew whenever it failed.

It is idempotent, so that a batch whose answer was lost is not written twice by the client's own retries. Two answers of
the broker break such a producer for good (sequence out of order, producer unknown); a fresh one, with the rows read
again, is the cure for these and for everything else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shared.domain.outgoing import OutgoingRecord
from shared.errors import UnavailableError
from shared.kafka import RecordProducer, is_sending, start_client
from shared.kafka_ending import stop_client
from workers.outbox import OutboxSender, Sent

STOP_SECONDS = 3.0


@dataclass(slots=True, kw_only=True)
class RenewedPress:
    """Publishes outbox rows (`ports.Press`)."""

    new_producer: Callable[[], RecordProducer]
    bootstrap: str
    topic_prefix: str
    _producer: RecordProducer | None = field(default=None, init=False)

    async def send(self, records: Sequence[OutgoingRecord]) -> Sent:
        """Send records in the order given and wait for the answers. Raises `UnavailableError`: no broker answers."""
        producer = await self._ready()
        sent = await OutboxSender(producer=producer, topic_prefix=self.topic_prefix).send(records)
        if sent.failure:
            await self.close()
        return sent

    async def close(self) -> None:
        """Stop the producer, by force when it must be; what it still holds was never taken for published."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_client(producer, STOP_SECONDS)

    async def _ready(self) -> RecordProducer:
        if self._producer is not None and not is_sending(self._producer):
            await self.close()
        if self._producer is None:
            producer = self.new_producer()
            try:
                await start_client(producer, self.bootstrap)
            except TimeoutError as error:
                raise UnavailableError(f"no Kafka answers at {self.bootstrap}: {type(error).__name__}") from None
            self._producer = producer
        return self._producer
