"""`keyway bench usage`: usage events to durable counters, through the usage role and through a raw loop with COPY.

A cell publishes a number of prepared events at once and waits until all are durable: for S until the stored watermark
has passed them (events, counters and watermark move in one transaction), for R until the table holds them. Cells
alternate within each round, as those of the other comparisons do.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.contestants import ContestantFailedError, contestant_process
from bench.cpu import cpu_seconds, per_request
from bench.raw_usage import TABLE, RawPlan
from keyway.ka.forms import REPORTING, Order, operation_form
from keyway.ka.local_stack import Stack
from shared.contracts.identifiers import license_id, partition_of
from shared.contracts.topics import USAGE_REPORTED, USAGE_REPORTED_PARTITIONS
from shared.kafka import BatchBuilder, RecordProducer, event_producer, start_client

RAW_TOPIC = "bench.usage"
ACCOUNT = "ka"
LICENSES = 200
FIRST_NUMBER = 9_000_000
PRODUCTS: Mapping[str, tuple[str, Sequence[str]]] = {
    "CloudBackup": ("keyway.usage.level", ("storedGigabytes", "protectedServers")),
    "CloudTransfer": ("keyway.usage.increment", ("sentGigabytes", "receivedGigabytes")),
}
WARM_UP_EVENTS = 2_000
LOOK_AGAIN_SECONDS = 0.02
PATIENCE_SECONDS = 120.0
TAKEN_IN = "SELECT coalesce(sum(next_offset), 0)::bigint FROM usage_watermark"
COPIED = f"SELECT count(*) FROM {TABLE}"  # noqa: S608 - a constant of ours

Record = tuple[int, bytes, bytes]
"""Partition, key, value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageShape:
    """How much to measure."""

    events: int
    """Of one cell."""
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageCell:
    """One measurement."""

    contestant: str
    """`S` or `R`."""
    round: int
    events: int
    seconds: float
    """From the first send to the moment when all were durable."""
    publish_seconds: float
    """Of these, until Kafka had acknowledged all."""
    cpu_us_per_event: dict[str, float]

    @property
    def events_per_second(self) -> float:
        """Durable events per second."""
        return self.events / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Taker:
    """One contestant that runs and takes events in."""

    name: str
    topic: str
    processes: Mapping[str, int]
    """Pids of everything that works for it, by name."""
    count: str
    """Statement that tells how many are durable."""


@contextmanager
def takers(stack: Stack) -> Iterator[Sequence[Taker]]:
    """Run R beside the stack for the time of a block, and name both."""
    pids = stack.pids()
    servers = {name: pids[name] for name in ("kafka", "postgres")}
    asyncio.run(_make_topic(stack.kafka))
    plan = asdict(RawPlan(bootstrap=stack.kafka, topic=RAW_TOPIC, database=stack.database))
    with contestant_process("bench.raw_usage", "loop", plan, stack.state) as raw:
        yield (
            Taker(name="R", topic=RAW_TOPIC, processes={"raw": raw.pid, **servers}, count=COPIED),
            Taker(name="S", topic=USAGE_REPORTED, processes={"usage-0": pids["usage-0"], **servers}, count=TAKEN_IN),
        )


def measure_usage(stack: Stack, shape: UsageShape, tell: Callable[[UsageCell], None]) -> list[UsageCell]:
    """Return every cell of `shape`, rounds outermost; `tell` is called with each as it is done."""
    with takers(stack) as ready:
        return asyncio.run(_measure(stack, ready, shape, tell))


async def _measure(
    stack: Stack, ready: Sequence[Taker], shape: UsageShape, tell: Callable[[UsageCell], None]
) -> list[UsageCell]:
    await _buy_licenses(stack)
    chance = Random(28)
    cells = []
    connection = await asyncpg.connect(stack.database)
    producer = event_producer(stack.kafka)
    await start_client(producer, stack.kafka)
    try:
        for taker in ready:
            await _cell(taker, 0, made_up(chance, WARM_UP_EVENTS, f"warm {taker.name}"), producer, connection)
        for number in range(1, shape.rounds + 1):
            for taker in ready:
                events = made_up(chance, shape.events, f"{number} {taker.name}")
                cells.append(await _cell(taker, number, events, producer, connection))
                tell(cells[-1])
    finally:
        await producer.stop()
        await connection.close()
    return cells


