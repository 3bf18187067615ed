"""The life of a consuming worker: join the group, carry batches through, and leave in order.

Orderly end: fetch nothing more, finish what is queued, commit, leave the group (its others notice within a heartbeat).
Each step is bounded, the whole stays under ten seconds, and whatever is cut off is redelivered to somebody else.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiokafka.errors import KafkaError

from shared.errors import UnavailableError
from workers.runtime.lane import Lane
from workers.runtime.offsets import OffsetCommitter
from workers.runtime.subscription import Subscription
from workers.runtime.watch import WorkerWatch

DRAIN_SECONDS = 3.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumption:
    """Everything between a topic and a batch worker, ready to run."""

    subscription: Subscription
    lane: Lane
    offsets: OffsetCommitter
    watch: WorkerWatch
    when_joined: Callable[[], None]
    """Called once, when everything is built and the group is joined."""

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set.

        Raises `UnavailableError` when no broker answers at the start, and whatever ended a part of it later.
        """
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(part) for part in (self.offsets.run(), self.watch.run())]
            carrying = [group.create_task(part) for part in (self.lane.work(), self.lane.settle())]
            try:
                if await self._join(stop):
                    self.when_joined()
                    await stop.wait()
                    await self._finish()
            finally:
                for part in asking:  # or they ask over a client that has ended, which would connect again for them
                    part.cancel()
                await self.subscription.close()
            for part in carrying:
                part.cancel()

    async def _join(self, stop: asyncio.Event) -> bool:
        """Join the group; False when we were asked to stop meanwhile."""
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(self._start())
            stopping = group.create_task(stop.wait())
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            joined = starting.done() and not starting.cancelled()
            starting.cancel()
        return joined

    async def _start(self) -> None:
        try:
            await self.subscription.broker.start()
        except (KafkaError, OSError) as error:
            raise UnavailableError(
                f"no Kafka answers ({type(error).__name__}): is KEYWAY_KAFKA_BOOTSTRAP right, and is it running?"
            ) from None

    async def _finish(self) -> None:
        self.subscription.pause()
        drained = await self.lane.drain(seconds=DRAIN_SECONDS)
        committed = await self.offsets.commit()
        log.info("worker.consumption.stopped", outcome="drained" if drained and committed else "abandoned")
