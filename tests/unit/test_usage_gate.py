"""The usage gate: ends as of after the question, a wait for the watermark, and an end to the wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest

from gateway.problems import Refused, Unanswered
from gateway.usage_gate import WAIT_SECONDS, UsageBus, UsageGate
from shared.clock import MachineClock
from shared.contracts.commands import LicenseCommand, ReportUsage
from shared.contracts.envelope import new_id
from shared.contracts.identifiers import CommandId
from shared.contracts.replies import Reply, ReplyStatus
from shared.domain.usage import ReadTopic
from shared.errors import UnavailableError
from shared.kafka_topic_ends import Offsets, TopicEnd
from tests.builders import a_terminate, a_usage_question

pytestmark = pytest.mark.asyncio

FIRST, SECOND = UUID(int=1), UUID(int=2)


class HurriedClock(MachineClock):
    """Whose waits cost nothing but count."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds
        await asyncio.sleep(0)


@dataclass
class Topic:
    """A topic with an end and a reader's place."""

    ends: Offsets = (3, 0)
    read: Offsets = (3, 0)
    asked: int = 0
    catches_up: bool = False
    is_away: bool = False
    being_told: asyncio.Event = field(default_factory=asyncio.Event)

    topic_id: UUID = FIRST
    on_record: ReadTopic = field(default_factory=lambda: ReadTopic(topic_id=FIRST))
    emptied: bool = False
    """Whether the topic has forgotten all its records."""

    async def tell_end(self) -> TopicEnd:
        self.asked += 1
        self.being_told.set()
        if self.is_away:
            raise UnavailableError("away")
        ends = self.ends
        await asyncio.sleep(0)
        return TopicEnd(topic_id=self.topic_id, last=ends, held=tuple(0 for _ in ends) if self.emptied else ends)

    async def tell_read(self) -> ReadTopic:
        if self.catches_up:
            self.read = tuple(min(end, place + 1) for end, place in zip(self.ends, self.read, strict=True))
        return replace(self.on_record, watermark=self.read)


@asynccontextmanager
async def gate(topic: Topic, clock: HurriedClock | None = None, *, down: bool = False) -> AsyncIterator[UsageGate]:
    made = UsageGate(
        end=topic.tell_end, read_topic=topic.tell_read, is_down=lambda: down, clock=clock or HurriedClock()
    )
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_topic_that_is_read_lets_pass_at_once() -> None:
    clock = HurriedClock()
    async with gate(Topic(), clock) as passage:
        assert await passage.pass_through() == (3, 0)
    assert clock.passed == 0


async def test_what_was_there_when_the_question_came_is_waited_for() -> None:
    topic = Topic(ends=(9, 4), read=(0, 0), catches_up=True)
    async with gate(topic) as passage:
        assert await passage.pass_through() == (9, 4)
    assert topic.read == (9, 4)


async def test_the_wait_ends() -> None:
    clock = HurriedClock()
    async with gate(Topic(read=(2, 0)), clock) as passage:
        assert await passage.pass_through() is None
    assert WAIT_SECONDS <= clock.passed < WAIT_SECONDS + 1


async def test_many_who_ask_at_once_cost_one_look_and_a_later_one_another() -> None:
    topic = Topic()
    async with gate(topic) as passage:
        first = [asyncio.create_task(passage.pass_through()) for _ in range(50)]
        assert await asyncio.gather(*first) == [(3, 0)] * 50
        assert topic.asked == 1

        topic.ends = topic.read = (4, 0)
        assert await passage.pass_through() == (4, 0)


async def test_who_asks_while_the_ends_are_being_told_is_told_later_ends() -> None:
    topic = Topic()
    async with gate(topic) as passage:
        first = asyncio.create_task(passage.pass_through())
        await topic.being_told.wait()
        topic.ends = topic.read = (5, 0)
        second = asyncio.create_task(passage.pass_through())

        assert await first == (3, 0)
        assert await second == (5, 0)


async def test_a_caller_who_leaves_holds_up_nobody() -> None:
    topic = Topic(read=(0, 0))
    async with gate(topic) as passage:
        gone = asyncio.create_task(passage.pass_through())
        await asyncio.sleep(0)
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone
        topic.read = (3, 0)
        assert await passage.pass_through() == (3, 0)


async def test_kafka_that_does_not_tell_and_a_closed_circuit_cost_no_wait() -> None:
    async with gate(Topic(is_away=True)) as passage:
        assert await passage.pass_through() is None
    topic = Topic()
    async with gate(topic, down=True) as passage:
        assert await passage.pass_through() is None
    assert topic.asked == 0


@pytest.mark.parametrize(
    "anew",
    [
        Topic(topic_id=SECOND, ends=(3, 0), read=(3, 0)),
        Topic(topic_id=SECOND, ends=(9, 9), read=(9, 9)),
        Topic(topic_id=FIRST, ends=(2, 0), read=(3, 0)),
        Topic(ends=(3, 0), read=(3, 0), on_record=ReadTopic(topic_id=FIRST, generation=2, is_accepted=False)),
    ],
    ids=["made anew", "made anew and grown as far", "fallen back", "not accepted"],
)
async def test_a_watermark_of_another_topic_lets_nobody_pass_and_costs_no_wait(anew: Topic) -> None:
    clock = HurriedClock()
    async with gate(anew, clock) as passage:
        assert await passage.pass_through() is None
    assert clock.passed == 0


@pytest.mark.parametrize(
    "topic",
    [
        Topic(on_record=ReadTopic(), topic_id=SECOND),
        Topic(on_record=ReadTopic(topic_id=SECOND, generation=2), topic_id=SECOND),
        Topic(ends=(7, 3), read=(7, 0), emptied=True),
    ],
    ids=["nobody has looked yet", "accepted", "nothing is held any more"],
)
async def test_the_topic_on_record_lets_pass(topic: Topic) -> None:
    async with gate(topic) as passage:
        assert await passage.pass_through() is not None


async def test_a_topic_made_anew_during_the_wait_ends_it() -> None:
    clock, topic = HurriedClock(), Topic(ends=(9, 0), read=(0, 0))
    async with gate(topic, clock) as passage:
        asked = asyncio.create_task(passage.pass_through())
        await topic.being_told.wait()
        topic.on_record = ReadTopic(topic_id=SECOND, generation=2, is_accepted=False)
        topic.read = (9, 0)
        assert await asked is None
    assert clock.passed < WAIT_SECONDS


class Recorder:
    """A bus that keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[LicenseCommand] = []

    async def ask(
        self, command: LicenseCommand, *, command_id: CommandId, trace_parent: bytes | None = None
    ) -> Reply | Unanswered | Refused:
        self.asked.append(command)
        return Reply(ReplyStatus.TERMINATED, b"", b"")


async def test_only_questions_about_usage_go_through_the_gate() -> None:
    recorder, topic = Recorder(), Topic()
    async with gate(topic) as passage:
        bus = UsageBus(recorder, passage)
        await bus.ask(a_terminate(), command_id=CommandId(new_id()))
        assert topic.asked == 0
        await bus.ask(a_usage_question(), command_id=CommandId(new_id()))

    assert recorder.asked[0] == a_terminate()
    question = recorder.asked[1]
    assert isinstance(question, ReportUsage)
    assert question.usage_ends == (3, 0)
