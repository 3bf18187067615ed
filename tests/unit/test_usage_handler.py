"""The usage handler on the store in memory: duplicates, reuse, conflicts, poison, and a watermark past all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from shared.contracts.codec import decode_usage
from shared.contracts.identifiers import LicenseId
from shared.domain.case import Rules
from shared.domain.catalog import CounterKind
from shared.domain.usage import UsageHolder
from shared.domain.usage_batch import TakenUsage
from shared.errors import ConflictError, InvalidRecordError, UnavailableError
from tests.builders import rules
from tests.fakes.usage_store import InMemoryUsageStore
from tests.integration.usage_rig import an_event
from workers.usage.handler import ReceivedUsage, UsageHandler, Verdict

pytestmark = pytest.mark.asyncio

NOW = datetime(2027, 3, 1, 4, 0, tzinfo=UTC)
LICENSE = LicenseId("ka:00502001")


class FixedRules:
    def current(self) -> Rules:
        return rules()


class FixedClock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the handler never waits")


@dataclass
class Contested(InMemoryUsageStore):
    """Somebody else is faster for the first few times."""

    conflicts: int = 0
    batches: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def take(self, events: Sequence[TakenUsage], marks: Mapping[int, int], *, received_at: datetime) -> None:
        self.batches.append(len(events))
        if self.conflicts:
            self.conflicts -= 1
            raise ConflictError("moved on")
        await super().take(events, marks, received_at=received_at)


@pytest.fixture
def store() -> Contested:
    store = Contested()
    store.holders[LICENSE] = UsageHolder(
        account="ka", product="CloudBackup", test=False, was_issued=True, terminated_at=None, closed_through=None
    )
    return store


def handler(store: Contested) -> UsageHandler:
    return UsageHandler(store=store, rules=FixedRules(), business_clock=FixedClock(), system_clock=FixedClock())


def received(*events: bytes, first_offset: int = 0) -> list[ReceivedUsage]:
    return [
        ReceivedUsage(content=event, content_sha256=digest, partition=7, offset=first_offset + number)
        for number, (event, digest) in enumerate(map(decode_usage, events))
    ]


def level(event_id: str, value: object = 118, *, minutes: int = 0, counter: str = "storedGigabytes") -> bytes:
    return an_event(event_id, "00502001", counter, value, NOW - timedelta(minutes=minutes))


def reasons(verdicts: Sequence[Verdict]) -> list[str | None]:
    return [None if verdict.dead_letter is None else verdict.dead_letter.reason for verdict in verdicts]


async def test_a_duplicate_changes_nothing_in_the_same_batch_or_later(store: Contested) -> None:
    first = await handler(store).handle(received(level("1"), level("1"), level("2", 7, minutes=5)))
    before = dict(store.totals)
    again = await handler(store).handle(received(level("2", 7, minutes=5), level("1"), first_offset=3))

    assert [verdict.is_duplicate for verdict in (*first, *again)] == [False, True, False, True, True]
    assert reasons((*first, *again)) == [None] * 5
    assert store.totals == before
    assert store.totals[LICENSE, "storedGigabytes", CounterKind.LEVEL].value == 118
    assert store.marks == {7: 5}


async def test_a_reused_id_is_set_aside_in_the_same_batch_or_later(store: Contested) -> None:
    same = await handler(store).handle(received(level("1"), level("1", 119)))
    later = await handler(store).handle(received(level("1", 120), first_offset=2))

    assert reasons((*same, *later)) == [None, "id_reuse", "id_reuse"]
    assert store.totals[LICENSE, "storedGigabytes", CounterKind.LEVEL].value == Decimal(118)
    assert store.marks == {7: 3}


async def test_an_event_set_aside_is_not_remembered_and_may_come_again(store: Contested) -> None:
    unknown = await handler(store).handle(received(level("1", counter="elsewhere")))
    mended = await handler(store).handle(received(level("1"), first_offset=1))

    assert reasons((*unknown, *mended)) == ["unknown_counter", None]
    assert store.totals[LICENSE, "storedGigabytes", CounterKind.LEVEL].events == 1


async def test_an_unreadable_record_is_passed_by_the_watermark(store: Contested) -> None:
    unreadable = ReceivedUsage(content=InvalidRecordError("not_json", "x"), content_sha256=b"", partition=2, offset=41)

    verdicts = await handler(store).handle([unreadable])

    assert reasons(verdicts) == ["not_json"]
    assert store.marks == {2: 42}


async def test_a_conflict_is_judged_again(store: Contested) -> None:
    store.conflicts = 4

    verdicts = await handler(store).handle(received(level("1")))

    assert reasons(verdicts) == [None]
    assert store.totals[LICENSE, "storedGigabytes", CounterKind.LEVEL].events == 1


async def test_a_conflict_that_never_ends_is_given_back(store: Contested) -> None:
    store.conflicts = 99

    with pytest.raises(UnavailableError):
        await handler(store).handle(received(level("1")))

    assert store.totals == {}
    assert store.marks == {}


async def test_one_value_that_cannot_be_stored_takes_no_other_with_it(store: Contested) -> None:
    events = [level(f"{number}\0" if number == 5 else f"{number}", minutes=number) for number in range(16)]

    verdicts = await handler(store).handle(received(*events))

    assert reasons(verdicts) == [None] * 5 + ["not_storable"] + [None] * 10
    assert store.totals[LICENSE, "storedGigabytes", CounterKind.LEVEL].events == 15
    assert store.marks == {7: 16}
    assert len(store.batches) <= 10


async def test_nothing_is_taken_in_for_an_empty_batch(store: Contested) -> None:
    assert await handler(store).handle([]) == ()
    assert store.batches == []
