"""The usage store in memory: the same promises as PostgreSQL's, kept by the same conformance suite."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime

from shared.contracts.identifiers import LicenseId
from shared.contracts.usage import UsageKey
from shared.domain.catalog import CounterKind
from shared.domain.usage import CounterTotal, UsageHolder, fold, merged
from shared.domain.usage_batch import TakenUsage, UsageLoaded
from shared.errors import ConflictError, StoreRefusedError


class InMemoryUsageStore:
    """Usage in dictionaries. Tests may read and change all of it."""

    def __init__(self) -> None:
        self.holders: dict[LicenseId, UsageHolder] = {}
        self.events: dict[UsageKey, TakenUsage] = {}
        self.totals: dict[tuple[LicenseId, str, CounterKind], CounterTotal] = {}
        self.marks: dict[int, int] = {}
        self.closed_through: dict[tuple[str, str], date] = {}
        """By account and product."""

    async def load(self, keys: Collection[UsageKey], license_ids: Collection[LicenseId]) -> UsageLoaded:
        """Return which events are known and who holds the licenses."""
        return UsageLoaded(
            known={key: self.events[key].content_sha256 for key in keys if key in self.events},
            holders={key: self.holders[key] for key in license_ids if key in self.holders},
        )

    async def take(self, events: Sequence[TakenUsage], marks: Mapping[int, int], *, received_at: datetime) -> None:
        """Take events in, all or none."""
        taken = dict(self.events)
        for event in events:
            key, counted = event.counted.event.key, event.counted
            if "\0" in key.source + key.event_id + counted.event.counter:
                raise StoreRefusedError("a text with a NUL")
            closed = self.closed_through.get((counted.event.account, counted.product))
            if key in taken or (closed is not None and counted.month <= closed):
                raise ConflictError("moved on")
            taken[key] = event
        self.events = taken
        for named, total in fold(event.counted for event in events).items():
            known = self.totals.get(named)
            self.totals[named] = total if known is None else merged(known, total)
        for partition, offset in marks.items():
            self.marks[partition] = max(offset, self.marks.get(partition, 0))
