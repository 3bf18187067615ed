"""Outcomes on their way back: `RecordProviderOutcome` on `license.commands`, the same bytes however often.

The command id follows from the order id, so a second announcement is a redelivery to the license worker.
"""

import asyncio
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from shared.contracts.codec import encode_envelope
from shared.contracts.commands import RecordProviderOutcome
from shared.contracts.envelope import Envelope, derived_id
from shared.contracts.identifiers import CommandId, partition_of
from shared.contracts.topics import HEADER_COMMAND_ID, LICENSE_COMMANDS_PARTITIONS
from shared.domain.provider_order import OrderState
from shared.domain.provider_record import ProviderOrder
from shared.domain.provisioning import StepKind
from shared.errors import UnavailableError
from shared.kafka import PRODUCE_TIMEOUT_SECONDS, RecordProducer, acknowledged

OUTCOME_STEP = "outcome"


def outcome_of(order: ProviderOrder) -> RecordProviderOutcome:
    """Return the command that tells the outcome of a decided order."""
    is_confirmed = order.state is OrderState.CONFIRMED
    named = order.elid if is_confirmed or order.kind is StepKind.ORDER else _service_of(order)
    return RecordProviderOutcome(
        account=order.account,
        number=order.number,
        order_id=order.order_id,
        confirmed=is_confirmed,
        service_id=named,
        service_expires_on=order.service_expires_on if is_confirmed else None,
        service_key=order.service_key if is_confirmed else None,
        refusal=None if order.refusal is None else order.refusal.value,
        subject=order.subject,
        provider_account=order.provider_account,
    )


def _service_of(order: ProviderOrder) -> int | None:
    elid = getattr(order.operation, "elid", None)
    return int(elid) if elid is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaAnnouncer:
    """Publishes outcomes and waits for their acknowledgment."""

    producer: RecordProducer
    topic: str

    async def announce(self, order: ProviderOrder) -> None:
        """Publish the outcome. Raises `UnavailableError`: whether it was written is then unknown."""
        assert order.decided_at is not None  # noqa: S101 - only decided orders are announced
        command_id = CommandId(derived_id(order.order_id, OUTCOME_STEP))
        envelope = Envelope(
            command_id=command_id,
            correlation_id=command_id,
            causation_id=order.order_id,
            command=outcome_of(order),
            deadline_at=None,
            occurred_at=order.decided_at,
        )
        key = order.license_id.encode()
        try:
            async with asyncio.timeout(PRODUCE_TIMEOUT_SECONDS):
                future = await self.producer.send(
                    self.topic,
                    encode_envelope(envelope),
                    key,
                    partition=partition_of(key, LICENSE_COMMANDS_PARTITIONS),
                    headers=[(HEADER_COMMAND_ID, command_id.bytes)],
                )
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(f"an outcome could not be published: {type(error).__name__}") from None
        await acknowledged(future)
