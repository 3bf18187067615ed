"""What tests of the usage role stand on: licenses, events, worker processes that may be killed, and what they left."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from keyway.cli.topics import apply_topics
from keyway.localstack.folders import CHECKOUT
from shared.contracts.commands import LicensingModel
from shared.contracts.topics import USAGE_REPORTED, USAGE_REPORTED_PARTITIONS, USAGE_WORKER_GROUP, dead_letter_topic
from shared.database.catalogs import PostgresCatalogs
from shared.database.license_store import PostgresLicenseStore
from shared.database.pool import open_pool
from shared.kafka import ConsumedRecord, event_producer
from shared.settings import Settings
from tests.builders import a_license
from tests.conformance.test_license_store import an_issue

CATALOG_FILE = CHECKOUT / "deploy" / "catalog" / "example.yaml"
SESSION_SECONDS = "3"
REWIND_ATTEMPTS_MAX = 15
PUBLISH_ATTEMPTS_MAX = 5


@dataclass(slots=True)
class UsageRig:
    """A prefix on Kafka, a database with the example catalog, and the processes started for them."""

    bootstrap: str
    prefix: str
    database_url: str
    logs: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return self.prefix + USAGE_REPORTED

    async def prepare(self, licenses: Mapping[str, Mapping[str, Any]]) -> None:
        """Make the topics, the catalog, and a license per number with these members changed."""
        await apply_topics(Settings(kafka_bootstrap=self.bootstrap, topic_prefix=self.prefix))
        async with open_pool(self.database_url) as pool:
            await PostgresCatalogs(pool).add(yaml.safe_load(CATALOG_FILE.read_text()), version=1)
        store = PostgresLicenseStore(self.database_url)
        for number, changes in licenses.items():
            license = a_license(number=number, model=LicensingModel.REPORTING, **changes)
            await store.store([an_issue(license)])
        await store.close()

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start `keyway worker usage`."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYWAY_")}
        ours = {
            "KEYWAY_DATABASE_URL": self.database_url,
            "KEYWAY_KAFKA_BOOTSTRAP": self.bootstrap,
            "KEYWAY_TOPIC_PREFIX": self.prefix,
            "KEYWAY_ADMIN_PORT": "0",
            "KEYWAY_KAFKA_SESSION_TIMEOUT_SECONDS": SESSION_SECONDS,
        }
        with (self.logs / f"usage-{len(self.workers)}.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "keyway", "worker", "usage"],
                cwd=CHECKOUT,
                env=environment | ours,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(worker)
        return worker

    def stop_workers(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End all workers and wait for them."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(number)
        for worker in self.workers:
            worker.wait(20)

    async def publish(self, events: Sequence[tuple[int, bytes]]) -> None:
        """Write records to the given partitions; what is not acknowledged is written again, as any sender would."""
        producer = event_producer(self.bootstrap)
        await producer.start()
        try:
            left = list(events)
            for _ in range(PUBLISH_ATTEMPTS_MAX):
                acks = [await producer.send(self.topic, value, b"k", partition=number) for number, value in left]
                ends = await asyncio.gather(*acks, return_exceptions=True)
                left = [event for event, end in zip(left, ends, strict=True) if isinstance(end, BaseException)]
                if not left:
                    return
            raise AssertionError(f"{len(left)} events were not acknowledged")
        finally:
            await producer.stop()

    async def query(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.database_url)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def until_taken_in(self, *, seconds: float) -> None:
        """Wait until the stored watermark is the end of every partition."""
        ends = await self._ends(self.topic)
        deadline = time.monotonic() + seconds
        while True:
            rows = await self.query("SELECT partition, next_offset FROM usage_watermark")
            marks = {row["partition"]: row["next_offset"] for row in rows}
            if all(marks.get(partition, 0) >= end for partition, end in ends.items()):
                return
            assert time.monotonic() < deadline, f"not within {seconds} s: {marks} of {ends}"
            await asyncio.sleep(0.1)

    async def taken_in(self) -> int:
        """Return how many offsets the stored watermarks have passed."""
        ((taken,),) = await self.query("SELECT coalesce(sum(next_offset), 0) FROM usage_watermark")
        return int(taken)

    async def until_busy(self, before: int, *, seconds: float) -> None:
        """Wait until more is taken in than `before`, which is asked for before anything is published."""
        deadline = time.monotonic() + seconds
        while await self.taken_in() == before:
            assert time.monotonic() < deadline, f"nothing is taken in within {seconds} s"
            await asyncio.sleep(0.02)

    async def until_watermark(self, partition: int, offset: int, *, seconds: float) -> None:
        """Wait until the stored watermark of a partition is exactly `offset`."""
        deadline = time.monotonic() + seconds
        while True:
            rows = await self.query("SELECT next_offset FROM usage_watermark WHERE partition = $1", partition)
            if [row["next_offset"] for row in rows] == [offset]:
                return
            assert time.monotonic() < deadline, f"not within {seconds} s: {rows}, not {offset}"
            await asyncio.sleep(0.1)

    async def until_committed(self, *, seconds: float) -> None:
        """Wait until the group's offsets are the ends of all partitions that hold anything."""
        ends = {partition: end for partition, end in (await self._ends(self.topic)).items() if end}
        deadline = time.monotonic() + seconds
        while await self.committed() != ends:
            assert time.monotonic() < deadline, f"not within {seconds} s"
            await asyncio.sleep(0.2)

    async def committed(self) -> dict[int, int]:
        async with self._consumer(self.prefix + USAGE_WORKER_GROUP) as consumer:
            found = {number: await consumer.committed(TopicPartition(self.topic, number)) for number in PARTITIONS}
        return {number: offset for number, offset in found.items() if offset}

    async def rewind(self) -> None:
        """Let the group begin again at offset 0. No worker may run."""
        async with self._consumer(self.prefix + USAGE_WORKER_GROUP) as consumer:
            partitions = [TopicPartition(self.topic, number) for number in PARTITIONS]
            consumer.assign(partitions)
            for _ in range(REWIND_ATTEMPTS_MAX):  # killed members count as alive until their session is over
                try:
                    await consumer.commit(dict.fromkeys(partitions, 0))
                except KafkaError:
                    await asyncio.sleep(1)
                else:
                    return
        raise AssertionError("the group never became empty")

    async def dead_letters(self) -> list[ConsumedRecord]:
        topic = dead_letter_topic(self.topic)
        ends = {partition: end for partition, end in (await self._ends(topic)).items() if end}
        found: list[ConsumedRecord] = []
        if not ends:
            return found
        async with self._consumer(None) as consumer:
            consumer.assign([TopicPartition(topic, partition) for partition in ends])
            while len(found) < sum(ends.values()):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
        return found

    async def _ends(self, topic: str) -> dict[int, int]:
        async with self._consumer(None) as consumer:
            ends = await consumer.end_offsets([TopicPartition(topic, number) for number in PARTITIONS])
        return {partition.partition: end for partition, end in ends.items()}

    def _consumer(self, group: str | None) -> Any:
        return AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )


