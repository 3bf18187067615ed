"""What the intake worker needs from the outside, in its own words."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from shared.domain.intake import KnownRequest, NewRequest


class RequestLog(Protocol):
    """Every public request ever seen. Every method may raise `UnavailableError`; then nothing is known to be done."""

    async def known_accounts(self, names: Collection[str]) -> frozenset[str]:
        """Return those of `names` that are accounts, disabled ones too: they still own their licenses."""
        ...

    async def remember(self, requests: Sequence[NewRequest], at: datetime) -> Mapping[tuple[str, str], KnownRequest]:
        """Remember the requests that are new, with their answers, and return what is remembered of each, by its key.

        The requests must have keys of their own. Raises `StoreRefusedError` when a value cannot be stored.
        """
        ...

    async def ping(self) -> None:
        """Ask for a sign of life."""
        ...

    async def hand_over(self, keys: Collection[tuple[str, str]], at: datetime) -> None:
        """Note that the commands of these requests stand on the topic."""
        ...
