"""The scheduler's records on their way to Kafka: bells for the provider role, commands for the license worker."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from shared.clock import SystemClock
from shared.contracts.codec import encode_envelope, encode_provider_request, encode_sweep_request
from shared.contracts.commands import LicenseCommand
from shared.contracts.envelope import Envelope, new_id
from shared.contracts.identifiers import CommandId, partition_of
from shared.contracts.topics import (
    HEADER_COMMAND_ID,
    LICENSE_COMMANDS,
    LICENSE_COMMANDS_PARTITIONS,
    PROVIDER_REQUESTS,
    PROVIDER_REQUESTS_PARTITIONS,
)
from shared.errors import UnavailableError
from shared.kafka import PRODUCE_TIMEOUT_SECONDS, Headers, RecordMetadata, RecordProducer, acknowledged
from workers.scheduler.ports import DueOrder, DueSweep


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaPost:
    """Sends with one producer (`ports.Post`)."""

    producer: RecordProducer
    topic_prefix: str
    clock: SystemClock

    async def bells(self, orders: Sequence[DueOrder]) -> None:
        """Ring for orders. Raises `UnavailableError`."""
        await _all_acknowledged(
            [
                await self._send(
                    PROVIDER_REQUESTS,
                    PROVIDER_REQUESTS_PARTITIONS,
                    order.license_id,
                    encode_provider_request(order.order_id),
                    (),
                )
                for order in orders
            ]
        )

    async def sweep_bells(self, sweeps: Sequence[DueSweep]) -> None:
        """Ring for sweeps. Raises `UnavailableError`."""
        await _all_acknowledged(
            [
                await self._send(
                    PROVIDER_REQUESTS,
                    PROVIDER_REQUESTS_PARTITIONS,
                    sweep.provider_account,
                    encode_sweep_request(sweep.sweep_id),
                    (),
                )
                for sweep in sweeps
            ]
        )

    async def commands(self, commands: Sequence[LicenseCommand]) -> None:
        """Send license commands; each has a fresh id, for what it does depends on the license alone.

        Raises `UnavailableError`.
        """
        flying = []
        for command in commands:
            command_id = CommandId(new_id())
            envelope = Envelope(
                command_id=command_id,
                correlation_id=command_id,
                causation_id=None,
                command=command,
                deadline_at=None,
                occurred_at=self.clock.now(),
            )
            headers = [(HEADER_COMMAND_ID, command_id.bytes)]
            value = encode_envelope(envelope)
            flying.append(
                await self._send(LICENSE_COMMANDS, LICENSE_COMMANDS_PARTITIONS, envelope.license_id, value, headers)
            )
        await _all_acknowledged(flying)

    async def _send(
        self, topic: str, partitions: int, named: str, value: bytes, headers: Headers
    ) -> Awaitable[RecordMetadata]:
        key = named.encode()
        try:
            async with asyncio.timeout(PRODUCE_TIMEOUT_SECONDS):
                return await self.producer.send(
                    self.topic_prefix + topic, value, key, partition=partition_of(key, partitions), headers=headers
                )
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(f"{topic} takes no record: {type(error).__name__}") from None


async def _all_acknowledged(flying: Sequence[Awaitable[RecordMetadata]]) -> None:
    failure: UnavailableError | None = None
    for future in flying:
        try:
            await acknowledged(future)
        except UnavailableError as error:
            failure = error
    if failure is not None:
        raise failure
