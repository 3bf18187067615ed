"""Settlement months: the law of their states, and which month something counts into."""

from datetime import date

import pytest

from shared.domain.settlement import (
    TRANSITIONS,
    SettlementState,
    first_open_month,
    is_over,
    may_become,
    months_to_close,
    next_month,
)

LAWFUL = {("open", "closed"), ("closed", "disputed"), ("closed", "settled"), ("disputed", "settled")}


@pytest.mark.parametrize("current", SettlementState)
@pytest.mark.parametrize("target", SettlementState)
def test_a_month_moves_only_forward(current: SettlementState, target: SettlementState) -> None:
    assert may_become(current, target) == ((current.value, target.value) in LAWFUL)
    assert set(TRANSITIONS) == set(SettlementState)


def test_december_is_followed_by_january() -> None:
    assert next_month(date(2026, 12, 1)) == date(2027, 1, 1)
    assert next_month(date(2027, 1, 1)) == date(2027, 2, 1)


@pytest.mark.parametrize(
    ("day", "closed_through", "month"),
    [
        (date(2027, 2, 28), None, date(2027, 2, 1)),
        (date(2027, 2, 28), date(2027, 1, 1), date(2027, 2, 1)),
        (date(2027, 2, 28), date(2027, 2, 1), date(2027, 3, 1)),
        (date(2026, 2, 28), date(2026, 12, 1), date(2027, 1, 1)),
    ],
)
def test_what_is_late_counts_into_the_first_open_month(day: date, closed_through: date | None, month: date) -> None:
    assert first_open_month(day, closed_through) == month


def test_no_month_is_skipped_on_the_way() -> None:
    months = list(months_to_close(date(2026, 11, 9), date(2027, 1, 1), None))

    assert months == [date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1)]
    assert list(months_to_close(date(2026, 11, 9), date(2027, 1, 1), date(2026, 12, 1))) == [date(2027, 1, 1)]
    assert list(months_to_close(date(2026, 11, 9), date(2027, 1, 1), date(2027, 1, 1))) == []


def test_a_month_is_over_on_the_first_day_of_the_next() -> None:
    assert not is_over(date(2027, 2, 1), date(2027, 2, 28))
    assert is_over(date(2027, 2, 1), date(2027, 3, 1))
