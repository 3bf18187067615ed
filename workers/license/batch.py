"""One batch of records: read, handled, answered. The license role's side of the lane.

A machine that is down holds the batch here, retried in place with back-off while heartbeats go on; a record that
nobody can read, or that the handler itself trips over, is set aside and never holds up the records beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from shared.clock import SystemClock
from shared.contracts.replies import Reply, ReplyAddress, ReplyStatus
from shared.errors import InvalidRecordError, KeywayError
from shared.kafka import ConsumedRecord
from shared.telemetry.metrics import Phase, WorkerMetrics
from workers.license.case_file import ReceivedCommand
from workers.license.decoding import Arrival, read_record
from workers.license.replies import ReplyOffice
from workers.license.sheet import Handled
from workers.runtime.dead_letters import DeadLetters
from workers.runtime.patience import until_done
from workers.runtime.shipment import Parcel, Shipment

HANDLER_FAULTS_MAX = 16
"""Commands set aside because our own code tripped over them; beyond, the process ends: it is not the commands."""

log = structlog.get_logger()


class CommandHandler(Protocol):
    """What carries out commands (`handler.LicenseHandler`)."""

    async def handle(self, received: Sequence[ReceivedCommand]) -> Sequence[Handled]:
        """Return what became of each command, in order. Raises `UnavailableError` when a machine does not answer."""
        ...


class HandlerFaultsError(KeywayError):
    """Our own code fails on command after command: the process must end rather than set them all aside."""

    code = "handler_faults"


@dataclass(slots=True, kw_only=True)
class CommandBatchWorker:
    """Carries batches of license commands through; see `runtime.lane.BatchWorker` for the contract."""

    handler: CommandHandler
    replies: ReplyOffice
    dead_letters: DeadLetters
    clock: SystemClock
    chance: Callable[[], float]
    metrics: WorkerMetrics
    _faults: int = field(default=0, init=False)

    async def work(self, records: Sequence[ConsumedRecord], is_stale: Callable[[], bool]) -> Shipment | None:
        """Carry out a batch and begin to send replies and dead letters. Raises `HandlerFaultsError` only."""
        self.metrics.batch_commands.observe(len(records))
        with self.metrics.phase_seconds[Phase.DECODE].time():
            now_ms = int(self.clock.now().timestamp() * 1000)
            arrivals = [read_record(record, now_ms) for record in records]
        commands = [arrival.content for arrival in arrivals if isinstance(arrival.content, ReceivedCommand)]
        if commands:
            self.metrics.queue_age_seconds.observe(max(command.queue_age_ms for command in commands) / 1000)
        with self.metrics.phase_seconds[Phase.HANDLE].time():
            handled = await self._handle(commands, is_stale)
        if handled is None:
            return None
        shipment = Shipment(
            parcels=self._parcels(arrivals, handled),
            is_stale=is_stale,
            clock=self.clock,
            chance=self.chance,
            metrics=self.metrics,
            seconds=self.metrics.phase_seconds[Phase.REPLY],
        )
        await shipment.begin()
        return shipment

    async def _handle(
        self, commands: Sequence[ReceivedCommand], is_stale: Callable[[], bool]
    ) -> Sequence[Handled] | None:
        if not commands:
            return ()
        try:
            return await until_done(
                partial(self.handler.handle, commands),
                is_stale,
                count=len(commands),
                clock=self.clock,
                chance=self.chance,
                metrics=self.metrics,
            )
        except Exception:
            log.exception("worker.handler.tripped", commands=len(commands))
            return await self._handle_apart(commands, is_stale)

    async def _handle_apart(
        self, commands: Sequence[ReceivedCommand], is_stale: Callable[[], bool]
    ) -> Sequence[Handled] | None:
        """Find the command that the handler trips over by halving; that one alone is set aside."""
        if len(commands) > 1:
            middle = len(commands) // 2
            first = await self._handle(commands[:middle], is_stale)
            second = None if first is None else await self._handle(commands[middle:], is_stale)
            return None if first is None or second is None else (*first, *second)
        self._faults += 1
        if self._faults > HANDLER_FAULTS_MAX:
            raise HandlerFaultsError(
                f"the handler failed on {self._faults} commands; nothing more is set aside: see the log for the cause"
            )
        return (Handled(None, InvalidRecordError("handler_fault", "our own code failed on this command")),)

    def _parcels(self, arrivals: Sequence[Arrival], handled: Sequence[Handled]) -> list[Parcel]:
        results = iter(handled)
        replies: list[tuple[ReplyAddress | None, Reply]] = []
        letters: list[Parcel] = []
        for arrival in arrivals:
            result = (
                next(results)
                if isinstance(arrival.content, ReceivedCommand)
                else Handled(None, dead_letter=arrival.content)
            )
            if result.dead_letter is not None:
                letters.append(self.dead_letters.letter(arrival.record, result.dead_letter))
            replies += result.others
            if result.reply is None and result.dead_letter is None:
                continue  # answered later, with the operation under way, or to nobody
            reply = result.reply or _unreadable(arrival)
            self.metrics.handled[reply.status.name.lower()].inc()
            replies.append((arrival.address, reply))
        return [*self.replies.parcels(replies), *letters]


def _unreadable(arrival: Arrival) -> Reply:
    age_ms = arrival.content.queue_age_ms if isinstance(arrival.content, ReceivedCommand) else 0
    return Reply(ReplyStatus.UNREADABLE, b"", b"", age_ms)
