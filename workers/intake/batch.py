"""One batch of public requests: read, remembered, handed over as commands. The intake role's side of the lane.

1. `translate` every record; what nobody can read is a dead letter.
2. Remember each (`source`, `id`) with the id of its command, made from both and from the moment of its first arrival.
   A request seen before keeps that id; with other content it is a dead letter (`id_reuse`).
3. Publish the command of every request that is not handed over yet, in order, and note that, before the next batch.

A crash between publishing and noting publishes a command again under the same id, which the license role drops. A
request that was handed over is never published again, however old it is: the topic may be read anew from its start.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from shared.clock import BusinessClock, SystemClock
from shared.contracts.codec import encode_intake_outcome
from shared.contracts.envelope import Envelope, cause_of_request, command_id_of_request, new_id
from shared.contracts.events import IntakeOutcomeEvent, intake_outcome_data
from shared.contracts.outcomes import RejectionCode
from shared.contracts.topics import LICENSE_COMMANDS
from shared.domain.effects import OutboxEvent
from shared.domain.intake import KnownRequest, NewRequest, PublicRequest
from shared.errors import InvalidRecordError, StoreRefusedError
from shared.kafka import ConsumedRecord
from shared.telemetry.metrics import IntakeMetrics, Phase, RetriedStep, WorkerMetrics
from workers.intake.commands_out import CommandsOut
from workers.intake.ports import RequestLog
from workers.intake.translate import translate
from workers.runtime.backoff import delay_seconds
from workers.runtime.dead_letters import DeadLetters
from workers.runtime.patience import until_done
from workers.runtime.record_headers import require_text_headers
from workers.runtime.shipment import Parcel, Shipment

LOG_EVERY_ATTEMPTS = 10

log = structlog.get_logger()

Outcome = TypeVar("Outcome")
Key = tuple[str, str]
Reading = PublicRequest | InvalidRecordError
Known = Mapping[Key, KnownRequest | InvalidRecordError]
"""What is remembered of each request, or why it cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeBatchWorker:
    """Carries batches of public requests through; see `runtime.lane.BatchWorker` for the contract."""

    requests: RequestLog
    commands: CommandsOut
    dead_letters: DeadLetters
    business_clock: BusinessClock
    clock: SystemClock
    chance: Callable[[], float]
    worker_metrics: WorkerMetrics
    metrics: IntakeMetrics

    async def work(self, records: Sequence[ConsumedRecord], is_stale: Callable[[], bool]) -> Shipment | None:
        """Hand a batch over, and begin to send its dead letters. Never raises."""
        self.worker_metrics.batch_commands.observe(len(records))
        with self.worker_metrics.phase_seconds[Phase.DECODE].time():
            readings = [read_record(record) for record in records]
        wanted = {reading.key: reading for reading in reversed(readings) if isinstance(reading, PublicRequest)}
        with self.worker_metrics.phase_seconds[Phase.HANDLE].time():
            known = await self._remember(list(wanted.values()), is_stale)
            if known is None:
                return None
            commands, letters = self._sorted(records, readings, known)
            if not await self._hand_over(commands, is_stale):
                return None
        shipment = Shipment(
            parcels=letters,
            is_stale=is_stale,
            clock=self.clock,
            chance=self.chance,
            metrics=self.worker_metrics,
            seconds=self.worker_metrics.phase_seconds[Phase.REPLY],
        )
        await shipment.begin()
        return shipment

    async def _remember(self, requests: Sequence[PublicRequest], is_stale: Callable[[], bool]) -> Known | None:
        if not requests:
            return {}
        try:
            return await self._until_done(partial(self._remembered, requests), is_stale, len(requests))
        except StoreRefusedError as refused:
            if len(requests) == 1:
                return {requests[0].key: InvalidRecordError("not_storable", str(refused))}
        middle = len(requests) // 2
        first = await self._remember(requests[:middle], is_stale)
        second = None if first is None else await self._remember(requests[middle:], is_stale)
        return None if first is None or second is None else {**first, **second}

    async def _remembered(self, requests: Sequence[PublicRequest]) -> Mapping[Key, KnownRequest]:
        now = self.clock.now()
        accounts = await self.requests.known_accounts({request.command.account for request in requests})
        newcomers = [
            NewRequest(
                request=request,
                command_id=command_id_of_request(*request.key, now),
                answer=None if request.command.account in accounts else self._refusal(request),
            )
            for request in requests
        ]
        return await self.requests.remember(newcomers, now)

    def _refusal(self, request: PublicRequest) -> OutboxEvent:
        """Answer a request in the name of nobody: its license is unknown, and no tombstone is made of it."""
        command = request.command
        code = RejectionCode.LICENSE_UNKNOWN
        event = IntakeOutcomeEvent(
            event_id=new_id(),
            accepted=False,
            subject=request.license_id,
            time=self.business_clock.now(),
            data=intake_outcome_data(command.account, command.number, request.reference, code),
        )
        value = encode_intake_outcome(event)
        return OutboxEvent(event_id=event.event_id, type=event.type, sequence=None, value=value)

    def _sorted(
        self, records: Sequence[ConsumedRecord], readings: Sequence[Reading], known: Known
    ) -> tuple[Mapping[Key, Envelope], list[Parcel]]:
        """Return the commands to be handed over, in order, and the dead letters."""
        commands: dict[Key, Envelope] = {}
        letters: list[Parcel] = []
        for record, reading in zip(records, readings, strict=True):
            found = reading if isinstance(reading, InvalidRecordError) else known[reading.key]
            if isinstance(reading, InvalidRecordError) or isinstance(found, InvalidRecordError):
                assert isinstance(found, InvalidRecordError)  # noqa: S101 - an unreadable record is its own finding
                letters.append(self.dead_letters.letter(record, found))
            elif found.content_sha256 != reading.content_sha256:
                detail = "this source and id were used before for another request"
                letters.append(self.dead_letters.letter(record, InvalidRecordError("id_reuse", detail)))
            elif found.is_handed_over or reading.key in commands:
                self.metrics.requests["repeated"].inc()
            else:
                commands[reading.key] = self._envelope(reading, found)
                self.metrics.requests["handed_over"].inc()
        return commands, letters

    def _envelope(self, request: PublicRequest, known: KnownRequest) -> Envelope:
        return Envelope(
            command_id=known.command_id,
            correlation_id=known.command_id,
            causation_id=cause_of_request(*request.key),
            command=request.command,
            deadline_at=None,
            occurred_at=self.clock.now(),
            request=request.reference,
        )

    async def _hand_over(self, commands: Mapping[Key, Envelope], is_stale: Callable[[], bool]) -> bool:
        """Publish commands and note that they stand on the topic; False when the records were taken away meanwhile."""
        left: Sequence[Envelope] = list(commands.values())
        attempt = 0
        while left:
            before, left = len(left), await self.commands.publish(left)
            if left and len(left) == before:
                attempt += 1
                self.worker_metrics.retries[RetriedStep.COMMAND].inc()
                if attempt % LOG_EVERY_ATTEMPTS == 1:
                    log.warning("worker.send.failed", topic=LICENSE_COMMANDS, count=len(left), attempt=attempt)
                await self.clock.sleep(delay_seconds(attempt, self.chance()))
            if left and is_stale():
                return False
        if not commands:
            return True
        return await self._until_done(partial(self._noted, commands.keys()), is_stale, len(commands)) is True

    async def _noted(self, keys: Collection[Key]) -> bool:
        await self.requests.hand_over(keys, self.clock.now())
        return True

    async def _until_done(
        self, action: Callable[[], Awaitable[Outcome]], is_stale: Callable[[], bool], count: int
    ) -> Outcome | None:
        return await until_done(
            action, is_stale, count=count, clock=self.clock, chance=self.chance, metrics=self.worker_metrics
        )


def read_record(record: ConsumedRecord) -> Reading:
    """Return the request in `record` or why nobody can read it. Never raises: a record stops no partition."""
    try:
        require_text_headers(record)
        return translate(record.value)
    except InvalidRecordError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a record that our reader trips over must not stop its partition
        return InvalidRecordError("reader_fault", type(error).__name__)
