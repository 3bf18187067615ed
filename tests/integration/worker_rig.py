"""A license worker on a real Kafka with a handler in memory: what tests of the runtime stand on.

`python -m tests.integration.worker_rig BOOTSTRAP PREFIX FILE` is the same worker as a process of its own, which writes
the ids of the commands that it handled into FILE: for signals and sudden death.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, NotLeaderForPartitionError
from prometheus_client import CollectorRegistry

from keyway.cli.topics import apply_topics
from shared.clock import MachineClock
from shared.contracts.codec import encode_envelope
from shared.contracts.commands import LicenseCommand
from shared.contracts.envelope import Envelope, new_id
from shared.contracts.identifiers import CommandId, partition_of
from shared.contracts.replies import Reply, ReplyStatus, unpack_frames
from shared.contracts.topics import (
    HEADER_COMMAND_ID,
    HEADER_REPLY_PARTITION,
    LICENSE_COMMANDS,
    LICENSE_COMMANDS_PARTITIONS,
    LICENSE_REPLIES,
    LICENSE_REPLIES_PARTITIONS,
    LICENSE_WORKER_GROUP,
    dead_letter_topic,
)
from shared.errors import UnavailableError
from shared.kafka import (
    ConsumedRecord,
    RecordMetadata,
    RecordProducer,
    command_producer,
    dead_letter_producer,
    reply_producer,
)
from shared.kafka_ending import cut_off
from shared.settings import Settings
from shared.telemetry.health import Readiness
from shared.telemetry.logging import configure_logging
from shared.telemetry.metrics import WorkerMetrics
from tests.builders import a_purchase
from workers.license.case_file import ReceivedCommand
from workers.license.sheet import Handled
from workers.license.subscriber import Surroundings, license_commands
from workers.runtime.consumption import Consumption
from workers.runtime.process import run_process

LED_SECONDS = 20.0
"""So long a loaded broker may take until it leads the partitions of a new topic."""
CLOCK = MachineClock()
SESSION_SECONDS = 3.0
PUBLISH_ATTEMPTS_MAX = 5


@dataclass
class MemoryHandler:
    """Answers every command with a body that names it, remembers the order, and fails on demand."""

    begun: int = 0
    """Batches handed to it, finished or not."""
    handled: list[Envelope] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    unavailable_times: int = 0
    trips_over: frozenset[str] = frozenset()
    seconds_per_batch: float = 0.0

    def __post_init__(self) -> None:
        self.open.set()

    async def handle(self, received: Sequence[ReceivedCommand]) -> Sequence[Handled]:
        self.begun += 1
        await self.open.wait()
        if self.unavailable_times:
            self.unavailable_times -= 1
            raise UnavailableError("the database is away")
        if any(command.envelope.command.number in self.trips_over for command in received):
            raise KeyError("a defect")
        await CLOCK.sleep(self.seconds_per_batch)
        self.batches.append(len(received))
        self.handled.extend(command.envelope for command in received)
        return [Handled(Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15", body_of(c.envelope))) for c in received]

    @property
    def numbers(self) -> list[str]:
        return [envelope.command.number for envelope in self.handled]


def body_of(envelope: Envelope) -> bytes:
    return f"body of {envelope.command_id}".encode()


class FileHandler:
    """Writes what it handles to a file, one id a line, as a database would: before the answer."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    async def handle(self, received: Sequence[ReceivedCommand]) -> Sequence[Handled]:
        await CLOCK.sleep(0.005)
        self._file.write(b"".join(f"{command.envelope.command.number}\n".encode() for command in received))
        return [Handled(Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15", body_of(c.envelope))) for c in received]


class WithheldProducer:
    """A real producer whose records only leave, and are acknowledged, once `released` is set."""

    def __init__(self, real: RecordProducer) -> None:
        self._real = real
        self._sender = real._sender  # type: ignore[attr-defined] # what `is_sending` looks at
        self.released = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        await self._real.start()

    async def stop(self) -> None:
        await self._real.stop()

    async def send(self, *arguments: Any, **options: Any) -> asyncio.Task[Any]:
        async def later() -> Any:
            await self.released.wait()
            return await (await self._real.send(*arguments, **options))

        self._tasks.append(asyncio.create_task(later()))
        return self._tasks[-1]


@dataclass
class RunningWorker:
    consumption: Consumption
    readiness: Readiness
    metrics: WorkerMetrics
    registry: CollectorRegistry
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def end(self) -> None:
        self.stop.set()
        await self.task

    async def crash(self) -> None:
        """Stop at once: nothing is drained, committed or said to the group."""
        consumer = self.consumption.subscription.consumer
        assert consumer is not None
        await cut_off(consumer)  # the sudden death of the connection
        self.task.cancel()
        with suppress(asyncio.CancelledError, BaseExceptionGroup):
            await self.task
        await cut_off(consumer)  # what its parts had it connect again, before they ended too

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@dataclass
class Rig:
    bootstrap: str
    prefix: str
    producer: RecordProducer
    stack: AsyncExitStack
    log: BytesIO
    workers: list[RunningWorker] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return self.prefix + LICENSE_COMMANDS

    async def worker(
        self,
        handler: Any,
        *,
        joined: bool = True,
        session_seconds: float = SESSION_SECONDS,
        replies: Any = None,
    ) -> RunningWorker:
        registry = CollectorRegistry()
        metrics, readiness = WorkerMetrics.bound_to(registry), Readiness(CLOCK)
        producers = [replies or reply_producer(self.bootstrap), dead_letter_producer(self.bootstrap)]
        for producer in producers:
            await producer.start()
            self.stack.push_async_callback(producer.stop)
        consumption = license_commands(
            handler,
            surroundings(self.bootstrap, self.prefix, producers, readiness, metrics, session_seconds=session_seconds),
        )
        stop = asyncio.Event()
        running = RunningWorker(
            consumption, readiness, metrics, registry, stop, asyncio.create_task(consumption.run(stop))
        )
        self.workers.append(running)
        if joined:
            await until(
                lambda: consumption.subscription.listener.is_member, what="the worker joined", task=running.task
            )
        return running

    async def publish(self, command: LicenseCommand, *, slot: int | None = 5, **changes: Any) -> Envelope:
        envelope = an_envelope(command, **changes)
        await self.put(encode_envelope(envelope), headers=headers_of(envelope, slot), key=envelope.license_id.encode())
        return envelope

    async def put(
        self,
        value: bytes | None,
        *,
        headers: Sequence[tuple[str, bytes | None]],
        key: bytes | None,
        partition: int | None = None,
    ) -> None:
        where = partition_of(key or b"", LICENSE_COMMANDS_PARTITIONS) if partition is None else partition
        clock = MachineClock()
        ends = clock.monotonic() + LED_SECONDS
        while True:
            try:
                await (await self.producer.send(self.topic, value, key, partition=where, headers=headers))
            except NotLeaderForPartitionError:  # named leader of a new topic before it took it up: nothing was written
                if clock.monotonic() > ends:
                    raise
            else:
                return

    async def publish_many(self, commands: Sequence[LicenseCommand], slot: int | None = 5) -> list[Envelope]:
        """Write commands; what is not acknowledged is written again, as any sender would."""
        envelopes = [an_envelope(command) for command in commands]
        left = envelopes
        for _ in range(PUBLISH_ATTEMPTS_MAX):
            acks = [await self._begin(envelope, slot) for envelope in left]
            ends = await asyncio.gather(*acks, return_exceptions=True)
            left = [envelope for envelope, end in zip(left, ends, strict=True) if isinstance(end, BaseException)]
            if not left:
                return envelopes
        raise AssertionError(f"{len(left)} commands were not acknowledged")

    async def _begin(self, envelope: Envelope, slot: int | None) -> asyncio.Future[RecordMetadata]:
        key = envelope.license_id.encode()
        where = partition_of(key, LICENSE_COMMANDS_PARTITIONS)
        return await self.producer.send(
            self.topic, encode_envelope(envelope), key, partition=where, headers=headers_of(envelope, slot)
        )

    async def replies(self, count: int, *, seconds: float = 25.0) -> dict[bytes, list[Reply]]:
        """Return the replies seen by correlation id once at least `count` askers have theirs."""
        found: dict[bytes, list[Reply]] = {}
        async with aclosing(
            self._records(self.prefix + LICENSE_REPLIES, LICENSE_REPLIES_PARTITIONS, seconds)
        ) as records:
            async for record in records:
                for correlation_id, reply in unpack_frames(record.value or b""):
                    found.setdefault(correlation_id, []).append(reply)
                if len(found) >= count:
                    return found
        raise AssertionError(f"only {len(found)} of {count} replies in {seconds} s")

    async def dead_letters(self, count: int, *, seconds: float = 25.0) -> list[ConsumedRecord]:
        found: list[ConsumedRecord] = []
        async with aclosing(
            self._records(dead_letter_topic(self.topic), LICENSE_COMMANDS_PARTITIONS, seconds)
        ) as records:
            async for record in records:
                found.append(record)
                if len(found) >= count:
                    return found
        raise AssertionError(f"only {len(found)} of {count} dead letters in {seconds} s")

    async def _records(self, topic: str, partitions: int, seconds: float) -> AsyncGenerator[ConsumedRecord, None]:
        """Yield what stands on a topic; close it where reading ends, or its client outlives the test's question."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, partition) for partition in range(partitions)])
            ends = CLOCK.monotonic() + seconds
            while CLOCK.monotonic() < ends:
                for records in (await consumer.getmany(timeout_ms=50)).values():
                    for record in records:
                        yield record
        finally:
            await consumer.stop()

    async def committed(self) -> Mapping[int, int]:
        """Return the group's committed offset of every partition that has one."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=self.prefix + LICENSE_WORKER_GROUP, enable_auto_commit=False
        )
        await consumer.start()
        try:
            offsets = {
                partition: await consumer.committed(TopicPartition(self.topic, partition))
                for partition in range(LICENSE_COMMANDS_PARTITIONS)
            }
        finally:
            await consumer.stop()
        return {partition: offset for partition, offset in offsets.items() if offset is not None}

    async def until_committed(self, count: int, *, seconds: float = 20.0) -> None:
        """Wait until the group has committed so many records."""
        ends = CLOCK.monotonic() + seconds
        while True:
            try:
                told = sum((await self.committed()).values())
            except (
                AssertionError,
                KafkaError,
            ):  # after a pause a broker knows of no broker, itself included, for a while
                told = -1
            if told == count:
                return
            assert CLOCK.monotonic() < ends, f"{told} of {count} records committed in {seconds} s"
            await CLOCK.sleep(0.05)


def surroundings(
    bootstrap: str,
    prefix: str,
    producers: Sequence[RecordProducer],
    readiness: Readiness,
    metrics: WorkerMetrics,
    *,
    session_seconds: float = SESSION_SECONDS,
) -> Surroundings:
    async def database_answers() -> None:
        return None

    return Surroundings(
        bootstrap=bootstrap,
        topic_prefix=prefix,
        session_timeout_seconds=session_seconds,
        replies=producers[0],
        dead_letters=producers[1],
        ask_database=database_answers,
        readiness=readiness,
        metrics=metrics,
        clock=CLOCK,
        chance=lambda: 0.5,
        when_joined=lambda: None,
    )


def headers_of(envelope: Envelope, slot: int | None) -> list[tuple[str, bytes | None]]:
    address: list[tuple[str, bytes | None]] = [(HEADER_COMMAND_ID, envelope.command_id.bytes)]
    return address if slot is None else [*address, (HEADER_REPLY_PARTITION, slot.to_bytes(2, "big"))]


def an_envelope(command: LicenseCommand, **changes: Any) -> Envelope:
    command_id = CommandId(new_id())
    members: dict[str, Any] = {
        "command_id": command_id,
        "correlation_id": command_id,
        "causation_id": None,
        "command": command,
        "deadline_at": None,
        "occurred_at": CLOCK.now(),
    }
    return Envelope(**members | changes)


def purchases(count: int, *, licenses: int | None = None) -> list[LicenseCommand]:
    """Purchases of as many numbers, or in turn over `licenses` of them."""
    return [a_purchase(number=f"{index % (licenses or count):08d}") for index in range(count)]


async def until(condition: Any, *, what: str, seconds: float = 25.0, task: asyncio.Task[Any] | None = None) -> None:
    ends = CLOCK.monotonic() + seconds
    while not condition():
        if task is not None and task.done():
            task.result()
        assert CLOCK.monotonic() < ends, f"not within {seconds} s: {what}"
        await CLOCK.sleep(0.01)


@asynccontextmanager
async def rig(bootstrap: str, prefix: str) -> AsyncIterator[Rig]:
    """Topics, a producer, and an orderly end of all workers; what they log stands in `Rig.log`."""
    await apply_topics(Settings(kafka_bootstrap=bootstrap, topic_prefix=prefix))
    async with AsyncExitStack() as stack:
        log = stack.enter_context(logs_apart())
        producer = command_producer(bootstrap)
        await producer.start()
        stack.push_async_callback(producer.stop)
        made = Rig(bootstrap, prefix, producer, stack, log)
        try:
            yield made
        finally:
            for worker in made.workers:
                if not worker.task.done():
                    await worker.end()


@contextmanager
def logs_apart() -> Iterator[BytesIO]:
    """Send log lines, as production writes them, to a buffer while the block runs."""
    buffer = BytesIO()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logging("INFO", "test", stream=buffer)
    try:
        yield buffer
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)


async def _run_alone(bootstrap: str, prefix: str, path: Path, stop: asyncio.Event) -> None:
    producers = [reply_producer(bootstrap), dead_letter_producer(bootstrap)]
    for producer in producers:
        await producer.start()
    metrics = WorkerMetrics.bound_to(CollectorRegistry())
    around = surroundings(bootstrap, prefix, producers, Readiness(CLOCK), metrics)
    await license_commands(FileHandler(path), around).run(stop)
    for producer in producers:
        await producer.stop()


if __name__ == "__main__":
    address, name, target = sys.argv[1:]
    run_process(lambda stop: _run_alone(address, name, Path(target), stop))
