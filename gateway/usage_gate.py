"""The usage gate: a question about usage is published once everything reported before it is taken in.

Counters that add up must not miss what stood on `usage.reported` when the question came (docs/protocols/usage.md 3).
So the end of every partition is asked for after the question's arrival, and then the stored watermark is awaited, both
once for all who ask at a time. The wait is bounded; a question that is published without that knowledge carries none,
and the worker then tells only what is certain all the same.

A watermark says nothing about a topic that was made anew under the same name: the topic's id is asked for after its
ends, and must be the one on record.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from gateway.command_bus import Bus
from gateway.problems import Refused, Unanswered
from shared.clock import SystemClock
from shared.contracts.commands import LicenseCommand, ReportUsage
from shared.contracts.identifiers import CommandId
from shared.contracts.replies import Reply
from shared.domain.usage import ReadTopic, has_fallen, is_caught_up
from shared.errors import UnavailableError
from shared.kafka_topic_ends import Offsets, TopicEnd

WAIT_SECONDS = 3.0
LOOK_SECONDS = 0.05


log = structlog.get_logger()


@dataclass(slots=True)
class _Question:
    answer: asyncio.Future[Offsets | None]
    gives_up_at: float
    end: TopicEnd | None = None
    """None until it is asked for."""


class UsageGate:
    """Knows the ends of `usage.reported` and waits until they are taken in."""

    def __init__(
        self,
        *,
        end: Callable[[], Awaitable[TopicEnd]],
        read_topic: Callable[[], Awaitable[ReadTopic]],
        is_down: Callable[[], bool],
        clock: SystemClock,
    ) -> None:
        """`end` and `read_topic` raise `UnavailableError`; `is_down` says that asking is pointless."""
        self._end = end
        self._read_topic = read_topic
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
        new = [question for question in self._questions if question.end is None]
        if new:
            await self._ask_end(new)
        reached = await self._read_topic()
        self._settle(lambda question: not _is_about(reached, question.end), told=False)
        self._settle(lambda question: question.end is not None and _covers(reached, question.end), told=True)
        now = self._clock.monotonic()
        self._settle(lambda question: now >= question.gives_up_at, told=False)

    async def _ask_end(self, new: Sequence[_Question]) -> None:
        before = await self._read_topic()
        end = await self._end()
        if not _is_about(before, end) or has_fallen(before.watermark, end.last):
            log.error(
                "gateway.usage.topic_made_anew",
                generation=before.generation,
                detail="usage.reported is not the topic that was read, or has lost records: see `keyway usage topic`",
            )
            self._settle(lambda question: question.end is None, told=False)
            return
        for question in new:
            question.end = end

    def _settle(self, is_over: Callable[[_Question], bool], *, told: bool) -> None:
        left = []
        for question in self._questions:
            if question.answer.done():  # its caller has gone
                continue
            if is_over(question):
                question.answer.set_result(question.end.held if told and question.end is not None else None)
            else:
                left.append(question)
        self._questions = left


def _is_about(read: ReadTopic, end: TopicEnd | None) -> bool:
    """Whether what was read may be compared with the topic as it is."""
    return read.is_accepted and (end is None or read.is_of(end.topic_id))


def _covers(read: ReadTopic, end: TopicEnd) -> bool:
    return is_caught_up(read.watermark, end.held)


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
