"""Calendar rules of a license: when it ends, and how long "now" may lag behind a date."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta

ALIKE_EXPIRY_DAYS = 3
"""A PURCHASE of a held number is a repeat when its expiry is at most this far from ours (isv-endpoint 8.2 rule 4)."""


def expires_at(expires_on: date) -> datetime:
    """Return the moment at which a license whose last day is `expires_on` ends: noon UTC of the next day.

    isv-endpoint 7. The last representable day has no next one; it ends at its own last second.
    """
    if expires_on == date.max:
        return datetime.combine(expires_on, time.max, UTC)
    return datetime.combine(expires_on + timedelta(days=1), time(12), UTC)


def is_due(expires_on: date, now: datetime) -> bool:
    """Whether a license with that last day has ended at `now`."""
    return now >= expires_at(expires_on)


def is_past(expires_on: date, now: datetime) -> bool:
    """Whether a requested last day is too old: before yesterday, UTC (isv-endpoint 4.3)."""
    return expires_on < (now.astimezone(UTC) - timedelta(days=1)).date()


def months_later(day: date, months: int) -> date:
    """Return the same day of the month `months` later, or that month's last day when it is shorter."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if year > date.max.year:
        return date.max
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))
