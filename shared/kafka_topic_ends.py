"""Where a topic ends, and which topic it is: what a stored watermark is compared with."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from shared.errors import UnavailableError
from shared.kafka import RecordConsumer
from shared.kafka_topic_id import topic_id_of

ENDS_SECONDS = 1.0
"""Kafka must tell the ends of the partitions within this time."""

Offsets = tuple[int, ...]
"""One per partition, from partition 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicEnd:
    """Where a topic ends, and which topic it is."""

    topic_id: UUID
    last: Offsets
    """The end of each partition."""
    held: Offsets
    """The same, but 0 for a partition that holds nothing: nothing of it can be waited for."""


class TopicEnds:
    """The ends of a topic's partitions and the topic's id, asked of the brokers each time."""

    __slots__ = ("_consumer", "_partitions", "_topic")

    def __init__(self, consumer: RecordConsumer, topic: str, partitions: int) -> None:
        """`consumer` is started and stopped by the caller and reads nothing else."""
        self._consumer = consumer
        self._topic = topic
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]

    async def read(self) -> TopicEnd:
        """Return the end of each partition. Raises `UnavailableError`."""
        try:
            async with asyncio.timeout(ENDS_SECONDS):
                first = await self._consumer.beginning_offsets(self._partitions)
                ends = await self._consumer.end_offsets(self._partitions)
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(f"the ends of topic {self._topic} are not told: {type(error).__name__}") from None
        # The id comes last: it is that of the topic whose ends were told, or of a later one.
        topic_id = await topic_id_of(self._consumer, self._topic)
        return TopicEnd(
            topic_id=topic_id,
            last=tuple(ends[each] for each in self._partitions),
            held=tuple(ends[each] if ends[each] > first[each] else 0 for each in self._partitions),
        )
