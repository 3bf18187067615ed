"""A worker whose client has lost the group's coordinator for good ends, so that its supervisor starts it again."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from shared.telemetry.health import Readiness
from workers.runtime.watch import COORDINATOR_LOST_SECONDS, PartDiedError, WorkerWatch

pytestmark = pytest.mark.asyncio


class TimeEndedError(Exception):
    """The test has seen enough."""


@dataclass
class QuickClock:
    """Time passes only while somebody sleeps, and ends after a while."""

    ends_after: float = 200.0
    seconds: float = field(default=0.0, init=False)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds > self.ends_after:
            raise TimeEndedError


@dataclass
class Broker:
    """Answers as told: the coordinator, and the plain question."""

    coordinator: bool
    plain: bool

    async def committed(self, partition: TopicPartition) -> int | None:
        if not self.coordinator:
            raise KafkaConnectionError
        return None

    async def topics(self) -> set[str]:
        if not self.plain:
            raise KafkaConnectionError
        return set()


def watching(broker: Broker, clock: QuickClock) -> WorkerWatch:
    parts: Any = SimpleNamespace(consumer=broker, is_started=True)
    nothing: Any = None
    time: Any = clock
    return WorkerWatch(
        topic="license.commands",
        readiness=Readiness(time),
        subscription=parts,
        lane=nothing,
        producers=(),
        ask_database=nothing,
        metrics=nothing,
        clock=time,
    )


async def test_a_coordinator_that_is_lost_while_the_broker_answers_ends_the_process() -> None:
    clock = QuickClock()

    with pytest.raises(PartDiedError, match="coordinator"):
        await watching(Broker(coordinator=False, plain=True), clock)._watch_kafka()

    assert COORDINATOR_LOST_SECONDS < clock.seconds < COORDINATOR_LOST_SECONDS + 5


@pytest.mark.parametrize("broker", [Broker(coordinator=False, plain=False), Broker(coordinator=True, plain=True)])
async def test_a_broker_that_is_away_or_well_ends_nothing(broker: Broker) -> None:
    with pytest.raises(TimeEndedError):
        await watching(broker, QuickClock())._watch_kafka()


async def test_a_broker_that_was_away_for_long_has_its_whole_time_to_find_a_coordinator() -> None:
    clock = QuickClock(ends_after=20 * COORDINATOR_LOST_SECONDS)
    broker = Broker(coordinator=False, plain=False)
    away = 3 * COORDINATOR_LOST_SECONDS

    async def topics() -> set[str]:
        if clock.seconds < away:
            raise KafkaConnectionError
        return set()

    broker.topics = topics  # type: ignore[method-assign]  # comes back while the watch looks on
    with pytest.raises(PartDiedError, match="coordinator"):
        await watching(broker, clock)._watch_kafka()

    assert away + COORDINATOR_LOST_SECONDS < clock.seconds < away + COORDINATOR_LOST_SECONDS + 5
