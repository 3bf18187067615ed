"""When is what due? Pure answers from the clock and the catalog."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from shared.contracts.identifiers import LicenseId
from shared.domain.catalog import Catalog, Provider

LICENSE_END = timedelta(hours=36)
"""From the beginning of a license's last day to noon of the next one, when it ends (`domain.term.expires_at`)."""
RESULTS_KEPT_DAYS = 8
"""A day longer than the command topic remembers."""
NAMES_KEPT = timedelta(days=30)
"""A named request is answered from memory for so long (docs/protocols/partner-api.md 3.2)."""
SWEEPS_KEPT_DAYS = 30
"""What lasts of a sweep are its findings; the comparison itself is only looked back at."""


def latest_day_over(now: datetime) -> date:
    """Return the latest last day of a license that has ended at `now` (business clock)."""
    return (now - LICENSE_END).date()


def wind_downs_over(catalog: Catalog, now: datetime) -> Mapping[str, datetime]:
    """Return per SKU of a provider: what was terminated by then has nobody to wait for any more."""
    return {
        product.sku: now - timedelta(days=product.wind_down_days)
        for product in catalog.products.values()
        if product.provider is not Provider.LOCAL
    }


def first_day_kept(today: date) -> date:
    """Return the first day whose command results may still be asked for."""
    return today - timedelta(days=RESULTS_KEPT_DAYS)


def names_over(now: datetime) -> datetime:
    """Return the moment before which named requests were answered whose names are free again (system clock)."""
    return now - NAMES_KEPT


@dataclass(slots=True)
class Recently:
    """Remembers what was asked for a moment ago, so that a slow worker is not asked again every second."""

    seconds: float
    _until: dict[LicenseId, float] = field(default_factory=dict, init=False)

    def fresh(self, asked: Iterable[LicenseId], now: float) -> list[LicenseId]:
        """Return those that were not asked for within `seconds`; `now` in monotonic seconds."""
        self._until = {known: until for known, until in self._until.items() if until > now}
        return [license_id for license_id in asked if license_id not in self._until]

    def note(self, asked: Iterable[LicenseId], now: float) -> None:
        """Remember that these were asked for now."""
        self._until |= dict.fromkeys(asked, now + self.seconds)


@dataclass(slots=True)
class Every:
    """Says when a recurring task is due again."""

    seconds: float
    _next: float = field(default=float("-inf"), init=False)

    def is_due(self, now: float) -> bool:
        """Whether the task is due at `now` (monotonic seconds); if so, it is next due `seconds` later."""
        if now < self._next:
            return False
        self._next = now + self.seconds
        return True

    def again(self) -> None:
        """Be due at once: there is more of it."""
        self._next = float("-inf")
