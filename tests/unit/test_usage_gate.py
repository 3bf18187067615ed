"""The usage gate: ends as of after the question, a wait for the watermark, and an end to the wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from gateway.problems import Refused, Unanswered
from gateway.usage_gate import WAIT_SECONDS, Offsets, UsageBus, UsageGate
from shared.clock import MachineClock
from shared.contracts.commands import LicenseCommand, ReportUsage
from shared.contracts.envelope import new_id
from shared.contracts.identifiers import CommandId
from shared.contracts.replies import Reply, ReplyStatus
from shared.errors import UnavailableError
from tests.builders import a_terminate, a_usage_question

pytestmark = pytest.mark.asyncio


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

    async def tell_ends(self) -> Offsets:
        self.asked += 1
        self.being_told.set()
        if self.is_away:
            raise UnavailableError("away")
        ends = self.ends
        await asyncio.sleep(0)
        return ends

    async def tell_read(self) -> Offsets:
        if self.catches_up:
            self.read = tuple(min(end, place + 1) for end, place in zip(self.ends, self.read, strict=True))
        return self.read


@asynccontextmanager
async def gate(topic: Topic, clock: HurriedClock | None = None, *, down: bool = False) -> AsyncIterator[UsageGate]:
    made = UsageGate(
        ends=topic.tell_ends, watermark=topic.tell_read, is_down=lambda: down, clock=clock or HurriedClock()
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
