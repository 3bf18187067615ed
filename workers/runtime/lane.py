"""The lane of a worker process: records in, one batch at a time through, finished offsets out.

- `submit` fills a bounded queue and waits for space: that wait is the backpressure towards Kafka.
- `work` takes all that is queued, up to `BATCH_RECORDS_MAX`, and hands it to the batch worker. While the database
  commits, the next batch gathers: no linger, batches size themselves.
- `settle` waits for the acknowledgments of what a batch sent and only then finishes its records.

On a rebalance the epoch rises. Queued records that no batch has taken are dropped and stay *unfinished*, so the
watermark does not pass them and their next owner reads them; batches that run may end, which is waited for.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from shared.clock import SystemClock
from shared.kafka import ConsumedRecord
from workers.runtime.watermark import Watermarks

BATCH_RECORDS_MAX = 128
BATCH_BYTES_MAX = 8 * 1024 * 1024
POLL_RECORDS_MAX = 500
QUEUE_RECORDS_MAX = 2 * POLL_RECORDS_MAX
QUEUE_BYTES_MAX = 32 * 1024 * 1024
SETTLING_BATCHES_MAX = 4
"""Batches that wait for acknowledgments at once; the next one is worked on meanwhile."""


class Settlement(Protocol):
    """What must be over before a batch is finished."""

    async def settled(self) -> bool:
        """Wait for it; False when it was given up because the records were taken away."""
        ...


class BatchWorker(Protocol):
    """What a role does with a batch."""

    async def work(self, records: Sequence[ConsumedRecord], is_stale: Callable[[], bool]) -> Settlement | None:
        """Carry out a batch and begin to send what follows from it; return what must be awaited before it is finished.

        `is_stale` tells whether the records were taken away meanwhile: then a failing step is not tried again and
        None is returned (the new owner will read them). Never raises for a record or for a machine that is down.
        """
        ...


class Lane:
    """One queue, one batch at a time."""

    def __init__(
        self,
        worker: BatchWorker,
        watermarks: Watermarks,
        clock: SystemClock,
        *,
        batch_records_max: int = BATCH_RECORDS_MAX,
    ) -> None:
        """`batch_records_max` is latency against throughput: each batch is one transaction."""
        self._worker = worker
        self._batch_records_max = batch_records_max
        self._watermarks = watermarks
        self._clock = clock
        self._queue: deque[ConsumedRecord] = deque()
        self._queued_bytes = 0
        self._epoch = 0
        self._closed = False
        self._filled = asyncio.Event()
        self._space = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_flight = 0
        self._settling: asyncio.Queue[tuple[Sequence[ConsumedRecord], Settlement | None]] = asyncio.Queue(
            SETTLING_BATCHES_MAX
        )
        self._waiting_since: float | None = None

    @property
    def queued_count(self) -> int:
        """Records that no batch has taken yet."""
        return len(self._queue)

    @property
    def blocked_seconds(self) -> float:
        """How long `submit` has been waiting for space, 0 when it is not: nobody polls Kafka meanwhile."""
        return 0.0 if self._waiting_since is None else self._clock.monotonic() - self._waiting_since

    async def submit(self, records: Sequence[ConsumedRecord]) -> None:
        """Queue `records`, waiting for space. Returns early, leaving the rest unfinished, when they are taken away."""
        epoch = self._epoch
        for record in records:
            while not self._has_space():
                await self._wait_for_space()
            if self._epoch != epoch or self._closed:
                return
            self._watermarks.receive(record.partition, record.offset)
            self._queue.append(record)
            self._queued_bytes += _size(record)
            self._idle.clear()
            self._filled.set()

    def _has_space(self) -> bool:
        if self._closed:
            return True
        return not self._queue or (len(self._queue) < QUEUE_RECORDS_MAX and self._queued_bytes < QUEUE_BYTES_MAX)

    async def _wait_for_space(self) -> None:
        self._space.clear()
        if self._waiting_since is None:
            self._waiting_since = self._clock.monotonic()
        try:
            await self._space.wait()
        finally:
            self._waiting_since = None

    async def work(self) -> None:
        """Take batches for as long as the process lives."""
        while True:
            await self._filled.wait()
            batch = self._take()
            if not batch:
                continue
            settlement = await self._worker.work(batch, partial(self._is_stale, self._epoch))
            await self._settling.put((batch, settlement))

    async def settle(self) -> None:
        """Finish batches in order, each when what it sent is acknowledged."""
        while True:
            batch, settlement = await self._settling.get()
            if settlement is not None and await settlement.settled():
                for record in batch:
                    self._watermarks.finish(record.partition, record.offset)
            self._in_flight -= 1
            self._note_idle()

    async def revoke(self, *, seconds: float) -> bool:
        """Drop what is queued and wait up to `seconds` for batches that run; whether they ended in time."""
        self._epoch += 1
        self._queue.clear()
        self._queued_bytes = 0
        self._filled.clear()
        self._space.set()
        self._note_idle()
        return await self._wait_until_idle(seconds)

    async def drain(self, *, seconds: float) -> bool:
        """Take nothing more and wait up to `seconds` until all that is queued is finished; drop the rest."""
        self._closed = True
        self._space.set()
        return await self._wait_until_idle(seconds) or await self.revoke(seconds=0.0)

    def _is_stale(self, epoch: int) -> bool:
        return self._epoch != epoch

    async def _wait_until_idle(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _take(self) -> list[ConsumedRecord]:
        batch: list[ConsumedRecord] = []
        size = 0
        while self._queue and len(batch) < self._batch_records_max and size < BATCH_BYTES_MAX:
            record = self._queue.popleft()
            size += _size(record)
            batch.append(record)
        self._queued_bytes -= size
        if batch:
            self._in_flight += 1
        if not self._queue:
            self._filled.clear()
        self._space.set()
        return batch

    def _note_idle(self) -> None:
        if not self._in_flight and not self._queue:
            self._idle.set()


def _size(record: ConsumedRecord) -> int:
    return len(record.value or b"")
