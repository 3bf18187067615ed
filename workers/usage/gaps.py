"""Offsets of `usage.reported` that hold no event: marks of transactions, aborted events, gaps.

They are never handed out, so no batch moves the watermark past them; but the end of a partition counts them, and a
question about usage waits for that end. So whenever a partition is read up to its end and nothing of it is unfinished,
the stored watermark is moved to the consumer's position.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from shared.clock import SystemClock
from shared.errors import ConflictError, StoreRefusedError, UnavailableError
from workers.runtime.careful_consumer import CarefulConsumer
from workers.runtime.subscription import Subscription
from workers.runtime.watermark import Watermarks

LOOK_SECONDS = 0.25

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class GapKeeper:
    """Moves the stored watermark past offsets without an event."""

    subscription: Subscription
    watermarks: Watermarks
    move: Callable[[Mapping[int, int]], Awaitable[None]]
    """Stores watermarks by partition; raises `UnavailableError`."""
    clock: SystemClock
    _stored: dict[int, int] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Look for as long as the process lives."""
        while True:
            await self.clock.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Move the watermark of every partition that is read up to its end."""
        passed = {
            partition: offset for partition, offset in self._passed().items() if offset > self._stored.get(partition, 0)
        }
        if not passed:
            return
        try:
            await self.move(passed)
        except (UnavailableError, ConflictError, StoreRefusedError) as error:
            log.warning("worker.watermark.not_moved", detail=error, partitions=len(passed))
            return
        self._stored |= passed

    def _passed(self) -> Mapping[int, int]:
        consumer = self.subscription.consumer
        # While partitions are given up, queued records are dropped unfinished: only a member may tell.
        if not isinstance(consumer, CarefulConsumer) or not self.subscription.listener.is_member:
            return {}
        return {
            partition.partition: offset
            for partition, offset in consumer.emptied.items()
            if not self.watermarks.is_open(partition.partition)
        }
