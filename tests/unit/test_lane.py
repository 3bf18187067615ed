"""The lane: bounded, in order, and honest about what it did not finish."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from shared.clock import MachineClock
from shared.kafka import ConsumedRecord, Headers
from workers.runtime.backoff import FIRST_SECONDS, LONGEST_SECONDS, delay_seconds
from workers.runtime.lane import BATCH_RECORDS_MAX, QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX, Lane
from workers.runtime.watermark import Watermarks

pytestmark = pytest.mark.asyncio


@dataclass(frozen=True)
class Record:
    offset: int
    partition: int = 0
    value: bytes | None = b"{}"
    key: bytes | None = None
    topic: str = "t"
    timestamp: int = 0
    headers: Headers = ()


@dataclass
class Receipt:
    released: asyncio.Event
    is_given_up: bool = False

    async def settled(self) -> bool:
        await self.released.wait()
        return not self.is_given_up


@dataclass
class GatedWorker:
    """Works on a batch only when let, and settles it only when let."""

    batches: list[list[int]] = field(default_factory=list)
    may_work: asyncio.Event = field(default_factory=asyncio.Event)
    may_settle: asyncio.Event = field(default_factory=asyncio.Event)
    gives_up: bool = False

    async def work(self, records: Sequence[ConsumedRecord], is_stale: Callable[[], bool]) -> Receipt | None:
        self.batches.append([record.offset for record in records])
        await self.may_work.wait()
        if self.gives_up and is_stale():
            return None
        return Receipt(self.may_settle)


@asynccontextmanager
async def running(
    worker: GatedWorker, *, batch_records_max: int = BATCH_RECORDS_MAX
) -> AsyncIterator[tuple[Lane, Watermarks]]:
    marks = Watermarks()
    lane = Lane(worker, marks, MachineClock(), batch_records_max=batch_records_max)
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(lane.work()), group.create_task(lane.settle())]
        yield lane, marks
        for part in parts:
            part.cancel()


async def a_moment() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def records(count: int, start: int = 0) -> list[Record]:
    return [Record(offset) for offset in range(start, start + count)]


async def test_next_batch_gathers_while_one_is_worked_on() -> None:
    worker = GatedWorker()
    async with running(worker) as (lane, _):
        await lane.submit(records(1))
        await a_moment()
        await lane.submit(records(300, start=1))
        worker.may_work.set()
        await a_moment()

    assert [len(batch) for batch in worker.batches] == [1, BATCH_RECORDS_MAX, BATCH_RECORDS_MAX, 44]
    assert [offset for batch in worker.batches for offset in batch] == list(range(301))


async def test_a_role_may_have_larger_batches() -> None:
    worker = GatedWorker()
    async with running(worker, batch_records_max=500) as (lane, _):
        await lane.submit(records(600))
        worker.may_work.set()
        await a_moment()
    assert [len(batch) for batch in worker.batches] == [500, 100]


async def test_records_are_finished_only_when_settled() -> None:
    worker = GatedWorker()
    worker.may_work.set()
    async with running(worker) as (lane, marks):
        await lane.submit(records(5))
        await a_moment()
        before = marks.offsets()
        worker.may_settle.set()
        await a_moment()

        assert before == {0: 0}
        assert marks.offsets() == {0: 5}


async def test_submit_waits_when_the_queue_is_full() -> None:
    worker = GatedWorker()
    async with running(worker) as (lane, _):
        submitting = asyncio.create_task(lane.submit(records(QUEUE_RECORDS_MAX + 2 * BATCH_RECORDS_MAX)))
        await a_moment()

        assert not submitting.done()
        assert lane.queued_count <= QUEUE_RECORDS_MAX
        assert lane.blocked_seconds > 0
        worker.may_work.set()
        worker.may_settle.set()
        await asyncio.wait_for(submitting, 30)


async def test_queue_is_bounded_in_bytes_too() -> None:
    worker = GatedWorker()
    big = bytes(QUEUE_BYTES_MAX // 4)
    async with running(worker) as (lane, _):
        submitting = asyncio.create_task(lane.submit([Record(offset, value=big) for offset in range(20)]))
        await a_moment()

        assert not submitting.done()
        assert lane.queued_count <= 5
        worker.may_work.set()
        worker.may_settle.set()
        await asyncio.wait_for(submitting, 30)


async def test_revoked_records_stay_unfinished_and_the_running_batch_counts() -> None:
    worker = GatedWorker()
    async with running(worker) as (lane, marks):
        await lane.submit(records(1))
        await a_moment()
        await lane.submit(records(50, start=1))
        revoking = asyncio.create_task(lane.revoke(seconds=1))
        await a_moment()
        waited = not revoking.done()
        worker.may_work.set()
        worker.may_settle.set()

        assert waited
        assert await revoking
        assert marks.offsets() == {0: 1}, "the batch that ran is finished, what was queued is not"
        assert worker.batches == [[0]]


async def test_revoke_does_not_wait_for_ever() -> None:
    worker = GatedWorker(gives_up=True)
    async with running(worker) as (lane, marks):
        await lane.submit(records(1))
        await a_moment()

        assert not await lane.revoke(seconds=0.05)
        worker.may_work.set()
        await a_moment()
        assert marks.offsets() == {0: 0}, "a batch that was given up is not finished"


async def test_submit_of_an_older_epoch_adds_nothing() -> None:
    worker = GatedWorker()
    async with running(worker) as (lane, _):
        submitting = asyncio.create_task(lane.submit(records(2 * QUEUE_RECORDS_MAX)))
        await a_moment()
        revoking = asyncio.create_task(lane.revoke(seconds=1))
        await a_moment()

        assert submitting.done(), "what it still held belongs to another owner now"
        assert lane.queued_count == 0
        worker.may_work.set()
        worker.may_settle.set()
        assert await revoking


async def test_drain_finishes_what_is_queued_and_takes_nothing_more() -> None:
    worker = GatedWorker()
    worker.may_work.set()
    worker.may_settle.set()
    async with running(worker) as (lane, marks):
        await lane.submit(records(400))

        assert await lane.drain(seconds=1)
        await lane.submit(records(10, start=400))
        assert marks.offsets() == {0: 400}


async def test_drain_gives_up_in_time() -> None:
    worker = GatedWorker()
    async with running(worker) as (lane, marks):
        await lane.submit(records(400))

        assert not await lane.drain(seconds=0.05)
        assert marks.offsets() == {0: 0}


async def test_back_off_grows_is_bounded_and_spread() -> None:
    whole = [delay_seconds(attempt, 0.0) for attempt in range(1, 200)]

    assert whole[0] == FIRST_SECONDS
    assert whole == sorted(whole)
    assert max(whole) == LONGEST_SECONDS
    assert delay_seconds(3, 0.999) < delay_seconds(3, 0.0)
    assert min(delay_seconds(attempt, 0.999) for attempt in range(1, 20)) > FIRST_SECONDS / 3
