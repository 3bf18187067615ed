"""Committed outbox rows become Kafka records: one indivisible batch per partition, acknowledged or not as a whole.

A batch of its own per partition is what keeps the order of a license's events: they are written all or not at all, so
a later event can never be in the log while an earlier one of the same batch is not. A row that is sent twice has the
same key, event id, sequence and bytes both times.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from shared.contracts.cloud_event import CONTENT_TYPE
from shared.contracts.identifiers import partition_of
from shared.contracts.topics import (
    LICENSE_EVENTS,
    LICENSE_EVENTS_PARTITIONS,
    PROVIDER_REQUESTS,
    PROVIDER_REQUESTS_PARTITIONS,
)
from shared.domain.outgoing import OutgoingRecord
from shared.errors import UnavailableError
from shared.kafka import PRODUCE_TIMEOUT_SECONDS, Headers, RecordMetadata, RecordProducer, acknowledged

OUTBOX_PARTITIONS = {PROVIDER_REQUESTS: PROVIDER_REQUESTS_PARTITIONS, LICENSE_EVENTS: LICENSE_EVENTS_PARTITIONS}
"""Topics that are fed from the outbox, most urgent first: somebody waits behind a bell."""
HEADERS: Mapping[str, Headers] = {
    PROVIDER_REQUESTS: [],
    LICENSE_EVENTS: [("content-type", CONTENT_TYPE.encode())],
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a round of sending."""

    acknowledged: Sequence[OutgoingRecord]
    failure: str
    """Why some were not acknowledged; empty when nothing failed. Nothing is known about those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxSender:
    """Sends outbox rows with one producer."""

    producer: RecordProducer
    topic_prefix: str

    async def send(self, records: Sequence[OutgoingRecord]) -> Sent:
        """Send records in the order given, and wait for the broker's answers.

        What does not fit into the batch of its partition is left out and not failed: it belongs to the next round.
        """
        failure = ""
        flying: list[tuple[Awaitable[RecordMetadata], Sequence[OutgoingRecord]]] = []
        for topic, partition, bundle in _bundles(records):
            try:
                flying.append(await self._begin(topic, partition, bundle))
            except (KafkaError, TimeoutError) as error:
                failure = f"{topic}: {type(error).__name__}"
        known: list[OutgoingRecord] = []
        for future, sent in flying:
            try:
                await acknowledged(future)
            except UnavailableError as error:
                failure = str(error)
            else:
                known += sent
        return Sent(known, failure)

    async def _begin(
        self, topic: str, partition: int, bundle: Sequence[OutgoingRecord]
    ) -> tuple[Awaitable[RecordMetadata], Sequence[OutgoingRecord]]:
        batch = self.producer.create_batch()
        taken = 0
        for record in bundle:
            key = record.license_id.encode()
            if batch.append(timestamp=None, key=key, value=record.value, headers=HEADERS[topic]) is None:
                break
            taken += 1
        async with asyncio.timeout(PRODUCE_TIMEOUT_SECONDS):
            future = await self.producer.send_batch(batch, self.topic_prefix + topic, partition=partition)
        return future, bundle[:taken]


def _bundles(records: Sequence[OutgoingRecord]) -> list[tuple[str, int, list[OutgoingRecord]]]:
    """Return the records by topic and partition, the urgent topic first; unknown topics stay behind."""
    bundles: dict[str, dict[int, list[OutgoingRecord]]] = {topic: {} for topic in OUTBOX_PARTITIONS}
    for record in records:
        by_partition = bundles.get(record.topic)
        if by_partition is not None:
            partition = partition_of(record.license_id.encode(), OUTBOX_PARTITIONS[record.topic])
            by_partition.setdefault(partition, []).append(record)
    return [
        (topic, partition, bundle)
        for topic, by_partition in bundles.items()
        for partition, bundle in by_partition.items()
    ]
