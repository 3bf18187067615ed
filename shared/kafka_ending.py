"""The end of a Kafka client in bounded time.

The library's `stop` waits for the broker: a producer flushes, a group's consumer says good-bye. With the broker away
that lasts as long as the outage, and just to stop waiting leaves tasks behind that connect again and again: they would
send late what nobody counts on any more, and log for a client that nobody holds. So a client that did not stop in time
is cut off: its tasks end, its sockets are closed, what it had not sent fails.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

from aiokafka.errors import KafkaError, ProducerClosed

from shared.kafka import RecordConsumer, RecordProducer

CUT_SECONDS = 1.0
_TASKS = {
    "_coordinator": ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task"),
    "_fetcher": ("_fetch_task",),
    "_sender": ("_sender_task",),
}
"""Where the library keeps the tasks that it starts, by part of a client."""


async def stop_client(client: RecordProducer | RecordConsumer, seconds: float) -> bool:
    """Stop `client`; one that takes longer than `seconds` is cut off. Returns whether it stopped by itself."""
    try:
        async with asyncio.timeout(seconds):
            await client.stop()
    except (KafkaError, TimeoutError):
        await cut_off(client)
        return False
    return True


async def cut_off(client: object) -> None:
    """End the tasks of `client` and close its sockets without a word to the broker, within `CUT_SECONDS`."""
    setattr(client, "_closed", True)  # noqa: B010 - the library's own mark: a later `stop` says good-bye to nobody
    tasks = list(_tasks(client))
    for task in tasks:
        task.cancel()
    network = getattr(client, "client", None) or getattr(client, "_client", None)
    closing = () if network is None else (network.close(),)  # fails the requests that the tasks wait for
    with suppress(TimeoutError):
        async with asyncio.timeout(CUT_SECONDS):
            await asyncio.gather(*tasks, *closing, return_exceptions=True)
    unsent = getattr(client, "_message_accumulator", None)
    if unsent is not None:
        unsent.fail_all(ProducerClosed())


def _tasks(client: object) -> Iterator[asyncio.Task[object]]:
    for part, names in _TASKS.items():
        for name in names:
            task = getattr(getattr(client, part, None), name, None)
            if task is not None and not task.done():
                yield task
    fetcher = getattr(client, "_fetcher", None)
    yield from (task for task in getattr(fetcher, "_pending_tasks", ()) if not task.done())
