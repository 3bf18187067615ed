"""The license and intake roles on a real Kafka and PostgreSQL, run by their own composition roots in this process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from keyway.cli.prepare import prepare_world
from shared.contracts.codec import encode_envelope
from shared.contracts.commands import LicenseCommand
from shared.contracts.identifiers import partition_of
from shared.contracts.topics import HEADER_COMMAND_ID, LICENSE_COMMANDS, LICENSE_INTAKE, dead_letter_topic
from shared.kafka import ConsumedRecord
from shared.settings import Settings
from tests.builders import a_purchase, an_envelope
from tests.command_line import Ran, Shell
from tests.integration.worker_rig import CLOCK, logs_apart
from workers.app import builder_of

PARTITIONS = 24


@dataclass
class IntakeRig:
    settings: Settings
    producer: AIOKafkaProducer
    database: asyncpg.Connection
    shell: Shell | None = None
    running: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = field(default_factory=dict)

    def start(self, *roles: str) -> None:
        for role in roles:
            stop = asyncio.Event()
            self.running[role] = (stop, asyncio.create_task(builder_of(role)(self.settings, stop)))

    async def stop(self, *roles: str) -> None:
        for role in roles or tuple(self.running):
            stop, task = self.running.pop(role)
            stop.set()
            await task

    async def put(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes = b"",
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> None:
        where = partition_of(key, PARTITIONS) if partition is None else partition
        await self.producer.send_and_wait(
            self.settings.topic_prefix + topic, value, key, partition=where, headers=list(headers)
        )

    async def command(self, command: LicenseCommand) -> None:
        envelope = replace(an_envelope(command), deadline_at=None)
        await self.put(
            LICENSE_COMMANDS,
            encode_envelope(envelope),
            key=envelope.license_id.encode(),
            headers=[(HEADER_COMMAND_ID, envelope.command_id.bytes)],
        )

    async def purchase(self, *numbers: str) -> None:
        """Issue licenses to the end of a far year, and wait for them."""
        from datetime import date

        for number in numbers:
            await self.command(a_purchase(number=number, expires_on=date(2099, 12, 31)))
        await self.until("SELECT count(*) = $1 FROM license WHERE number = ANY($2)", len(numbers), list(numbers))

    async def ask(self, request: dict[str, Any] | bytes | None, **options: Any) -> None:
        value = orjson.dumps(request) if isinstance(request, dict) else request
        await self.put(LICENSE_INTAKE, value, **options)

    async def keyway(self, *arguments: str) -> Ran:
        """Run a verb beside the roles."""
        assert self.shell is not None
        return await asyncio.to_thread(self.shell.keyway, *arguments)

    async def until(self, query: str, *arguments: Any, seconds: float = 40.0) -> None:
        ends = CLOCK.monotonic() + seconds
        while not await self.database.fetchval(query, *arguments):
            for _, task in self.running.values():
                if task.done():
                    task.result()
            assert CLOCK.monotonic() < ends, f"not within {seconds} s: {query} {arguments}"
            await CLOCK.sleep(0.05)

    async def outcomes(self, count: int) -> list[dict[str, Any]]:
        """Return the intake outcome events in the outbox, in order, once there are `count`."""
        await self.until("SELECT count(*) >= $1 FROM outbox WHERE type LIKE 'keyway.intake.%'", count)
        rows = await self.database.fetch("SELECT value FROM outbox WHERE type LIKE 'keyway.intake.%' ORDER BY id")
        return [orjson.loads(row["value"]) for row in rows]

    async def records(self, topic: str, count: int, *, seconds: float = 30.0) -> list[ConsumedRecord]:
        """Return the records of a topic, once there are `count`."""
        return await read_topic(self.settings.kafka_bootstrap, self.settings.topic_prefix + topic, count, seconds)

    async def everything(self, topic: str) -> list[ConsumedRecord]:
        """Return all records of a topic up to its end as it is now."""
        name = self.settings.topic_prefix + topic
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_bootstrap, enable_auto_commit=False)
        await consumer.start()
        try:
            ends = await consumer.end_offsets([TopicPartition(name, partition) for partition in range(PARTITIONS)])
        finally:
            await consumer.stop()
        return await read_topic(self.settings.kafka_bootstrap, name, sum(ends.values()))

    async def dead_letters(self, count: int, topic: str = LICENSE_INTAKE) -> list[ConsumedRecord]:
        return await self.records(dead_letter_topic(topic), count)


async def read_topic(bootstrap: str, topic: str, count: int, seconds: float = 30.0) -> list[ConsumedRecord]:
    """Return all records of a topic that stand there, once there are `count`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=50
    )
    await consumer.start()
    found: list[ConsumedRecord] = []
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
        ends = CLOCK.monotonic() + seconds
        while len(found) < count and CLOCK.monotonic() < ends:
            for records in (await consumer.getmany(timeout_ms=50)).values():
                found += records
    finally:
        await consumer.stop()
    assert len(found) >= count, f"only {len(found)} of {count} records on {topic} in {seconds} s"
    return found


def a_request(kind: str, number: str, request_id: str, **changes: Any) -> dict[str, Any]:
    """A public request of another system."""
    return {
        "specversion": "1.0",
        "id": request_id,
        "source": "urn:example:billing",
        "type": f"keyway.license.{kind}",
        "subject": f"ka:{number}",
        "time": "2027-03-01T03:59:00Z",
        "datacontenttype": "application/json",
        "data": {"account": "ka", "license": number},
    } | changes


@asynccontextmanager
async def intake_rig(
    database_url: str, bootstrap: str, prefix: str, state: Path, shell: Shell | None = None
) -> AsyncIterator[IntakeRig]:
    """A prepared installation with no role running yet; those started are ended."""
    settings = Settings(
        database_url=database_url,
        kafka_bootstrap=bootstrap,
        topic_prefix=prefix,
        kafka_session_timeout_seconds=3,
        admin_port=0,
        signing_keys_file=state / "signing-keys.json",
    )
    await prepare_world(settings, state)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    database = await asyncpg.connect(database_url)
    rig = IntakeRig(settings=settings, producer=producer, database=database, shell=shell)
    if shell is not None:
        shell.export(database_url=database_url, kafka_bootstrap=bootstrap, topic_prefix=prefix)
    try:
        with logs_apart():
            yield rig
    finally:
        for stop, task in rig.running.values():
            stop.set()
            with suppress(Exception):
                await task
        await database.close()
        await producer.stop()
