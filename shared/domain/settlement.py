"""Settlement: months per account and product, open until they are closed, then never changed (docs/protocols/usage.md).

`TRANSITIONS` is the law of this file. What comes after a month was closed counts into the first open one.
Licenses for tests and not for resale are no part of any settlement.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from enum import StrEnum

DECEMBER = 12


class SettlementState(StrEnum):
    """States of a month. Only months that are no longer open are stored."""

    OPEN = "open"
    CLOSED = "closed"
    DISPUTED = "disputed"
    SETTLED = "settled"


TRANSITIONS: Mapping[SettlementState, frozenset[SettlementState]] = {
    SettlementState.OPEN: frozenset({SettlementState.CLOSED}),
    SettlementState.CLOSED: frozenset({SettlementState.DISPUTED, SettlementState.SETTLED}),
    SettlementState.DISPUTED: frozenset({SettlementState.SETTLED}),
    SettlementState.SETTLED: frozenset(),
}


def may_become(current: SettlementState, target: SettlementState) -> bool:
    """Whether a month may go from `current` to `target`."""
    return target in TRANSITIONS[current]


def month_of(day: date) -> date:
    """Return the month of `day`: its first day."""
    return date(day.year, day.month, 1)


def next_month(month: date) -> date:
    """Return the month after `month`."""
    return date(month.year + 1, 1, 1) if month.month == DECEMBER else date(month.year, month.month + 1, 1)


def first_open_month(day: date, closed_through: date | None) -> date:
    """Return the month into which something of `day` counts: its own, or the first after those that are closed."""
    month = month_of(day)
    return month if closed_through is None or month > closed_through else next_month(closed_through)


def months_to_close(first: date, last: date, closed_through: date | None) -> Iterator[date]:
    """Yield the open months from `first` to `last`, in order: none is skipped."""
    month = first_open_month(first, closed_through)
    while month <= last:
        yield month
        month = next_month(month)


def is_over(month: date, today: date) -> bool:
    """Whether `month` has ended by `today` (UTC)."""
    return next_month(month) <= today
