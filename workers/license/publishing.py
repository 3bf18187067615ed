"""Outbox rows published right after their COMMIT: the fast way; the relay is the guarantee behind it.

Beside the lane and never in its way: rows wait in bounded queues, go out one round at a time, and those acknowledged
are marked every quarter of a second, well before the relay's grace is over. Bells leave at once, for somebody waits
behind them; events at once when it is quiet, and under load in rounds a tenth of a second apart, because every round
costs a request per partition. An event may only leave here when the one
before it is known to be published: this process saw it acknowledged, or the license row says so. Everything else, and
whatever failed, is left to the relay.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from shared.clock import SystemClock
from shared.contracts.identifiers import LicenseId
from shared.domain.effects import CommandEffect
from shared.domain.outgoing import OutgoingRecord, in_order
from shared.errors import ConflictError, UnavailableError
from shared.telemetry.metrics import WorkerMetrics
from workers.license.telling import outgoing_bells, outgoing_events
from workers.outbox import Sent

QUEUE_ROWS_MAX = 4096
ROUND_ROWS_MAX = 1024
UNMARKED_ROWS_MAX = 20_000
MARK_ROWS_MAX = 2000
MARK_SECONDS = 0.25
EVENTS_APART_SECONDS = 0.1
LICENSES_KNOWN_MAX = 50_000

log = structlog.get_logger()


class Press(Protocol):
    """Where records are published (`workers.outbox.OutboxSender`)."""

    async def send(self, records: Sequence[OutgoingRecord]) -> Sent:
        """Send records in the order given and wait for the answers."""
        ...


class Marks(Protocol):
    """Where it is noted what was published."""

    async def mark(self, records: Sequence[OutgoingRecord], at: datetime) -> None:
        """Mark rows as published. Raises `UnavailableError` or `ConflictError`."""
        ...


@dataclass(slots=True)
class _Queue:
    """Rows that wait for their round."""

    apart_seconds: float
    """Rest after a round."""
    rows: list[OutgoingRecord] = field(default_factory=list)
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> list[OutgoingRecord]:
        taken, self.rows = self.rows[:ROUND_ROWS_MAX], self.rows[ROUND_ROWS_MAX:]
        if not self.rows:
            self.filled.clear()
        return taken


@dataclass(slots=True, kw_only=True)
class FastPublisher:
    """Publishes what this process committed (`ports.CommitListener`)."""

    press: Press
    marks: Marks
    clock: SystemClock
    metrics: WorkerMetrics
    _bells: _Queue = field(default_factory=lambda: _Queue(0.0), init=False)
    _events: _Queue = field(default_factory=lambda: _Queue(EVENTS_APART_SECONDS), init=False)
    _published: OrderedDict[LicenseId, int] = field(default_factory=OrderedDict, init=False)
    _unmarked: list[OutgoingRecord] = field(default_factory=list, init=False)

    def committed(self, effects: Sequence[CommandEffect]) -> None:
        """Take what these effects left in the outbox. Never waits: what finds no room is the relay's."""
        for effect in effects:
            if effect.write is not None and effect.write.published_sequence:
                self._note(effect.license_id, effect.write.published_sequence)
            if effect.orders:
                self._queue(self._bells, outgoing_bells(effect))
            if effect.events or effect.attention:
                self._queue(self._events, outgoing_events(effect))

    async def run(self) -> None:
        """Publish and mark for as long as the process lives."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish(self._bells))
            group.create_task(self._publish(self._events))
            group.create_task(self._mark_now_and_then())

    async def mark(self) -> None:
        """Mark what was published; what cannot be marked now waits for the next time."""
        while self._unmarked:
            records, self._unmarked = self._unmarked[:MARK_ROWS_MAX], self._unmarked[MARK_ROWS_MAX:]
            try:
                await self.marks.mark(records, self.clock.now())
            except (UnavailableError, ConflictError) as error:
                log.warning("worker.outbox.not_marked", detail=error, count=len(records))
                self._unmarked = [*records, *self._unmarked]
                return

    def _queue(self, queue: _Queue, records: Sequence[OutgoingRecord]) -> None:
        if len(queue.rows) + len(records) > QUEUE_ROWS_MAX:
            self.metrics.outbox_rows["left"].inc(len(records))
            return
        queue.rows += records
        queue.filled.set()

    async def _publish(self, queue: _Queue) -> None:
        while True:
            await queue.filled.wait()
            taken = queue.take()
            sent = await self.press.send(in_order(taken, self._published))
            for record in sent.acknowledged:
                if record.sequence is not None:
                    self._note(record.license_id, record.sequence)
            self._unmarked += sent.acknowledged
            del self._unmarked[:-UNMARKED_ROWS_MAX]
            self.metrics.outbox_rows["published"].inc(len(sent.acknowledged))
            self.metrics.outbox_rows["left"].inc(len(taken) - len(sent.acknowledged))
            if sent.failure:
                log.warning(
                    "worker.outbox.left_to_relay", count=len(taken) - len(sent.acknowledged), reason=sent.failure
                )
            await self.clock.sleep(queue.apart_seconds)

    async def _mark_now_and_then(self) -> None:
        while True:
            await self.clock.sleep(MARK_SECONDS)
            await self.mark()

    def _note(self, license_id: LicenseId, sequence: int) -> None:
        known: Mapping[LicenseId, int] = self._published
        self._published[license_id] = max(sequence, known.get(license_id, 0))
        self._published.move_to_end(license_id)
        while len(self._published) > LICENSES_KNOWN_MAX:
            self._published.popitem(last=False)
