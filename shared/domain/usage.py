"""Usage counters: what becomes of one event, how events add up, and what may be told (docs/protocols/usage.md).

Every odd event has a defined end: it counts, it counts into an open month, or it is set aside with a reason. Figures
are kept exact; only what is told is rounded, and then up.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, Context, Decimal
from enum import StrEnum
from uuid import UUID

from shared.contracts.identifiers import LicenseId
from shared.contracts.usage import ReportedUsage, UsageType
from shared.domain.catalog import Catalog, Counter, CounterKind
from shared.domain.settlement import first_open_month

VALUE_MAX = 2**53 - 1
"""Largest number that every reader of JSON can hold exactly."""
DECIMAL_PLACES_MAX = 30
FUTURE_MAX = timedelta(hours=24)
FRESH_MAX = timedelta(hours=24)
EXACT = Context(prec=400)
"""Sums must not be rounded: values have up to 16 digits before and 30 behind the point."""

KINDS: Mapping[UsageType, CounterKind] = {
    UsageType.LEVEL: CounterKind.LEVEL,
    UsageType.INCREMENT: CounterKind.INCREMENT,
}


class UsageFault(StrEnum):
    """Why an event does not count; reasons of dead letters."""

    NEGATIVE = "value_negative"
    TOO_LARGE = "value_too_large"
    TOO_PRECISE = "value_too_precise"
    FUTURE = "future"
    UNKNOWN_LICENSE = "unknown_license"
    STANDARD_LICENSE = "standard_license"
    UNKNOWN_COUNTER = "unknown_counter"
    WRONG_KIND = "wrong_kind"
    AFTER_TERMINATION = "after_termination"


@dataclass(frozen=True, slots=True)
class UsageRefused:
    """An event that does not count, and why in words."""

    fault: UsageFault
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageHolder:
    """The license that an event names, as far as judging needs it."""

    account: str
    product: str
    """SKU, with the `NFR-` prefix when not for resale."""
    test: bool
    was_issued: bool
    """False for a tombstone of a number never issued."""
    terminated_at: datetime | None
    closed_through: date | None
    """Last month (first day) that is settled for its account and product."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedUsage:
    """An event that counts."""

    event: ReportedUsage
    kind: CounterKind
    product: str
    test: bool
    month: date
    """Settlement month into which it counts."""

    @property
    def is_adjustment(self) -> bool:
        """Whether its own month was closed already."""
        return self.month > self.event.at.date().replace(day=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterTotal:
    """One counter of one license: the fold of its events."""

    kind: CounterKind
    value: Decimal
    """Level: of the latest event, ties by id. Increment: the sum."""
    at: datetime
    """Time of the latest event, with what names it."""
    event_id: str
    source: str
    events: int = 1

    @property
    def rank(self) -> tuple[datetime, str, str]:
        """Which of two levels is in force: the latest, ties by id."""
        return self.at, self.event_id, self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOnFile:
    """What is stored about the usage of one license."""

    totals: Mapping[tuple[str, CounterKind], CounterTotal] = field(default_factory=dict)
    """By counter and kind."""
    watermark: tuple[int, ...] = ()
    """Next offset of `usage.reported` per partition, from partition 0; missing ones are 0."""
    generation: int = 1
    """To which topic of that name the watermark belongs."""
    is_accepted: bool = True
    """False when that topic was made anew, and nobody has said yet that nothing of the earlier one is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTopic:
    """Which topic `usage.reported` was when it was last looked at, and how far it is taken in."""

    generation: int = 1
    topic_id: UUID | None = None
    """None: nobody has looked yet."""
    is_accepted: bool = True
    """See `UsageOnFile`."""
    watermark: tuple[int, ...] = ()

    def is_of(self, topic_id: UUID) -> bool:
        """Whether the watermark says anything about the topic with this id."""
        return self.topic_id in (None, topic_id)


@dataclass(frozen=True, slots=True)
class UsageTold:
    """Answer: the figure of every agreed counter, in the order of the catalog."""

    figures: Mapping[str, int]
    kinds: Mapping[str, CounterKind]
    watermark: tuple[int, ...]
    """Everything before these offsets is in the figures."""
    generation: int = 1
    """To which topic the watermark belongs; all events of earlier ones are in the figures too."""


def judge(
    event: ReportedUsage, holder: UsageHolder | None, catalog: Catalog, *, now: datetime
) -> CountedUsage | UsageRefused:
    """Return whether and how `event` counts. `now` is the business clock, aware UTC."""
    fault = _value_fault(event.value)
    if fault is not None:
        return fault
    if event.at > now + FUTURE_MAX:
        return UsageRefused(UsageFault.FUTURE, f"its time {event.at.isoformat()} is more than 24 h ahead")
    if holder is None or not holder.was_issued:
        return UsageRefused(UsageFault.UNKNOWN_LICENSE, f"license {event.license_id} is not known")
    kind = _agreed_kind(event, holder, catalog)
    if isinstance(kind, UsageRefused):
        return kind
    if holder.terminated_at is not None and event.at > holder.terminated_at:
        return UsageRefused(UsageFault.AFTER_TERMINATION, f"license {event.license_id} was terminated before")
    month = first_open_month(event.at.date(), holder.closed_through)
    return CountedUsage(event=event, kind=kind, product=holder.product, test=holder.test, month=month)


def _agreed_kind(event: ReportedUsage, holder: UsageHolder, catalog: Catalog) -> CounterKind | UsageRefused:
    listed = catalog.find(holder.product)
    counters = () if listed is None else listed.product.counters
    if not counters:
        return UsageRefused(UsageFault.STANDARD_LICENSE, f"product {holder.product} reports no usage")
    kind = KINDS[event.type]
    agreed = next((counter for counter in counters if counter.name == event.counter), None)
    if agreed is None:
        return UsageRefused(UsageFault.UNKNOWN_COUNTER, f"product {holder.product} has no such counter")
    if agreed.kind is not kind:
        return UsageRefused(UsageFault.WRONG_KIND, f"counter {agreed.name} takes events of kind {agreed.kind.value}")
    return kind


def _value_fault(value: Decimal) -> UsageRefused | None:
    if value < 0:
        return UsageRefused(UsageFault.NEGATIVE, "its value is below zero")
    if value > VALUE_MAX:
        return UsageRefused(UsageFault.TOO_LARGE, "its value is above 2^53 - 1")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > DECIMAL_PLACES_MAX:
        return UsageRefused(UsageFault.TOO_PRECISE, f"its value has more than {DECIMAL_PLACES_MAX} decimal places")
    return None


def fold(events: Iterable[CountedUsage]) -> Mapping[tuple[LicenseId, str, CounterKind], CounterTotal]:
    """Return what `events` add up to, by license, counter and kind; in whatever order they come."""
    totals: dict[tuple[LicenseId, str, CounterKind], CounterTotal] = {}
    for counted in events:
        event = counted.event
        key = (event.license_id, event.counter, counted.kind)
        total = CounterTotal(
            kind=counted.kind, value=event.value, at=event.at, event_id=event.key.event_id, source=event.key.source
        )
        known = totals.get(key)
        totals[key] = total if known is None else merged(known, total)
    return totals


def merged(first: CounterTotal, second: CounterTotal) -> CounterTotal:
    """Return the fold of two folds of different events; their order does not matter."""
    latest = max(first, second, key=lambda total: total.rank)
    value = latest.value if latest.kind is CounterKind.LEVEL else EXACT.add(first.value, second.value)
    return CounterTotal(
        kind=latest.kind,
        value=value,
        at=latest.at,
        event_id=latest.event_id,
        source=latest.source,
        events=first.events + second.events,
    )


def told(
    counters: Sequence[Counter], on_file: UsageOnFile | None, ends: Sequence[int] | None, *, now: datetime
) -> UsageTold | None:
    """Return the figures of `counters`, None when one of them is not to be had: a zero is never invented.

    `ends` is the end of the topic per partition when the question came, None when nobody could wait until it was read.
    Then only levels that are fresh can be told. `now` is the business clock.
    """
    if on_file is None:
        return None
    caught_up = ends is not None and on_file.is_accepted and is_caught_up(on_file.watermark, ends)
    figures: dict[str, int] = {}
    for counter in counters:
        figure = _figure(counter, on_file.totals.get((counter.name, counter.kind)), now, caught_up=caught_up)
        if figure is None:
            return None
        figures[counter.name] = figure
    kinds = {counter.name: counter.kind for counter in counters}
    return UsageTold(figures, kinds, on_file.watermark, on_file.generation)


def _figure(counter: Counter, total: CounterTotal | None, now: datetime, *, caught_up: bool) -> int | None:
    if total is None:
        return 0 if caught_up else None
    if counter.kind is CounterKind.INCREMENT and not caught_up:
        return None
    if counter.kind is CounterKind.LEVEL and now - total.at > FRESH_MAX:
        return None
    figure = rounded_up(total.value)
    return figure if figure <= VALUE_MAX else None


def is_caught_up(watermark: Sequence[int], ends: Sequence[int]) -> bool:
    """Whether everything before `ends` is taken in."""
    return all((watermark[number] if number < len(watermark) else 0) >= end for number, end in enumerate(ends))


def has_fallen(watermark: Sequence[int], ends: Sequence[int]) -> bool:
    """Whether more was read than the topic holds: it is not the topic that was read, or it has lost records.

    `ends` must be younger than `watermark`.
    """
    return any(read > (ends[number] if number < len(ends) else 0) for number, read in enumerate(watermark))


def dense(marks: Mapping[int, int]) -> tuple[int, ...]:
    """Return offsets by partition as a row from partition 0, with 0 where nothing was read."""
    return tuple(marks.get(partition, 0) for partition in range(max(marks, default=-1) + 1))


def rounded_up(value: Decimal) -> int:
    """Return the whole number that is told for `value`."""
    return int(value.to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUsage:
    """One raw event as it is stored, with where it stood on the topic."""

    counter: str
    total: CounterTotal
    """The fold of this one event."""
    partition: int
    offset: int
    generation: int = 1


def recomputed(
    events: Iterable[StoredUsage], kinds: Mapping[str, CounterKind], watermark: Sequence[int], generation: int = 1
) -> Mapping[str, int]:
    """Return what raw `events` before `watermark` of `generation` give for the counters of `kinds`."""
    totals: dict[str, CounterTotal] = {}
    for event in events:
        end = watermark[event.partition] if event.partition < len(watermark) else 0
        is_before = (event.generation, event.offset) < (generation, end)
        if is_before and kinds.get(event.counter) is event.total.kind:
            known = totals.get(event.counter)
            totals[event.counter] = event.total if known is None else merged(known, event.total)
    return {counter: rounded_up(totals[counter].value) if counter in totals else 0 for counter in kinds}
