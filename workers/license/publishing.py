"""Outbox rows published right after their COMMIT: the fast way; the relay is the guarantee behind it.

Beside the lane and never in its way: rows wait in a bounded queue, go out one round at a time, and those acknowledged
are marked every quarter of a second, well before the relay's grace is over. An event may only leave here when the one
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
from workers.license.telling import outgoing_records
from workers.outbox import Sent

QUEUE_ROWS_MAX = 4096
ROUND_ROWS_MAX = 512
UNMARKED_ROWS_MAX = 20_000
MARK_ROWS_MAX = 2000
MARK_SECONDS = 0.25
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


@dataclass(slots=True, kw_only=True)
class FastPublisher:
    """Publishes what this process committed (`ports.CommitListener`)."""

    press: Press
    marks: Marks
    clock: SystemClock
    metrics: WorkerMetrics
    _waiting: list[OutgoingRecord] = field(default_factory=list, init=False)
    _filled: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _published: OrderedDict[LicenseId, int] = field(default_factory=OrderedDict, init=False)
    _unmarked: list[OutgoingRecord] = field(default_factory=list, init=False)

    def committed(self, effects: Sequence[CommandEffect]) -> None:
        """Take what these effects left in the outbox. Never waits: what finds no room is the relay's."""
        for effect in effects:
            if effect.write is not None and effect.write.published_sequence:
                self._note(effect.license_id, effect.write.published_sequence)
            records = outgoing_records(effect)
            if len(self._waiting) + len(records) > QUEUE_ROWS_MAX:
                self.metrics.outbox_rows["left"].inc(len(records))
                continue
            self._waiting += records
        if self._waiting:
            self._filled.set()

    async def run(self) -> None:
        """Publish and mark for as long as the process lives."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish())
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

    async def _publish(self) -> None:
        while True:
            await self._filled.wait()
            taken, self._waiting = self._waiting[:ROUND_ROWS_MAX], self._waiting[ROUND_ROWS_MAX:]
            if not self._waiting:
                self._filled.clear()
            sent = await self.press.send(in_order(taken, self._published))
            for record in sent.acknowledged:
                if record.sequence is not None:
                    self._note(record.license_id, record.sequence)
            self._unmarked += sent.acknowledged
            del self._unmarked[:-UNMARKED_ROWS_MAX]
            self.metrics.outbox_rows["published"].inc(len(sent.acknowledged))
            self.metrics.outbox_rows["left"].inc(len(taken) - len(sent.acknowledged))
            if sent.failure:
                log.warning("worker.outbox.left_to_relay", count=len(taken) - len(sent.acknowledged), why=sent.failure)

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
