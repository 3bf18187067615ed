"""Usage rules as tables: what becomes of each odd event, how counters add up, what is told and when nothing is."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.identifiers import LicenseId
from shared.contracts.usage import ReportedUsage, UsageKey, UsageType
from shared.domain.catalog import Catalog, Counter, CounterKind, Product
from shared.domain.usage import (
    VALUE_MAX,
    CountedUsage,
    CounterTotal,
    StoredUsage,
    UsageFault,
    UsageHolder,
    UsageOnFile,
    UsageRefused,
    fold,
    has_fallen,
    judge,
    merged,
    recomputed,
    told,
)

NOW = datetime(2027, 3, 1, 4, 0, tzinfo=UTC)
LEVEL, INCREMENT = CounterKind.LEVEL, CounterKind.INCREMENT
BACKUP = (Counter(name="storedGigabytes", kind=LEVEL), Counter(name="protectedServers", kind=LEVEL))
TRANSFER = (Counter(name="sentGigabytes", kind=INCREMENT), Counter(name="receivedGigabytes", kind=INCREMENT))
CATALOG = Catalog(
    version=1,
    products={
        "Bronze": Product(sku="Bronze"),
        "CloudBackup": Product(sku="CloudBackup", counters=BACKUP),
        "CloudTransfer": Product(sku="CloudTransfer", counters=TRANSFER),
    },
)


def an_event(**changes: Any) -> ReportedUsage:
    plain = ReportedUsage(
        key=UsageKey("urn:example:backup-app", "1"),
        type=UsageType.LEVEL,
        account="ka",
        number="00502001",
        counter="storedGigabytes",
        value=Decimal(118),
        at=NOW - timedelta(minutes=1),
    )
    return replace(plain, **changes)


def a_holder(**changes: Any) -> UsageHolder:
    plain = UsageHolder(
        account="ka", product="CloudBackup", test=False, was_issued=True, terminated_at=None, closed_through=None
    )
    return replace(plain, **changes)


def judged(event: ReportedUsage, holder: UsageHolder | None) -> CountedUsage | UsageRefused:
    return judge(event, holder, CATALOG, now=NOW)


@pytest.mark.parametrize(
    ("changes", "holder", "fault"),
    [
        ({"value": Decimal(-1)}, a_holder(), UsageFault.NEGATIVE),
        ({"value": Decimal("-0.001")}, a_holder(), UsageFault.NEGATIVE),
        ({"value": Decimal(VALUE_MAX + 1)}, a_holder(), UsageFault.TOO_LARGE),
        ({"value": Decimal("1e400")}, a_holder(), UsageFault.TOO_LARGE),
        ({"value": Decimal("1e-31")}, a_holder(), UsageFault.TOO_PRECISE),
        ({"at": NOW + timedelta(hours=24, microseconds=1)}, a_holder(), UsageFault.FUTURE),
        ({}, None, UsageFault.UNKNOWN_LICENSE),
        ({}, a_holder(was_issued=False, terminated_at=NOW), UsageFault.UNKNOWN_LICENSE),
        ({}, a_holder(product="Bronze"), UsageFault.STANDARD_LICENSE),
        ({}, a_holder(product="Withdrawn"), UsageFault.STANDARD_LICENSE),
        ({"counter": "storedgigabytes"}, a_holder(), UsageFault.UNKNOWN_COUNTER),
        ({"type": UsageType.INCREMENT}, a_holder(), UsageFault.WRONG_KIND),
        (
            {"counter": "sentGigabytes", "type": UsageType.LEVEL},
            a_holder(product="CloudTransfer"),
            UsageFault.WRONG_KIND,
        ),
        ({}, a_holder(terminated_at=NOW - timedelta(minutes=2)), UsageFault.AFTER_TERMINATION),
    ],
)
def test_an_event_that_does_not_count_has_its_reason(
    changes: dict[str, Any], holder: UsageHolder | None, fault: UsageFault
) -> None:
    verdict = judged(an_event(**changes), holder)

    assert isinstance(verdict, UsageRefused)
    assert verdict.fault is fault


@pytest.mark.parametrize(
    ("changes", "holder", "month"),
    [
        ({}, a_holder(), date(2027, 3, 1)),
        ({"value": Decimal(0)}, a_holder(), date(2027, 3, 1)),
        ({"value": Decimal("0.1")}, a_holder(), date(2027, 3, 1)),
        ({"value": Decimal(VALUE_MAX)}, a_holder(), date(2027, 3, 1)),
        ({"at": NOW + timedelta(hours=24)}, a_holder(), date(2027, 3, 1)),
        ({"at": datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)}, a_holder(), date(2026, 12, 1)),
        ({}, a_holder(terminated_at=NOW), date(2027, 3, 1)),
        ({}, a_holder(product="NFR-CloudBackup"), date(2027, 3, 1)),
        ({}, a_holder(test=True), date(2027, 3, 1)),
        ({"at": datetime(2027, 1, 9, tzinfo=UTC)}, a_holder(closed_through=date(2027, 1, 1)), date(2027, 2, 1)),
        ({"at": datetime(2027, 1, 9, tzinfo=UTC)}, a_holder(closed_through=date(2026, 12, 1)), date(2027, 1, 1)),
        ({"at": datetime(2026, 1, 9, tzinfo=UTC)}, a_holder(closed_through=date(2026, 12, 1)), date(2027, 1, 1)),
    ],
)
def test_an_event_that_counts_counts_into_the_first_open_month(
    changes: dict[str, Any], holder: UsageHolder, month: date
) -> None:
    verdict = judged(an_event(**changes), holder)

    assert isinstance(verdict, CountedUsage)
    assert verdict.month == month
    assert verdict.is_adjustment == (month != verdict.event.at.date().replace(day=1))


def a_total(value: str, *, minutes: int = 0, event_id: str = "1", source: str = "s", kind: CounterKind = LEVEL) -> Any:
    at = NOW + timedelta(minutes=minutes)
    return CounterTotal(kind=kind, value=Decimal(value), at=at, event_id=event_id, source=source)


def test_the_latest_level_wins_and_ties_go_by_id() -> None:
    first, later = a_total("5", minutes=-9), a_total("3", minutes=-1)
    tie = a_total("4", minutes=-1, event_id="2")

    assert merged(first, later).value == merged(later, first).value == 3
    assert merged(tie, later).value == merged(later, tie).value == 4
    assert merged(merged(first, later), tie).events == 3


@given(st.permutations([("0.1", 0), ("0.2", 1), ("0.00000000000000000000000000001", 2), ("9007199254740991", 3)]))
def test_increments_add_up_exactly_in_any_order(order: Sequence[tuple[str, int]]) -> None:
    events = [
        CountedUsage(
            event=an_event(
                key=UsageKey("s", str(number)), type=UsageType.INCREMENT, counter="sentGigabytes", value=Decimal(value)
            ),
            kind=INCREMENT,
            product="CloudTransfer",
            test=False,
            month=date(2027, 3, 1),
        )
        for value, number in order
    ]

    total = fold(events)[LicenseId("ka:00502001"), "sentGigabytes", INCREMENT]

    assert total.value == Decimal("9007199254740991.30000000000000000000000000001")
    assert total.events == 4


@pytest.mark.parametrize(
    ("counters", "totals", "watermark", "ends", "figures"),
    [
        (BACKUP, {}, (5,), (5,), [0, 0]),
        (BACKUP, {}, (), (), [0, 0]),
        (BACKUP, {}, (), (0, 0), [0, 0]),
        (BACKUP, {}, (4,), (5,), None),
        (BACKUP, {}, (4,), (4, 1), None),
        (BACKUP, {}, (4,), None, None),
        (BACKUP, {"storedGigabytes": a_total("117.01"), "protectedServers": a_total("3")}, (), None, [118, 3]),
        (BACKUP, {"storedGigabytes": a_total("118")}, (9, 9), (9, 9), [118, 0]),
        (BACKUP, {"storedGigabytes": a_total("118")}, (9, 8), (9, 9), None),
        (BACKUP, {"storedGigabytes": a_total("118", minutes=-24 * 60)}, (9,), (9,), [118, 0]),
        (BACKUP, {"storedGigabytes": a_total("118", minutes=-24 * 60 - 1)}, (9,), (9,), None),
        (TRANSFER, {"sentGigabytes": a_total("0.1", minutes=-9999, kind=INCREMENT)}, (9,), (9,), [1, 0]),
        (TRANSFER, {"sentGigabytes": a_total("0.1", kind=INCREMENT)}, (8,), (9,), None),
        (TRANSFER, {"sentGigabytes": a_total(str(VALUE_MAX + 1), kind=INCREMENT)}, (9,), (9,), None),
    ],
)
def test_a_figure_is_told_only_when_it_is_certain(
    counters: tuple[Counter, ...],
    totals: dict[str, CounterTotal],
    watermark: tuple[int, ...],
    ends: tuple[int, ...] | None,
    figures: list[int] | None,
) -> None:
    on_file = UsageOnFile(totals={(name, each.kind): each for name, each in totals.items()}, watermark=watermark)

    answer = told(counters, on_file, ends, now=NOW)

    assert (None if answer is None else list(answer.figures.values())) == figures
    assert answer is None or list(answer.figures) == [counter.name for counter in counters]


def test_figures_come_again_from_the_raw_events_before_the_watermark() -> None:
    events = [
        StoredUsage(counter="storedGigabytes", total=a_total("7", minutes=-5, event_id="a"), partition=0, offset=3),
        StoredUsage(counter="storedGigabytes", total=a_total("8", minutes=-4, event_id="b"), partition=1, offset=0),
        StoredUsage(counter="storedGigabytes", total=a_total("9", minutes=-3, event_id="c"), partition=0, offset=4),
        StoredUsage(counter="elsewhere", total=a_total("9", event_id="d"), partition=0, offset=0),
    ]
    kinds = {"storedGigabytes": LEVEL, "protectedServers": LEVEL}

    assert recomputed(events, kinds, (4, 1)) == {"storedGigabytes": 8, "protectedServers": 0}
    assert recomputed(events, kinds, (4,)) == {"storedGigabytes": 7, "protectedServers": 0}
    assert recomputed(events, kinds, (5, 1)) == {"storedGigabytes": 9, "protectedServers": 0}


def test_figures_hold_all_events_of_topics_before_the_one_that_their_watermark_belongs_to() -> None:
    sums = [
        StoredUsage(
            counter="sent",
            total=a_total(value, event_id=value, kind=INCREMENT),
            partition=0,
            offset=offset,
            generation=generation,
        )
        for value, offset, generation in (("1", 900, 1), ("2", 0, 2), ("4", 1, 2), ("8", 0, 3))
    ]

    found = [recomputed(sums, {"sent": INCREMENT}, (end,), generation) for end, generation in ((1, 2), (2, 2), (0, 3))]

    assert [figures["sent"] for figures in found] == [3, 7, 7]
    assert recomputed(sums, {"sent": INCREMENT}, (901,))["sent"] == 1


@pytest.mark.parametrize(
    ("watermark", "ends", "fallen"),
    [((3, 1), (3, 1), False), ((3,), (9, 9), False), ((), (), False), ((3, 2), (9, 1), True), ((0, 1), (9,), True)],
)
def test_more_than_the_topic_holds_was_never_read_of_it(
    watermark: tuple[int, ...],
    ends: tuple[int, ...],
    fallen: bool,  # noqa: FBT001 - expected outcome
) -> None:
    assert has_fallen(watermark, ends) is fallen