PARTITIONS = range(USAGE_REPORTED_PARTITIONS)


@contextmanager
def usage_rig(bootstrap: str, prefix: str, database_url: str, logs: Path) -> Iterator[UsageRig]:
    """Yield a rig; what runs at the end of the block is killed."""
    rig = UsageRig(bootstrap, prefix, database_url, logs)
    try:
        yield rig
    finally:
        rig.stop_workers(signal.SIGKILL)


def an_event(
    event_id: str, number: str, counter: str, value: object, at: datetime, *, kind: str = "level", **members: Any
) -> bytes:
    """One usage event as another system writes it."""
    document = {
        "specversion": "1.0",
        "id": event_id,
        "source": "urn:example:app",
        "type": f"keyway.usage.{kind}",
        "subject": "not:trusted",
        "time": at.isoformat(),
        "datacontenttype": "application/json",
        "data": {"account": "ka", "license": number, "counter": counter, "value": "VALUE"},
        **members,
    }
    return json.dumps(document).replace('"VALUE"', str(value)).encode()


@dataclass(slots=True)
class Ledger:
    """The generator's own books: what every counter must be, kept with other means than the product's."""

    sums: dict[tuple[str, str], int] = field(default_factory=dict)
    """Thousandths, by license number and counter."""
    latest: dict[tuple[str, str], tuple[datetime, str, int]] = field(default_factory=dict)

    def note(self, number: str, counter: str, event_id: str, thousandths: int, at: datetime, *, is_level: bool) -> None:
        key = (number, counter)
        if is_level:
            self.latest[key] = max(
                self.latest.get(key, (datetime.min.replace(tzinfo=UTC), "", 0)), (at, event_id, thousandths)
            )
        else:
            self.sums[key] = self.sums.get(key, 0) + thousandths

    def totals(self) -> dict[tuple[str, str], Decimal]:
        levels = {key: value for key, (_, _, value) in self.latest.items()}
        return {key: Decimal(value) / 1000 for key, value in (levels | self.sums).items()}


def made_up(
    chance: random.Random, count: int, backups: Sequence[str], transfers: Sequence[str]
) -> tuple[list[tuple[int, bytes]], Ledger]:
    """Return `count` different events of the last hour and 5 % of them twice, shuffled, with the books."""
    now = datetime.now(UTC)
    ledger = Ledger()
    events: list[bytes] = []
    for index in range(count):
        is_level = bool(index % 2)
        number = chance.choice(backups if is_level else transfers)
        names = ("storedGigabytes", "protectedServers") if is_level else ("sentGigabytes", "receivedGigabytes")
        counter = chance.choice(names)
        thousandths = chance.randrange(1_000_000)
        at = now - timedelta(seconds=chance.randrange(3600))
        event_id = f"{index:08}"
        ledger.note(number, counter, event_id, thousandths, at, is_level=is_level)
        value = f"{thousandths // 1000}.{thousandths % 1000:03}"
        kind = "level" if is_level else "increment"
        events.append(an_event(event_id, number, counter, value, at, kind=kind))
    events += chance.sample(events, count // 20)
    chance.shuffle(events)
    return [(chance.choice(PARTITIONS), event) for event in events], ledger
