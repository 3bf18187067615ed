"""A broker that is paused or killed under a working worker: no restart of the worker, nothing lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from keyway.localstack.installation import Installation
from keyway.localstack.kafka import KafkaServer
from keyway.localstack.ports import PortReservations
from keyway.localstack.processes import start
from tests.integration.worker_rig import CLOCK, MemoryHandler, purchases, rig, until
from tests.stack import START_SECONDS, temporary_state

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(240)]


class OwnKafka:
    """A broker of this test alone, to be hurt."""

    def __init__(self, server: KafkaServer) -> None:
        self.server = server
        self.process = start(server.launch())

    async def ready(self) -> None:
        await self.server.wait_until_ready(seconds=START_SECONDS)

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    async def kill_and_restart(self) -> None:
        self.kill()
        self.process = start(self.server.launch())
        await self.ready()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def own_kafka(installation: Installation) -> AsyncIterator[OwnKafka]:
    reservations = PortReservations()
    with temporary_state() as state:
        server = KafkaServer(
            java=installation.java,
            class_path=installation.class_path,
            cache=installation.cache,
            state=state,
            port=reservations.take(),
            controller_port=reservations.take(),
        )
        server.initialize()
        broker = OwnKafka(server)
        try:
            await broker.ready()
            yield broker
        finally:
            broker.kill()
            reservations.release()


async def test_paused_broker_is_sat_out_without_a_restart(local_installation: Installation) -> None:
    handler = MemoryHandler()
    async with own_kafka(local_installation) as broker, rig(broker.server.bootstrap, "p.") as stand:
        worker = await stand.worker(handler)
        await until(lambda: worker.readiness.is_ready, what="ready")
        before = await stand.publish_many(purchases(100))
        handler.open.clear()  # a batch is in the middle of its work
        broker.pause()
        handler.open.set()
        await CLOCK.sleep(7)
        ready_while_paused = worker.readiness.is_ready
        broker.resume()
        after = await stand.publish_many(purchases(100))
        replies = await stand.replies(200, seconds=30)
        await until(lambda: worker.readiness.is_ready, what="ready again")
        await stand.until_committed(200, seconds=60)  # paused beyond the session: the group forms anew first
        await worker.end()

        assert not ready_while_paused
        assert set(replies) == {e.command_id.bytes for e in (*before, *after)}


async def test_killed_broker_that_comes_back_finds_the_worker_at_work(local_installation: Installation) -> None:
    handler = MemoryHandler()
    async with own_kafka(local_installation) as broker, rig(broker.server.bootstrap, "k.") as stand:
        worker = await stand.worker(handler)
        before = await stand.publish_many(purchases(100))
        await until(lambda: len(handler.handled) >= 100, what="the first ones are handled")
        await broker.kill_and_restart()
        after = await stand.publish_many(purchases(100))
        replies = await stand.replies(200, seconds=30)
        await until(lambda: worker.readiness.is_ready, what="ready again")
        await worker.end()

        assert set(replies) >= {e.command_id.bytes for e in (*before, *after)}
        assert not worker.task.exception()


async def test_worker_stops_in_time_while_the_broker_is_away(local_installation: Installation) -> None:
    handler = MemoryHandler()
    async with own_kafka(local_installation) as broker, rig(broker.server.bootstrap, "s.") as stand:
        worker = await stand.worker(handler)
        client: Any = worker.consumption.subscription.consumer
        assert tasks_of_consumers()
        await stand.publish_many(purchases(100))
        broker.pause()
        began = CLOCK.monotonic()
        await worker.end()
        stopped = CLOCK.monotonic() - began
        left = tasks_of_consumers()
        connected = [connection for connection in client._client._conns.values() if connection.connected()]
        broker.resume()

        assert stopped < 10
        assert not left, "a client that was not stopped would connect again, and send late"
        assert not connected
        assert client._client._sync_task is None, "nobody looks for brokers any more"


def tasks_of_consumers() -> list[str]:
    """Return what the library's consumers have running; each of the rig's belongs to a worker."""
    running = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()]
    return [code.co_qualname for code in running if code is not None and "/aiokafka/consumer/" in code.co_filename]
