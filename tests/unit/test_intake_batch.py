"""The intake worker on a log in memory and a broker that fails on demand: order, one command each, nothing lost."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiokafka.errors import KafkaTimeoutError
from prometheus_client import CollectorRegistry

from shared.kafka import ConsumedRecord
from shared.telemetry.metrics import IntakeMetrics, WorkerMetrics
from tests.builders import NOW
from tests.fakes.clocks import ManualSystemClock
from tests.fakes.request_log import InMemoryRequestLog
from tests.integration.intake_rig import a_request
from workers.intake.batch import IntakeBatchWorker
from workers.intake.commands_out import CommandsOut
from workers.runtime.dead_letters import DeadLetters

pytestmark = pytest.mark.asyncio


class Batch:
    def __init__(self, room: int) -> None:
        self.room = room
        self.values: list[bytes] = []

    def append(self, *, value: bytes, **_: Any) -> object | None:
        if len(self.values) == self.room:
            return None
        self.values.append(value)
        return self


@dataclass
class Broker:
    """Takes whole batches; the next ones of `verdicts` fail: before writing (`lost`), or after it (`unknown`)."""

    written: list[str] = field(default_factory=list)
    letters: list[bytes | None] = field(default_factory=list)
    verdicts: deque[str] = field(default_factory=deque)
    room: int = 100

    def create_batch(self) -> Batch:
        return Batch(self.room)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[object]:
        verdict = self.verdicts.popleft() if self.verdicts else "ok"
        if verdict != "lost":
            self.written += [orjson.loads(value)["request"]["id"] for value in batch.values]
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if verdict == "ok":
            future.set_result(None)
        else:
            future.set_exception(KafkaTimeoutError())
        return future

    async def send(self, topic: str, value: bytes | None, *_: Any, **__: Any) -> asyncio.Future[object]:
        self.letters.append(value)
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


class Clock:
    def now(self) -> Any:
        return NOW


@dataclass
class Bench:
    log: InMemoryRequestLog = field(default_factory=InMemoryRequestLog)
    broker: Broker = field(default_factory=Broker)
    clock: ManualSystemClock = field(default_factory=lambda: ManualSystemClock(sleeps_max=50))

    def __post_init__(self) -> None:
        registry = CollectorRegistry()
        metrics = WorkerMetrics.bound_to(registry)
        producer: Any = self.broker
        self.registry = registry
        self.worker = IntakeBatchWorker(
            requests=self.log,
            commands=CommandsOut(producer=producer, topic_prefix=""),
            dead_letters=DeadLetters(producer=producer, metrics=metrics),
            business_clock=Clock(),
            clock=self.clock,
            chance=lambda: 0.5,
            worker_metrics=metrics,
            metrics=IntakeMetrics.bound_to(registry),
        )

    async def work(self, *requests: dict[str, Any], is_stale: bool = False) -> bool:
        records = [record(orjson.dumps(request), place) for place, request in enumerate(requests)]
        shipment = await self.worker.work(records, lambda: is_stale)
        return shipment is not None and await shipment.settled()


def record(value: bytes, offset: int) -> ConsumedRecord:
    from aiokafka import ConsumerRecord

    made: ConsumedRecord = ConsumerRecord(
        *("license.intake", 3, offset, 0, 0, b"ka:00000001", value, None, 11, len(value), ())
    )
    return made


def asked(*ids: str) -> list[dict[str, Any]]:
    return [a_request("suspend", "00000001", one) for one in ids]


async def test_each_request_of_a_batch_becomes_one_command_in_order() -> None:
    bench = Bench()

    assert await bench.work(*asked("1", "2", "1", "3"))
    assert await bench.work(*asked("2", "4"))

    assert bench.broker.written == ["1", "2", "3", "4"]
    assert bench.registry.get_sample_value("keyway_intake_requests_total", {"outcome": "repeated"}) == 2


async def test_a_batch_that_was_not_written_is_sent_again_before_anything_behind_it() -> None:
    bench = Bench(broker=Broker(verdicts=deque(["lost", "lost"])))

    assert await bench.work(*asked("1", "2"))
    assert await bench.work(*asked("3"))

    assert bench.broker.written == ["1", "2", "3"]


async def test_a_batch_of_unknown_fate_is_sent_again_whole() -> None:
    bench = Bench(broker=Broker(verdicts=deque(["unknown"])))

    assert await bench.work(*asked("1", "2"))

    assert bench.broker.written == ["1", "2", "1", "2"]


async def test_what_does_not_fit_follows_in_order() -> None:
    bench = Bench(broker=Broker(room=2))

    assert await bench.work(*asked("1", "2", "3", "4", "5"))

    assert bench.broker.written == ["1", "2", "3", "4", "5"]


async def test_a_database_that_is_away_holds_the_batch_and_loses_nothing() -> None:
    bench = Bench()
    bench.log.away_times = 7

    assert await bench.work(*asked("1"))

    assert bench.broker.written == ["1"]
    assert len(bench.clock.slept) == 7


async def test_records_that_were_taken_away_are_left_to_their_new_owner() -> None:
    bench = Bench()
    bench.log.away_times = 1
    assert not await bench.work(*asked("1"), is_stale=True)
    assert bench.broker.written == []

    bench.broker.verdicts.append("unknown")
    assert not await bench.work(*asked("1"), is_stale=True)
    assert not bench.log.known["urn:example:billing", "1"].is_handed_over

    assert await bench.work(*asked("1"))
    assert bench.broker.written == ["1", "1"], "sent again by the next owner, under the same command id"


async def test_the_same_name_for_another_request_is_set_aside_in_a_batch_too() -> None:
    bench = Bench()
    other = a_request("resume", "00000001", "1")

    assert await bench.work(*asked("1"), other)

    assert bench.broker.written == ["1"]
    assert bench.broker.letters == [orjson.dumps(other)]


async def test_a_request_for_no_account_needs_no_command() -> None:
    bench = Bench()
    nobody = a_request("terminate", "00000001", "1", data={"account": "nobody", "license": "00000001"})

    assert await bench.work(nobody, nobody)

    assert bench.broker.written == []
    (answer,) = bench.log.answers
    assert orjson.loads(answer.value)["data"]["code"] == "license_unknown"
