"""The command bus on a real Kafka: every caller gets its own reply, or an honest "not finished" in time."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio

from gateway.app import Core, open_bus
from gateway.circuit import Machine
from gateway.command_bus import CommandBus
from gateway.problems import Refused, Unanswered
from keyway.cli.topics import apply_topics
from shared.contracts.envelope import new_id
from shared.contracts.identifiers import CommandId, partition_of
from shared.contracts.replies import Reply, ReplyStatus, encode_frame
from shared.contracts.topics import HEADER_COMMAND_ID, HEADER_TRACE_PARENT
from shared.settings import load_settings
from tests.builders import a_purchase
from tests.fakes.replier import Replier, numbered_body, replying

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

SLOT = 7
OTHER_SLOT = 8
BUDGET_SECONDS = 25.0
SHORT_SECONDS = 2.5
"""The budget of tests in which it is to run out; long enough for a reply that is to come before its end."""
Answer = Reply | Unanswered | Refused


@pytest.fixture
def budget_seconds() -> float:
    return BUDGET_SECONDS


@pytest_asyncio.fixture
async def core(kafka_server: str, topic_prefix: str, budget_seconds: float) -> Core:
    settings = load_settings(
        {
            "KEYWAY_KAFKA_BOOTSTRAP": kafka_server,
            "KEYWAY_TOPIC_PREFIX": topic_prefix,
            "KEYWAY_REPLY_BUDGET_SECONDS": str(budget_seconds),
            "KEYWAY_INFLIGHT_MAX": "600",
        }
    )
    await apply_topics(settings)
    made = Core.of(settings)
    made.circuit.came_up(Machine.DATABASE, now=0.0)
    return made


@pytest_asyncio.fixture
async def bus(core: Core) -> AsyncIterator[CommandBus]:
    async with open_bus(core, SLOT) as opened:
        yield opened


@pytest_asyncio.fixture
async def replier(core: Core) -> AsyncIterator[Replier]:
    async with replying(core.settings.kafka_bootstrap, core.settings.topic_prefix) as made:
        yield made


async def ask(
    bus: CommandBus, number: str, trace_parent: bytes | None = None, activation_data: str | None = None
) -> Answer:
    command = a_purchase(number=number, activation_data=activation_data)
    return await bus.ask(command, command_id=CommandId(new_id()), trace_parent=trace_parent)


def count(core: Core, name: str, **labels: str) -> float:
    return core.registry.get_sample_value(name, labels) or 0.0


async def test_five_hundred_callers_at_once_get_each_its_own_reply(bus: CommandBus, replier: Replier) -> None:
    numbers = [str(number) for number in range(500)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(bus, number)) for number in numbers]
    assert [task.result() for task in tasks] == [
        Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15", number.encode()) for number in numbers
    ]
    assert len(replier.seen) == len(numbers)


async def test_a_record_carries_what_the_worker_needs_and_stands_in_its_partition(
    bus: CommandBus, replier: Replier
) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01".encode()
    await ask(bus, "00481516", trace)
    ((envelope, headers, partition),) = replier.seen
    assert headers[HEADER_COMMAND_ID] == envelope.command_id.bytes
    assert headers[HEADER_TRACE_PARENT] == trace
    assert envelope.correlation_id == UUID("a" * 32)
    assert partition == partition_of(b"ka:00481516", 24)
    assert envelope.deadline_at is not None
    assert (envelope.deadline_at - envelope.occurred_at).total_seconds() == BUDGET_SECONDS


async def test_a_command_larger_than_a_batch_passes_between_small_ones(bus: CommandBus, replier: Replier) -> None:
    big = "d" * 1_000_000
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(bus, "1", activation_data=big if n % 2 else None)) for n in range(6)]
    assert all(isinstance(task.result(), Reply) for task in tasks)
    assert len(replier.seen) == 6


async def test_a_command_larger_than_a_record_may_be_is_refused(bus: CommandBus) -> None:
    assert await ask(bus, "1", activation_data="d" * 5_000_000) is Refused.TOO_LARGE


@pytest.mark.parametrize("budget_seconds", [SHORT_SECONDS])
async def test_without_a_worker_callers_wait_for_the_budget_and_then_only_one_at_a_time(
    core: Core, bus: CommandBus, budget_seconds: float
) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await ask(bus, "1") is Unanswered.NOT_FINISHED
    assert loop.time() - started >= budget_seconds
    async with asyncio.TaskGroup() as group:
        scout = group.create_task(ask(bus, "1"))
        await asyncio.sleep(0)
        refused = await ask(bus, "1")
        assert refused is Unanswered.CIRCUIT
    assert scout.result() is Unanswered.NOT_FINISHED
    async with replying(core.settings.kafka_bootstrap, core.settings.topic_prefix):
        assert isinstance(await ask(bus, "1"), Reply)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(bus, "1")) for _ in range(3)]
        assert all(isinstance(task.result(), Reply) for task in tasks)
    assert count(core, "keyway_gateway_deadlines_missed_total") == 2


@pytest.mark.parametrize("budget_seconds", [SHORT_SECONDS])
async def test_late_duplicate_unknown_and_unreadable_replies_are_counted_and_dropped(
    core: Core, bus: CommandBus, replier: Replier
) -> None:
    replier.answer = lambda envelope: [*numbered_body(envelope), *numbered_body(envelope)]
    assert isinstance(await ask(bus, "1"), Reply)
    replier.answer = numbered_body
    stranger = encode_frame(new_id().bytes, Reply(ReplyStatus.TERMINATED, b"", b""))
    await replier.send(SLOT, [stranger, b"too short"])
    replier.paused.clear()
    assert await ask(bus, "2") is Unanswered.NOT_FINISHED
    replier.paused.set()
    for _look in range(400):
        if count(core, "keyway_gateway_replies_dropped_total", reason="late") >= 3:
            break
        await asyncio.sleep(0.05)
    assert count(core, "keyway_gateway_replies_dropped_total", reason="late") == 3
    assert count(core, "keyway_gateway_replies_dropped_total", reason="unreadable") == 1
    assert isinstance(await ask(bus, "3"), Reply)


async def test_replies_to_another_gateway_do_not_come_here(core: Core, bus: CommandBus, replier: Replier) -> None:
    other = Core.of(core.settings)
    other.circuit.came_up(Machine.DATABASE, now=0.0)
    async with open_bus(other, OTHER_SLOT) as second, asyncio.TaskGroup() as group:
        here = [group.create_task(ask(bus, str(number))) for number in range(50)]
        there = [group.create_task(ask(second, str(number))) for number in range(50)]
    for tasks in (here, there):
        assert [task.result() for task in tasks] == [
            Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15", str(number).encode()) for number in range(50)
        ]
    assert count(core, "keyway_gateway_replies_dropped_total", reason="late") == 0
    assert len(replier.seen) == 100


async def test_a_caller_who_leaves_frees_its_place_at_once_and_the_command_goes_on(
    core: Core, bus: CommandBus, replier: Replier
) -> None:
    replier.paused.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(bus, str(number))) for number in range(600)]
        await asyncio.sleep(0.05)
        assert await ask(bus, "9") is Unanswered.FULL
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
        replier.paused.set()
        assert isinstance(await ask(bus, "9"), Reply)
    for _look in range(400):  # commands of other partitions may come after the reply
        if len(replier.seen) >= 601:
            break
        await asyncio.sleep(0.05)
    assert len(replier.seen) == 601
    assert count(core, "keyway_gateway_refused_early_total", reason="full") == 1


async def test_a_machine_that_is_away_stops_callers_before_anything_is_published(
    core: Core, bus: CommandBus, replier: Replier
) -> None:
    core.circuit.went_down(Machine.DATABASE)
    assert await ask(bus, "1") is Unanswered.DATABASE
    core.circuit.came_up(Machine.DATABASE, now=0.0)
    assert isinstance(await ask(bus, "1"), Reply)
    assert len(replier.seen) == 1
