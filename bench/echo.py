"""Baseline A: HTTP in front of a raw aiokafka request/reply echo. What the transport alone costs.

`python -m bench.echo http JSON` takes requests and waits for replies; `python -m bench.echo echo JSON` answers every
record. Topics, partition counts, producers, acks and message sizes are those of the system; nothing is parsed, stored
or signed.
"""

import asyncio
import gc
import itertools
import json
import struct
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import uvloop
from aiohttp import web
from aiokafka import TopicPartition

from shared.contracts.identifiers import partition_of
from shared.contracts.topics import LICENSE_COMMANDS_PARTITIONS
from shared.kafka import (
    ConsumedRecord,
    RecordConsumer,
    RecordProducer,
    command_producer,
    reply_consumer,
    reply_producer,
    start_client,
)

COMMANDS_TOPIC = "bench.echo.commands"
REPLIES_TOPIC = "bench.echo.replies"
REPLY_PARTITION = 0
BUDGET_SECONDS = 25.0
POLL_MS = 100
RECORDS_MAX = 500
MARK = struct.Struct(">Q")
GARBAGE_THRESHOLD = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoPlan:
    """How one process of baseline A runs."""

    bootstrap: str
    port: int
    authorization: str = field(repr=False)
    command_bytes: int
    """Size of a command record's value, as the system writes it."""
    reply_bytes: int
    """Size of a reply, as the system writes it."""


class Inbox:
    """Requests that wait for their echo."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._marks = itertools.count()

    def expect(self) -> tuple[bytes, asyncio.Future[bytes]]:
        """Return a new mark and the future of its echo."""
        mark = MARK.pack(next(self._marks))
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[mark] = future
        return mark, future

    def resolve(self, value: bytes) -> None:
        """Hand an echo to whoever waits for it."""
        future = self._waiting.pop(value[: MARK.size], None)
        if future is not None and not future.done():
            future.set_result(value)


async def relay_replies(consumer: RecordConsumer, inbox: Inbox) -> None:
    """Resolve echoes for ever."""
    while True:
        for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
            for record in records:
                inbox.resolve(record.value or b"")


async def echo_for_ever(consumer: RecordConsumer, producer: RecordProducer, plan: EchoPlan) -> None:
    """Answer every command with a reply of the system's size; wait for a poll's acknowledgments together."""
    padding = bytes(plan.reply_bytes - MARK.size)
    while True:
        polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
        records: list[ConsumedRecord] = [record for several in polled.values() for record in several]
        sent = [
            await producer.send(REPLIES_TOPIC, (record.value or b"")[: MARK.size] + padding, partition=REPLY_PARTITION)
            for record in records
        ]
        await asyncio.gather(*sent)


async def http_application(plan: EchoPlan) -> web.Application:
    """Return the HTTP side: a request becomes a record, its echo the answer."""
    application = web.Application()
    inbox = Inbox()
    producer = command_producer(plan.bootstrap)
    padding = bytes(plan.command_bytes - MARK.size)

    async def ask(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != plan.authorization:
            return web.Response(status=403)
        form = await request.read()
        mark, future = inbox.expect()
        partition = partition_of(form, LICENSE_COMMANDS_PARTITIONS)
        await producer.send(COMMANDS_TOPIC, mark + padding, key=mark, partition=partition)
        async with asyncio.timeout(BUDGET_SECONDS):
            return web.Response(body=await future, content_type="application/octet-stream")

    @asynccontextmanager
    async def running(_application: web.Application) -> AsyncIterator[None]:
        consumer = reply_consumer(plan.bootstrap)
        async with clients(plan, producer, consumer):
            consumer.assign([TopicPartition(REPLIES_TOPIC, REPLY_PARTITION)])
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(relay_replies(consumer, inbox))
                yield
                reader.cancel()

    application.cleanup_ctx.append(running)
    application.router.add_post("/isv", ask)
    return application


@asynccontextmanager
async def clients(plan: EchoPlan, *started: RecordProducer | RecordConsumer) -> AsyncIterator[None]:
    """Run Kafka clients for the time of a block."""
    async with AsyncExitStack() as stack:
        for client in started:
            await start_client(client, plan.bootstrap)
            stack.push_async_callback(client.stop)
        yield


async def run_echo(plan: EchoPlan) -> None:
    """Run the answering process until it is cancelled."""
    consumer, producer = reply_consumer(plan.bootstrap), reply_producer(plan.bootstrap)
    async with clients(plan, producer, consumer):
        partitions: Sequence[TopicPartition] = [
            TopicPartition(COMMANDS_TOPIC, number) for number in range(LICENSE_COMMANDS_PARTITIONS)
        ]
        consumer.assign(partitions)
        settle()
        print("ready", flush=True)
        await echo_for_ever(consumer, producer, plan)


def settle() -> None:
    """Keep the garbage collector off what lives as long as the process, as the system does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def say_ready(*_arguments: object) -> None:
    """Tell the starter that the port is open."""
    settle()
    print("ready", flush=True)


def run_http(plan: EchoPlan) -> None:
    """Run the HTTP process until it is told to stop."""
    web.run_app(
        http_application(plan),
        host="127.0.0.1",
        port=plan.port,
        access_log=None,
        print=say_ready,
        loop=uvloop.new_event_loop(),
    )


def main() -> None:
    """Run the process named by the first argument with the plan in the second."""
    plan = EchoPlan(**json.loads(sys.argv[2]))
    roles: dict[str, Callable[[], None]] = {"http": lambda: run_http(plan), "echo": lambda: uvloop.run(run_echo(plan))}
    roles[sys.argv[1]]()


if __name__ == "__main__":
    main()
