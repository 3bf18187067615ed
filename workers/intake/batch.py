"""One batch of public requests: read, remembered, handed over as commands. The intake role's side of the lane.

1. `translate` every record; what nobody can read is a dead letter.
2. Remember each (`source`, `id`) with the id of its command, made from both and from the moment of its first arrival.
   A request seen before keeps that id; with other content it is a dead letter (`id_reuse`).
3. Publish the command of every request that is not handed over yet; note it once Kafka has acknowledged.

A crash between the last two publishes a command again under the same id, which the license role drops. A request that
was handed over is never published again, however old it is: the topic may be read anew from its start.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog

from shared.clock import BusinessClock, SystemClock
from shared.contracts.codec import encode_envelope, encode_intake_outcome
from shared.contracts.envelope import Envelope, cause_of_request, command_id_of_request, new_id
from shared.contracts.events import IntakeOutcomeEvent, intake_outcome_data
from shared.contracts.identifiers import partition_of
from shared.contracts.outcomes import RejectionCode
from shared.contracts.topics import HEADER_COMMAND_ID, LICENSE_COMMANDS, LICENSE_COMMANDS_PARTITIONS
from shared.domain.effects import OutboxEvent
from shared.domain.intake import KnownRequest, NewRequest, PublicRequest
from shared.errors import ConflictError, InvalidRecordError, StoreRefusedError, UnavailableError
from shared.kafka import ConsumedRecord, RecordProducer
from shared.telemetry.metrics import IntakeMetrics, Phase, RetriedStep, WorkerMetrics
from workers.intake.ports import RequestLog
from workers.intake.translate import translate
from workers.runtime.backoff import delay_seconds
from workers.runtime.dead_letters import DeadLetters
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
    commands: RecordProducer
    dead_letters: DeadLetters
    topic_prefix: str
    business_clock: BusinessClock
    clock: SystemClock
    chance: Callable[[], float]
    worker_metrics: WorkerMetrics
    metrics: IntakeMetrics
    _underway: set[Key] = field(default_factory=set, init=False)
    """Requests whose commands are sent and not noted yet; batches are settled in order, so a repeat may rely on it."""

    async def work(self, records: Sequence[ConsumedRecord], is_stale: Callable[[], bool]) -> "Handover | None":
        """Carry out a batch and begin to send commands and dead letters. Never raises."""
        self.worker_metrics.batch_commands.observe(len(records))
        with self.worker_metrics.phase_seconds[Phase.DECODE].time():
            readings = [read_record(record) for record in records]
        wanted = {reading.key: reading for reading in reversed(readings) if isinstance(reading, PublicRequest)}
        with self.worker_metrics.phase_seconds[Phase.HANDLE].time():
            known = await self._remember(list(wanted.values()), is_stale)
        if known is None:
            return None
        parcels, keys = self._parcels(records, readings, known)
        shipment = Shipment(
            parcels=parcels,
            is_stale=is_stale,
            clock=self.clock,
            chance=self.chance,
            metrics=self.worker_metrics,
            seconds=self.worker_metrics.phase_seconds[Phase.REPLY],
        )
        await shipment.begin()
        return Handover(
            shipment=shipment,
            note=partial(self._note, keys, is_stale),
            over=partial(self._underway.difference_update, keys),
        )

    async def _remember(self, requests: Sequence[PublicRequest], is_stale: Callable[[], bool]) -> Known | None:
        if not requests:
            return {}
        try:
            return await self._until_done(partial(self._remembered, requests), is_stale)
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

    def _parcels(
        self, records: Sequence[ConsumedRecord], readings: Sequence[Reading], known: Known
    ) -> tuple[list[Parcel], Collection[Key]]:
        """Return what is to be sent, and the requests whose commands are among it."""
        parcels: list[Parcel] = []
        handed_over: list[Key] = []
        for record, reading in zip(records, readings, strict=True):
            found = reading if isinstance(reading, InvalidRecordError) else known[reading.key]
            if isinstance(reading, InvalidRecordError) or isinstance(found, InvalidRecordError):
                assert isinstance(found, InvalidRecordError)  # noqa: S101 - an unreadable record is its own finding
                parcels.append(self.dead_letters.letter(record, found))
            elif found.content_sha256 != reading.content_sha256:
                detail = "this source and id were used before for another request"
                parcels.append(self.dead_letters.letter(record, InvalidRecordError("id_reuse", detail)))
            elif found.is_handed_over or reading.key in self._underway:
                self.metrics.requests["repeated"].inc()
            else:
                handed_over.append(reading.key)
                self._underway.add(reading.key)
                parcels.append(self._command(reading, found))
                self.metrics.requests["handed_over"].inc()
        return parcels, handed_over

    def _command(self, request: PublicRequest, known: KnownRequest) -> Parcel:
        envelope = Envelope(
            command_id=known.command_id,
            correlation_id=known.command_id,
            causation_id=cause_of_request(*request.key),
            command=request.command,
            deadline_at=None,
            occurred_at=self.clock.now(),
            request=request.reference,
        )
        key = envelope.license_id.encode()
        return Parcel(
            step=RetriedStep.COMMAND,
            producer=self.commands,
            topic=self.topic_prefix + LICENSE_COMMANDS,
            partition=partition_of(key, LICENSE_COMMANDS_PARTITIONS),
            key=key,
            value=encode_envelope(envelope),
            headers=[(HEADER_COMMAND_ID, known.command_id.bytes)],
        )

    async def _note(self, keys: Collection[Key], is_stale: Callable[[], bool]) -> bool:
        """Note that the commands stand on the topic; False when the records were taken away meanwhile."""
        if not keys:
            return True
        return await self._until_done(partial(self._noted, keys), is_stale) is True

    async def _noted(self, keys: Collection[Key]) -> bool:
        await self.requests.hand_over(keys, self.clock.now())
        return True

    async def _until_done(
        self, action: Callable[[], Awaitable[Outcome]], is_stale: Callable[[], bool]
    ) -> Outcome | None:
        """Return what `action` returns, tried until the database answers; None when the records were taken away."""
        attempt = 0
        while True:
            try:
                return await action()
            except (UnavailableError, ConflictError) as error:
                attempt += 1
                self.worker_metrics.retries[RetriedStep.HANDLE].inc()
                if attempt % LOG_EVERY_ATTEMPTS == 1:
                    log.warning("worker.batch.failed", detail=error, attempt=attempt)
            if is_stale():
                return None
            await self.clock.sleep(delay_seconds(attempt, self.chance()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """The settlement of a batch: everything acknowledged, and then noted."""

    shipment: Shipment
    note: Callable[[], Awaitable[bool]]
    over: Callable[[], None]

    async def settled(self) -> bool:
        """Wait for the acknowledgments and the note; False when the records were taken away meanwhile."""
        try:
            return await self.shipment.settled() and await self.note()
        finally:
            self.over()


def read_record(record: ConsumedRecord) -> Reading:
    """Return the request in `record` or why nobody can read it. Never raises: a record stops no partition."""
    try:
        require_text_headers(record)
        return translate(record.value)
    except InvalidRecordError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a record that our reader trips over must not stop its partition
        return InvalidRecordError("reader_fault", type(error).__name__)
