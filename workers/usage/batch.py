"""One batch of usage events: read, judged, taken in; what does not count is set aside. The role's side of the lane.

A machine that is down holds the batch here, retried in place with back-off while heartbeats go on; a record that the
handler itself trips over is set aside alone and never holds up the records beside it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from shared.clock import SystemClock
from shared.contracts.codec import decode_usage
from shared.contracts.usage import ReportedUsage
from shared.errors import InvalidRecordError, KeywayError
from shared.kafka import ConsumedRecord
from shared.telemetry.metrics import Phase, UsageMetrics, UsageOutcome, WorkerMetrics
from workers.runtime.careful_consumer import HEADER_UNREADABLE
from workers.runtime.dead_letters import DeadLetters
from workers.runtime.patience import until_done
from workers.runtime.shipment import Shipment
from workers.usage.handler import ReceivedUsage, Verdict, marks_of

FAULTS_MAX = 16
"""Records set aside because our own code tripped over them; beyond, the process ends: it is not the records."""

log = structlog.get_logger()


class Handler(Protocol):
    """What takes events in (`handler.UsageHandler`)."""

    async def handle(self, received: Sequence[ReceivedUsage]) -> Sequence[Verdict]:
        """Return what became of each record, in order. Raises `UnavailableError` when a machine does not answer."""
        ...

    async def move_watermark(self, marks: Mapping[int, int]) -> None:
        """Store how far each partition is done, where that is further than before. Raises `UnavailableError`."""
        ...


class UsageFaultsError(KeywayError):
    """Our own code fails on event after event: the process must end rather than set them all aside."""

    code = "usage_faults"


@dataclass(slots=True, kw_only=True)
class UsageBatchWorker:
    """Carries batches of usage events through; see `runtime.lane.BatchWorker` for the contract."""

    handler: Handler
    dead_letters: DeadLetters
    clock: SystemClock
    chance: Callable[[], float]
    metrics: WorkerMetrics
    usage_metrics: UsageMetrics
    _faults: int = field(default=0, init=False)

    async def work(self, records: Sequence[ConsumedRecord], is_stale: Callable[[], bool]) -> Shipment | None:
        """Take a batch in and begin to send its dead letters. Raises `UsageFaultsError` only."""
        self.metrics.batch_commands.observe(len(records))
        with self.metrics.phase_seconds[Phase.DECODE].time():
            received = [read_usage_record(record) for record in records]
        with self.metrics.phase_seconds[Phase.HANDLE].time():
            verdicts = await self._handle(received, is_stale)
        if verdicts is None:
            return None
        shipment = Shipment(
            parcels=[
                self.dead_letters.letter(record, verdict.dead_letter)
                for record, verdict in zip(records, verdicts, strict=True)
                if verdict.dead_letter is not None
            ],
            is_stale=is_stale,
            clock=self.clock,
            chance=self.chance,
            metrics=self.metrics,
            seconds=self.metrics.phase_seconds[Phase.REPLY],
        )
        for verdict in verdicts:
            self.usage_metrics.events[_outcome_of(verdict)].inc()
        await shipment.begin()
        return shipment

    async def _handle(
        self, received: Sequence[ReceivedUsage], is_stale: Callable[[], bool]
    ) -> Sequence[Verdict] | None:
        try:
            return await self._patiently(self.handler.handle, received, is_stale)
        except Exception:
            log.exception("worker.handler.tripped", count=len(received))
            return await self._handle_apart(received, is_stale)

    async def _handle_apart(
        self, received: Sequence[ReceivedUsage], is_stale: Callable[[], bool]
    ) -> Sequence[Verdict] | None:
        """Find the record that the handler trips over by halving; that one alone is set aside."""
        if len(received) > 1:
            middle = len(received) // 2
            first = await self._handle(received[:middle], is_stale)
            second = None if first is None else await self._handle(received[middle:], is_stale)
            return None if first is None or second is None else (*first, *second)
        self._faults += 1
        if self._faults > FAULTS_MAX:
            raise UsageFaultsError(
                f"the handler failed on {self._faults} events; nothing more is set aside: see the log for the cause"
            )

        return await self._patiently(self._set_aside, received, is_stale)

    async def _set_aside(self, received: Sequence[ReceivedUsage]) -> Sequence[Verdict]:
        await self.handler.move_watermark(marks_of(received))
        return (Verdict(dead_letter=InvalidRecordError("handler_fault", "our own code failed on this event")),)

    async def _patiently(
        self,
        work: Callable[[Sequence[ReceivedUsage]], Awaitable[Sequence[Verdict]]],
        received: Sequence[ReceivedUsage],
        is_stale: Callable[[], bool],
    ) -> Sequence[Verdict] | None:
        return await until_done(
            partial(work, received),
            is_stale,
            count=len(received),
            clock=self.clock,
            chance=self.chance,
            metrics=self.metrics,
        )


def read_usage_record(record: ConsumedRecord) -> ReceivedUsage:
    """Return what `record` holds. Never raises: a record stops no partition."""
    content: ReportedUsage | InvalidRecordError
    digest = b""
    try:
        if any(name == HEADER_UNREADABLE for name, _ in record.headers):
            content = InvalidRecordError("record_format", "the record could not be taken apart: see its origin")
        else:
            content, digest = decode_usage(record.value)
    except InvalidRecordError as error:
        content = error
    except Exception as error:  # noqa: BLE001 - a record that our reader trips over must not stop its partition
        content = InvalidRecordError("reader_fault", type(error).__name__)
    return ReceivedUsage(content=content, content_sha256=digest, partition=record.partition, offset=record.offset)


def _outcome_of(verdict: Verdict) -> UsageOutcome:
    if verdict.dead_letter is not None:
        return UsageOutcome.SET_ASIDE
    if verdict.is_duplicate:
        return UsageOutcome.DUPLICATE
    return UsageOutcome.ADJUSTED if verdict.is_adjustment else UsageOutcome.COUNTED
