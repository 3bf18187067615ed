"""Which outbox rows may leave, and in which order; and the publisher that sends them right after their commit."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from shared.clock import MachineClock
from shared.contracts.envelope import new_id
from shared.contracts.events import EventType
from shared.contracts.identifiers import CommandId, LicenseId
from shared.contracts.replies import ReplyStatus
from shared.contracts.topics import LICENSE_EVENTS
from shared.domain.effects import CommandEffect, LicenseWrite, OutboxEvent, StoredReply
from shared.domain.outgoing import OutgoingRecord, in_order
from shared.errors import UnavailableError
from shared.telemetry.metrics import WorkerMetrics
from tests.builders import a_license
from workers.license.publishing import EVENTS_APART_SECONDS, QUEUE_ROWS_MAX, FastPublisher
from workers.outbox import Sent

ONE, TWO = LicenseId("ka:00000001"), LicenseId("ka:00000002")
EVENT_ID = UUID("01a1f0d7-0000-7000-8000-000000000001")


def record(license_id: LicenseId, sequence: int | None) -> OutgoingRecord:
    return OutgoingRecord(
        topic=LICENSE_EVENTS, license_id=license_id, event_id=EVENT_ID, sequence=sequence, value=b"{}"
    )


def test_the_first_event_needs_no_predecessor_and_a_later_one_its_own() -> None:
    rows = [record(ONE, 3), record(ONE, 2), record(TWO, 1), record(TWO, None)]

    assert in_order(rows, {}) == [record(TWO, None), record(TWO, 1)]
    assert in_order(rows, {ONE: 1}) == [record(TWO, None), record(TWO, 1), record(ONE, 2), record(ONE, 3)]


@given(
    rows=st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.integers(1, 9)), unique=True),
    known=st.dictionaries(st.sampled_from([ONE, TWO]), st.integers(0, 9)),
)
def test_nothing_ever_leaves_over_a_gap(rows: list[tuple[LicenseId, int]], known: dict[LicenseId, int]) -> None:
    reached = dict(known)
    for leaving in in_order([record(*row) for row in rows], known):
        assert leaving.sequence is not None
        assert leaving.sequence <= reached.get(leaving.license_id, 0) + 1
        reached[leaving.license_id] = max(reached.get(leaving.license_id, 0), leaving.sequence)
    stuck = [row for row in rows if row[1] == reached.get(row[0], 0) + 1]
    assert not stuck, "whatever may leave does"


@dataclass
class Broker:
    """Takes rounds, and fails as often as told."""

    rounds: list[list[OutgoingRecord]] = field(default_factory=list)
    failures: int = 0

    async def send(self, records: Sequence[OutgoingRecord]) -> Sent:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            return Sent((), "the broker is away")
        self.rounds.append(list(records))
        return Sent(records, "")


@dataclass
class Marked:
    """Remembers marks, and fails as often as told."""

    rows: list[OutgoingRecord] = field(default_factory=list)
    failures: int = 0

    async def mark(self, records: Sequence[OutgoingRecord], at: datetime) -> None:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the database is away")
        self.rows += records


def an_effect(sequence: int, *, published: int = 0, license_id: LicenseId = ONE) -> CommandEffect:
    event = OutboxEvent(event_id=EVENT_ID, type=EventType.ISSUED, sequence=sequence, value=b"{}")
    write = LicenseWrite(
        license=a_license(),
        version_before=sequence - 1,
        activation_code=None,
        audit_sha256=bytes(32),
        published_sequence=published,
    )
    return CommandEffect(
        command_id=CommandId(new_id()),
        license_id=license_id,
        payload_sha256=bytes(32),
        reply=StoredReply(status=ReplyStatus.NOTED),
        handled_at=datetime.now(UTC),
        write=write,
        events=(event,),
    )


class Hurried(MachineClock):
    """Sleeps without waiting, except where a loop would never rest."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds if seconds > EVENTS_APART_SECONDS else 0)


class Office:
    """A publisher with everything around it."""

    def __init__(self, *, broker_failures: int = 0, mark_failures: int = 0) -> None:
        self.broker, self.marks = Broker(failures=broker_failures), Marked(failures=mark_failures)
        self.publisher = FastPublisher(
            press=self.broker,
            marks=self.marks,
            clock=Hurried(),
            metrics=WorkerMetrics.bound_to(CollectorRegistry()),
        )

    async def after(self, *batches: list[CommandEffect]) -> list[int | None]:
        """Return the sequences that were sent after the batches were committed one after the other."""
        task = asyncio.get_running_loop().create_task(self.publisher.run())
        for batch in batches:
            self.publisher.committed(batch)
            for _ in range(5):
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.publisher.mark()
        return [row.sequence for sent in self.broker.rounds for row in sent]


@pytest.mark.asyncio
async def test_events_of_a_license_of_this_process_leave_at_once_and_are_marked() -> None:
    office = Office()

    assert await office.after([an_effect(1)], [an_effect(2)], [an_effect(3)]) == [1, 2, 3]
    assert [row.sequence for row in office.marks.rows] == [1, 2, 3]


@pytest.mark.asyncio
async def test_an_event_whose_predecessor_is_not_known_to_be_out_is_left_to_the_relay() -> None:
    assert await Office().after([an_effect(5)]) == []
    assert await Office().after([an_effect(5, published=3)]) == []
    assert await Office().after([an_effect(5, published=4)]) == [5]


@pytest.mark.asyncio
async def test_after_a_failure_the_license_belongs_to_the_relay() -> None:
    office = Office(broker_failures=1)

    sent = await office.after([an_effect(1)], [an_effect(2)], [an_effect(3, published=2)])

    assert sent == [3], "1 and 2 are the relay's; 3 follows what the relay has published"


@pytest.mark.asyncio
async def test_marks_that_fail_are_made_later() -> None:
    office = Office(mark_failures=1)

    await office.after([an_effect(1)])
    assert office.marks.rows == []
    await office.publisher.mark()

    assert [row.sequence for row in office.marks.rows] == [1]


def test_a_full_queue_leaves_the_rest_to_the_relay_and_never_waits() -> None:
    office = Office()
    many = [replace(an_effect(1), license_id=LicenseId(f"ka:{n}")) for n in range(QUEUE_ROWS_MAX + 10)]

    office.publisher.committed(many)

    assert len(office.publisher._events.rows) == QUEUE_ROWS_MAX
