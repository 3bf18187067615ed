"""The usage gate: a question about usage is published once everything reported before it is taken in.

Counters that add up must not miss what stood on `usage.reported` when the question came (docs/protocols/usage.md 3).
So the end of every partition is asked for after the question's arrival, and then the stored watermark is awaited, both
once for all who ask at a time. The wait is bounded; a question that is published without that knowledge carries none,
and the worker then tells only what is certain all the same.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from gateway.problems import Refused, Unanswered
from shared.clock import SystemClock
from shared.contracts.commands import LicenseCommand, ReportUsage
from shared.contracts.identifiers import CommandId
from shared.contracts.replies import Reply
from shared.domain.usage import is_caught_up
from shared.errors import UnavailableError
from shared.kafka import RecordConsumer

WAIT_SECONDS = 3.0
ENDS_SECONDS = 1.0
"""Kafka must tell the ends of the partitions within this time."""
LOOK_SECONDS = 0.05

Offsets = tuple[int, ...]
"""One per partition, from partition 0."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Question:
    answer: asyncio.Future[Offsets | None]
    gives_up_at: float
    ends: Offsets | None = None
    """None until they are asked for."""


class UsageGate:
    """Knows the ends of `usage.reported` and waits until they are taken in."""

    def __init__(
        self,
        *,
        ends: Callable[[], Awaitable[Offsets]],
        watermark: Callable[[], Awaitable[Offsets]],
        is_down: Callable[[], bool],
        clock: SystemClock,
    ) -> None:
        """`ends` and `watermark` raise `UnavailableError`; `is_down` says that asking is pointless."""
        self._ends = ends
        self._watermark = watermark
        self._is_down = is_down
        self._clock = clock
        self._questions: list[_Question] = []
        self._asked = asyncio.Event()

    async def pass_through(self) -> Offsets | None:
        """Return the ends as they were after this call, once they are taken in; None when not in time."""
        if self._is_down():
            return None
        answer: asyncio.Future[Offsets | None] = asyncio.get_running_loop().create_future()
        self._questions.append(_Question(answer, self._clock.monotonic() + WAIT_SECONDS))
        self._asked.set()
        return await answer

    async def run(self) -> None:
        """Answer questions for as long as the process lives."""
        while True:
            await self._asked.wait()
            try:
                await self._look()
            except UnavailableError as error:
                log.warning("gateway.usage.not_known", detail=error)
                self._settle(lambda _: True, told=False)
            if not self._questions:
                self._asked.clear()
            else:
                await self._clock.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        new = [question for question in self._questions if question.ends is None]
        if new:
            ends = await self._ends()
            for question in new:
                question.ends = ends
        reached = await self._watermark()
        self._settle(lambda question: question.ends is not None and is_caught_up(reached, question.ends), told=True)
        now = self._clock.monotonic()
        self._settle(lambda question: now >= question.gives_up_at, told=False)

    def _settle(self, is_over: Callable[[_Question], bool], *, told: bool) -> None:
        left = []
        for question in self._questions:
            if question.answer.done():  # its caller has gone
                continue
            if is_over(question):
                question.answer.set_result(question.ends if told else None)
            else:
                left.append(question)
        self._questions = left


class Bus(Protocol):
    """Where commands are answered."""

    async def ask(
        self, command: LicenseCommand, *, command_id: CommandId, trace_parent: bytes | None = None
    ) -> Reply | Unanswered | Refused:
        """Return the reply to `command`, or why there is none."""
        ...


class UsageBus:
    """The bus, with questions about usage led through the gate first."""

    __slots__ = ("_bus", "_gate")

    def __init__(self, bus: Bus, gate: UsageGate) -> None:
        self._bus = bus
        self._gate = gate

    async def ask(
        self, command: LicenseCommand, *, command_id: CommandId, trace_parent: bytes | None = None
    ) -> Reply | Unanswered | Refused:
        """Return the reply to `command`, or why there is none."""
        if isinstance(command, ReportUsage):
            command = replace(command, usage_ends=await self._gate.pass_through())
        return await self._bus.ask(command, command_id=command_id, trace_parent=trace_parent)


class TopicEnds:
    """The ends of a topic's partitions, asked of the brokers each time."""

    __slots__ = ("_consumer", "_partitions")

    def __init__(self, consumer: RecordConsumer, topic: str, partitions: int) -> None:
        """`consumer` is started and stopped by the caller and reads nothing else."""
        self._consumer = consumer
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]

    async def read(self) -> Offsets:
        """Return the end of each partition, 0 for one that holds nothing. Raises `UnavailableError`."""
        try:
            async with asyncio.timeout(ENDS_SECONDS):
                first = await self._consumer.beginning_offsets(self._partitions)
                ends = await self._consumer.end_offsets(self._partitions)
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(f"the ends of usage.reported are not told: {type(error).__name__}") from None
        return tuple(ends[each] if ends[each] > first[each] else 0 for each in self._partitions)
