"""The provider role apart from its machines: shared reads, the crew, outcomes as bytes, the gate of the rules."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from shared.clock import MachineClock
from shared.contracts.codec import (
    decode_envelope,
    encode_envelope,
    encode_provider_request,
    encode_sweep_request,
)
from shared.contracts.commands import RecordProviderOutcome
from shared.contracts.envelope import Envelope, day_of, derived_id, new_id
from shared.contracts.identifiers import license_id
from shared.contracts.replies import Reply, ReplyAddress, ReplyStatus
from shared.contracts.topics import HEADER_COMMAND_ID, HEADER_REPLY_PARTITION
from shared.domain.case import Policy
from shared.domain.provider_operation import Elid, EndService, marker_of
from shared.domain.provider_order import OrderState
from shared.domain.provider_outcome import Refusal
from shared.domain.provider_record import ProviderOrder
from shared.domain.provider_service import Found
from shared.domain.provisioning import ServerData, Step, StepKind
from shared.errors import UnavailableError
from shared.telemetry.metrics import WorkerMetrics
from tests.builders import CATALOG, a_purchase, an_envelope
from tests.fakes.clocks import ManualSystemClock
from tests.fakes.installation import InMemoryCatalogs
from workers.license.batch import CommandBatchWorker
from workers.license.rules_source import load_rules
from workers.license.sheet import Handled
from workers.provider.announcing import KafkaAnnouncer, outcome_of
from workers.provider.crew import OrderCrew
from workers.provider.lists import SharedRead
from workers.provider.subscriber import BellWorker
from workers.provider.sweep_crew import SweepCrew

pytestmark = pytest.mark.asyncio

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def an_order(**changes: Any) -> ProviderOrder:
    """A decided order of a service."""
    order_id = new_id()
    product = CATALOG.products["ISPMGR6-LITE"]
    plain = ProviderOrder(
        order_id=order_id,
        license_id=license_id("ka", "00481516"),
        account="ka",
        number="00481516",
        provider_account="isplicense",
        step=Step(kind=StepKind.ORDER, product=product, data=ServerData(address="203.0.113.1")),
        operation=EndService(elid=Elid(7)),
        state=OrderState.CONFIRMED,
        markers=(marker_of(b"key", order_id, 1),),
        marker_number=1,
        service_marker=None,
        attempt=1,
        accepted=False,
        elid=Elid(40117),
        how=Found.ANSWER,
        refusal=None,
        subject="",
        service_expires_on=date(2026, 12, 22),
        service_key=None,
        quarantined=(),
        snapshot=frozenset(),
        known_charges=frozenset(),
        intended_at=NOW,
        due_at=NOW,
        sent_at=NOW,
        manual_since=None,
        decided_at=NOW,
        detailed_at=NOW,
        announced_at=None,
        settled_at=None,
        cancel_requested_at=None,
    )
    return replace(plain, **changes)


async def test_who_asks_during_a_read_waits_for_the_next_one_together() -> None:
    reads: list[asyncio.Event] = []

    async def read() -> int:
        number = len(reads)
        reads.append(asyncio.Event())
        await reads[number].wait()
        return number

    shared = SharedRead(read)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(shared.fresh())
        await until(lambda: len(reads) == 1)
        later = [group.create_task(shared.fresh()) for _ in range(5)]
        await asyncio.sleep(0.01)
        reads[0].set()
        await until(lambda: len(reads) == 2)
        reads[1].set()
    assert first.result() == 0
    assert [task.result() for task in later] == [1] * 5, "a read that was under way may have missed something"


async def test_a_canceled_or_failed_read_is_made_again_for_those_who_wait() -> None:
    answers: list[int] = []

    async def read() -> int:
        answers.append(len(answers))
        if len(answers) == 1:
            await asyncio.sleep(10)
        if len(answers) == 2:
            raise UnavailableError("away")
        return len(answers)

    shared = SharedRead(read)
    first = asyncio.ensure_future(shared.fresh())
    await until(lambda: bool(answers))
    second = asyncio.ensure_future(shared.fresh())
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(UnavailableError):
        await second
    assert await shared.fresh() == 3


@asynccontextmanager
async def crew(carry: Any, hands: int = 4) -> AsyncIterator[OrderCrew]:
    async def account_of(_order_id: UUID) -> str | None:
        return "isplicense"

    made = OrderCrew({"isplicense": carry}, account_of, MachineClock(), lambda: 0.5, hands)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(made.run())
        yield made
        running.cancel()


async def test_a_crew_carries_each_order_once_and_only_so_many_together() -> None:
    together: list[int] = []
    carried: list[UUID] = []

    async def carry(order_id: UUID) -> None:
        together.append(made.carried_count)
        running.append(order_id)
        assert len(running) <= 4
        await asyncio.sleep(0.01)
        running.remove(order_id)
        carried.append(order_id)

    running: list[UUID] = []
    ids = [new_id() for _ in range(20)]
    async with crew(carry) as made:
        tasks = await made.begin([*ids, *ids])
        await asyncio.gather(*tasks)
        assert made.carried_count == 0
    assert sorted(carried) == sorted(ids)


async def test_a_crew_tries_again_when_a_machine_is_away_and_survives_a_defect() -> None:
    failures: list[Exception] = [UnavailableError("away"), UnavailableError("away")]
    seen: list[UUID] = []

    async def carry(order_id: UUID) -> None:
        if failures:
            raise failures.pop()
        if order_id == broken:
            raise KeyError("a defect")
        seen.append(order_id)

    good, broken = new_id(), new_id()
    async with crew(carry) as made:
        await asyncio.gather(*await made.begin([good]))
        await asyncio.gather(*await made.begin([broken]))
        await asyncio.gather(*await made.begin([good]))
    assert seen == [good, good]


async def test_bells_go_to_the_crew_of_what_they_name() -> None:
    carried: dict[str, list[UUID]] = {"orders": [], "sweeps": []}

    async def carry_order(order_id: UUID) -> None:
        carried["orders"].append(order_id)

    async def carry_sweep(sweep_id: UUID) -> None:
        carried["sweeps"].append(sweep_id)

    order_id, sweep_id = new_id(), new_id()
    records = [bell(encode_provider_request(order_id)), bell(encode_sweep_request(sweep_id))]
    around = SimpleNamespace(
        dead_letters=None,  # nothing is unreadable here
        metrics=WorkerMetrics.bound_to(CollectorRegistry()),
        clock=MachineClock(),
        chance=lambda: 0.5,
    )
    sweeps = SweepCrew(carry_sweep)
    async with crew(carry_order) as orders, asyncio.TaskGroup() as group:
        running = group.create_task(sweeps.run())
        worker = BellWorker(crew=orders, sweeps=sweeps, around=around)  # type: ignore[arg-type]  # all that is used
        bells = await worker.work(records, lambda: False)
        assert await bells.settled()
        await until(lambda: bool(carried["sweeps"]))
        running.cancel()

    assert carried == {"orders": [order_id], "sweeps": [sweep_id]}


async def test_a_sweep_is_carried_once_at_a_time_and_one_that_fails_is_left_to_the_next_bell() -> None:
    failures: list[Exception] = [UnavailableError("away"), KeyError("a defect")]
    begun: list[UUID] = []
    go_on = asyncio.Event()

    async def carry(sweep_id: UUID) -> None:
        begun.append(sweep_id)
        await go_on.wait()
        if failures:
            raise failures.pop()

    sweeps, sweep_id = SweepCrew(carry), new_id()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(sweeps.run())
        for rung in range(1, 4):
            go_on.clear()
            await sweeps.begin([sweep_id, sweep_id])
            await sweeps.begin([sweep_id])
            await until(lambda rung=rung: len(begun) == rung)
            go_on.set()
            await until(lambda: sweeps.carried_count == 0)
        running.cancel()

    assert begun == [sweep_id] * 3


async def test_a_crew_takes_no_more_sweeps_than_it_has_room_for() -> None:
    async def carry(_sweep_id: UUID) -> None:
        await asyncio.Event().wait()

    sweeps = SweepCrew(carry, at_once=2)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(sweeps.run())
        await sweeps.begin([new_id() for _ in range(5)])
        assert sweeps.carried_count == 2
        running.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; the test's time limit ends the wait."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.01)


def bell(value: bytes) -> Any:
    return SimpleNamespace(topic="t", partition=0, offset=0, timestamp=0, key=None, value=value, headers=[])


@dataclass
class CollectingProducer:
    """Acknowledges everything at once."""

    sent: list[tuple[str, bytes, bytes, int]] = field(default_factory=list)

    async def send(self, topic: str, value: bytes, key: bytes, *, partition: int, headers: Any) -> asyncio.Future[None]:
        self.sent.append((topic, value, key, partition))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


async def test_an_outcome_is_the_same_bytes_each_time_it_is_told() -> None:
    producer = CollectingProducer()
    announcer = KafkaAnnouncer(producer=producer, topic="license.commands")  # type: ignore[arg-type]  # all that is used
    order = an_order()
    await announcer.announce(order)
    await announcer.announce(replace(order, announced_at=NOW))
    assert producer.sent[0] == producer.sent[1]
    envelope, _ = decode_envelope(producer.sent[0][1])
    assert envelope.command_id == derived_id(order.order_id, "outcome")
    assert day_of(envelope.command_id) == day_of(order.order_id)
    assert envelope.causation_id == order.order_id
    assert envelope.command == RecordProviderOutcome(
        account="ka",
        number="00481516",
        order_id=order.order_id,
        confirmed=True,
        service_id=40117,
        service_expires_on=date(2026, 12, 22),
    )


async def test_a_refused_release_names_the_service_that_stays() -> None:
    step = replace(an_order().step, kind=StepKind.END, elid=Elid(7))
    told = outcome_of(an_order(state=OrderState.REFUSED, refusal=Refusal.TERM_LOCKED, elid=None, step=step, how=None))
    assert (told.confirmed, told.service_id, told.refusal) == (False, 7, "term_locked")
    assert told.service_expires_on is None


async def test_who_waited_for_an_outcome_is_answered_with_it_and_the_pending_asker_is_not_yet() -> None:
    waiting, pending = ReplyAddress(bytes(16), 3), ReplyAddress(b"\1" * 16, 4)
    told = Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15", b"body")

    class Handler:
        async def handle(self, received: Any) -> list[Handled]:
            return [Handled(None), Handled(None, others=((waiting, told),))][: len(received)]

    packed: list[Any] = []

    class Office:
        def parcels(self, replies: Any) -> list[Any]:
            packed.extend(replies)
            return []

    worker = CommandBatchWorker(
        handler=Handler(),
        replies=Office(),  # type: ignore[arg-type]  # all that is used
        dead_letters=None,  # type: ignore[arg-type]  # nothing is unreadable here
        clock=MachineClock(),
        chance=lambda: 0.5,
        metrics=WorkerMetrics.bound_to(CollectorRegistry()),
    )
    records = [record_of(an_envelope(a_purchase(number=number)), pending) for number in ("1", "2")]
    assert await worker.work(records, lambda: False) is not None
    assert packed == [(waiting, told)]


def record_of(envelope: Envelope, address: ReplyAddress) -> Any:
    headers = [
        (HEADER_COMMAND_ID, envelope.command_id.bytes),
        (HEADER_REPLY_PARTITION, address.partition.to_bytes(2, "big")),
    ]
    value = encode_envelope(envelope)
    return SimpleNamespace(topic="t", partition=0, offset=0, timestamp=0, key=None, value=value, headers=headers)


async def test_the_rules_follow_the_provider_and_keep_the_last_answer_while_nobody_can_tell() -> None:
    answers: list[dict[str, bool] | Exception] = [
        {"isplicense": True},
        {"isplicense": False, "second": True},
        UnavailableError("away"),
        {"isplicense": True},
    ]

    async def gate() -> dict[str, bool]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    shelf = InMemoryCatalogs()
    shelf.documents.append({"products": [{"sku": "Bronze"}]})
    rules = await load_rules(shelf, Policy(), ManualSystemClock(), gate)
    assert rules.current().provider_accounts == {"isplicense": True}
    seen = []
    for _ in range(3):
        await rules.ask_provider()
        seen.append(rules.current().provider_accounts)
    closed = {"isplicense": False, "second": True}
    assert seen == [closed, closed, {"isplicense": True}]
