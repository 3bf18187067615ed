"""What the usage handler needs from the outside, in its own words."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from shared.contracts.identifiers import LicenseId
from shared.contracts.usage import UsageKey
from shared.domain.case import Rules
from shared.domain.usage_batch import TakenUsage, UsageLoaded


class UsageStore(Protocol):
    """Counters and raw events. Every method may raise `UnavailableError`; then nothing is known to have happened."""

    async def load(self, keys: Collection[UsageKey], license_ids: Collection[LicenseId]) -> UsageLoaded:
        """Return which events are known and who holds the licenses, in one round trip."""
        ...

    async def take(self, events: Sequence[TakenUsage], marks: Mapping[int, int], *, received_at: datetime) -> None:
        """Take `events` in and move the watermark of each partition to `marks`, in one transaction.

        Raises `ConflictError` when something moved on since it was read, and `StoreRefusedError` when a value cannot
        be stored at all; then nothing was stored.
        """
        ...


class RulesSource(Protocol):
    """The rules in force."""

    def current(self) -> Rules:
        """Return the newest known catalog and the policy; never waits."""
        ...