async def _cell(
    taker: Taker,
    number: int,
    events: Sequence[Record],
    producer: RecordProducer,
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> UsageCell:
    async def durable() -> int:
        counted: int = await connection.fetchval(taker.count)
        return counted

    before, cpu_before = await durable(), cpu_seconds(taker.processes)
    began = time.perf_counter()
    await _publish(producer, taker.topic, events)
    published = time.perf_counter()
    await _until(durable, before + len(events), taker)
    ended = time.perf_counter()
    return UsageCell(
        contestant=taker.name,
        round=number,
        events=len(events),
        seconds=ended - began,
        publish_seconds=published - began,
        cpu_us_per_event=per_request(cpu_before, cpu_seconds(taker.processes), len(events)),
    )


async def _publish(producer: RecordProducer, topic: str, events: Sequence[Record]) -> None:
    """Write whole batches, ready-made: the generator must not be what is measured."""
    acknowledgments = [
        await producer.send_batch(batch, topic, partition=partition)
        for partition, batches in _batches(producer, events).items()
        for batch in batches
    ]
    await asyncio.gather(*acknowledgments)


def _batches(producer: RecordProducer, events: Sequence[Record]) -> Mapping[int, Sequence[BatchBuilder]]:
    batches: dict[int, list[BatchBuilder]] = {}
    for partition, key, value in events:
        own = batches.setdefault(partition, [producer.create_batch()])
        if own[-1].append(timestamp=None, key=key, value=value) is None:
            own.append(producer.create_batch())
            own[-1].append(timestamp=None, key=key, value=value)
    return batches


async def _until(durable: Callable[[], Awaitable[int]], wanted: int, taker: Taker) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while await durable() < wanted:
        if time.monotonic() > deadline:
            raise ContestantFailedError(f"{taker.name} did not take its events in within {PATIENCE_SECONDS:g} s")
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def made_up(chance: Random, count: int, source: str) -> list[Record]:
    """Return `count` different events of the last hour, half levels and half increments, over all licenses."""
    now = datetime.now(UTC)
    records = []
    for index in range(count):
        number, product = _license(chance.randrange(LICENSES))
        kind, counters = PRODUCTS[product]
        event = {
            "specversion": "1.0",
            "id": f"{index:08}",
            "source": f"urn:example:bench:{source}",
            "type": kind,
            "subject": license_id(ACCOUNT, number),
            "time": (now - timedelta(seconds=chance.randrange(3600))).isoformat(),
            "datacontenttype": "application/json",
            "data": {
                "account": ACCOUNT,
                "license": number,
                "counter": chance.choice(counters),
                "value": chance.randrange(1_000_000) / 1000,
            },
        }
        key = license_id(ACCOUNT, number).encode()
        records.append((partition_of(key, USAGE_REPORTED_PARTITIONS), key, json.dumps(event).encode()))
    return records


def _license(index: int) -> tuple[str, str]:
    """Return number and product of the license with this index."""
    return f"{FIRST_NUMBER + index:08}", tuple(PRODUCTS)[index % 2]


async def _buy_licenses(stack: Stack) -> None:
    administrator = stack.administrator()
    orders = [
        Order(number=number, product=product, model=REPORTING, expires_on=date(2099, 12, 31))
        for number, product in map(_license, range(LICENSES))
    ]
    for order in orders:
        exchange = await administrator.send(operation_form("PURCHASE", order))
        if exchange.status != 200:  # noqa: PLR2004 - the status of a sale
            raise ContestantFailedError(f"license {order.number} was not sold: {exchange.status} {exchange.problem}")


async def _make_topic(bootstrap: str) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        if RAW_TOPIC not in await client.list_topics():
            await client.create_topics(
                [NewTopic(name=RAW_TOPIC, num_partitions=USAGE_REPORTED_PARTITIONS, replication_factor=1)]
            )
    finally:
        await client.close()
