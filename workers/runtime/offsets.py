"""Offset commits: explicit, of the watermark alone, a few times a second and whenever partitions are given up."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from shared.clock import SystemClock
from shared.kafka import RecordConsumer
from shared.telemetry.metrics import WorkerMetrics
from workers.runtime.watermark import Watermarks

COMMIT_INTERVAL_SECONDS = 0.25
COMMIT_SECONDS = 3.0

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class OffsetCommitter:
    """Commits the watermarks of one topic for one consumer."""

    topic: str
    watermarks: Watermarks
    consumer: Callable[[], RecordConsumer | None]
    """The consumer, once there is one."""
    metrics: WorkerMetrics
    clock: SystemClock
    _committed: dict[int, int] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Commit for as long as the process lives."""
        while True:
            await self.clock.sleep(COMMIT_INTERVAL_SECONDS)
            await self.commit()
            self._show()

    async def commit(self) -> bool:
        """Commit what moved since the last time; whether nothing is left to commit. Never raises for the broker.

        Partitions that are no longer ours are left alone. A commit that fails costs a redelivery, nothing else.
        """
        consumer = self.consumer()
        if consumer is None:
            return True
        assigned = {partition.partition for partition in consumer.assignment()}
        moved = {
            partition: offset
            for partition, offset in self.watermarks.offsets().items()
            if partition in assigned and self._committed.get(partition) != offset
        }
        if not moved:
            return True
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await consumer.commit(
                    {TopicPartition(self.topic, partition): offset for partition, offset in moved.items()}
                )
        except (CommitFailedError, IllegalStateError, KafkaError, TimeoutError) as error:
            self.metrics.commits_failed.inc()
            log.warning("worker.offsets.not_committed", error_class=type(error).__name__, partitions=len(moved))
            return False
        self._committed |= moved
        return True

    def forget(self) -> None:
        """Forget watermarks and commits: the partitions belong to somebody else now."""
        self.watermarks.clear()
        self._committed.clear()
        self.metrics.lag_records.clear()
        self.metrics.watermark_offset.clear()

    def _show(self) -> None:
        consumer = self.consumer()
        if consumer is None:
            return
        offsets = self.watermarks.offsets()
        assignment = consumer.assignment()
        self.metrics.partitions_assigned.set(len(assignment))
        for partition in assignment:
            mark = offsets.get(partition.partition)
            if mark is None:
                continue
            label = str(partition.partition)
            self.metrics.watermark_offset.labels(label).set(mark)
            self.metrics.lag_records.labels(label).set(max(0, (consumer.highwater(partition) or mark) - mark))
