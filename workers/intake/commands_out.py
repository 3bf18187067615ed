"""Commands on their way to the license role, in the order in which they were asked for.

All commands of one partition go out as one indivisible batch, and the next portion waits for its acknowledgment: a
suspend that failed and is sent again can never arrive behind the resume that followed it. What is sent twice has the
same command ids both times.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from shared.contracts.codec import encode_envelope
from shared.contracts.envelope import Envelope
from shared.contracts.identifiers import partition_of
from shared.contracts.topics import HEADER_COMMAND_ID, LICENSE_COMMANDS, LICENSE_COMMANDS_PARTITIONS
from shared.errors import UnavailableError
from shared.kafka import PRODUCE_TIMEOUT_SECONDS, RecordMetadata, RecordProducer, acknowledged


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandsOut:
    """Publishes commands with one producer."""

    producer: RecordProducer
    topic_prefix: str

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
        """Send what fits into one batch per partition, wait for the answers, and return what is left, in order.

        What is left is to be published again; nothing is known about whether the broker has it.
        """
        bundles: dict[int, list[Envelope]] = {}
        for envelope in envelopes:
            partition = partition_of(envelope.license_id.encode(), LICENSE_COMMANDS_PARTITIONS)
            bundles.setdefault(partition, []).append(envelope)
        flying: list[tuple[Awaitable[RecordMetadata], Sequence[Envelope]]] = []
        for partition, bundle in bundles.items():
            try:
                flying.append(await self._begin(partition, bundle))
            except (KafkaError, TimeoutError):
                continue
        done: set[Envelope] = set()
        for future, sent in flying:
            try:
                await acknowledged(future)
            except UnavailableError:
                continue
            done.update(sent)
        return [envelope for envelope in envelopes if envelope not in done]

    async def _begin(
        self, partition: int, bundle: Sequence[Envelope]
    ) -> tuple[Awaitable[RecordMetadata], Sequence[Envelope]]:
        batch = self.producer.create_batch()
        taken = 0
        for envelope in bundle:
            headers = [(HEADER_COMMAND_ID, envelope.command_id.bytes)]
            key, value = envelope.license_id.encode(), encode_envelope(envelope)
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                break
            taken += 1
        async with asyncio.timeout(PRODUCE_TIMEOUT_SECONDS):
            future = await self.producer.send_batch(batch, self.topic_prefix + LICENSE_COMMANDS, partition=partition)
        return future, bundle[:taken]
