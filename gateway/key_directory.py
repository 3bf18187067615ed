"""Which license a key id or an activation code names, remembered for a while; and numbers for new keys, in blocks.

Ids and codes never change, only who may see a key does. So what was found is trusted for `TRUSTED_SECONDS` on the way
to a command, where the worker judges again; answers that are read directly do not come through here.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Protocol

from shared.clock import SystemClock
from shared.contracts.key_commands import KeyReference
from shared.domain.key_queries import FoundKey

TRUSTED_SECONDS = 30.0
REMEMBERED_MAX = 10_000
BLOCK_NUMBERS = 100
"""Numbers drawn at once; those that a process does not use are lost, and gaps mean nothing."""


class KeyDirectory(Protocol):
    """Where keys are looked up."""

    async def find(self, account: str, reference: KeyReference) -> FoundKey | None:
        """Return the key that `account` may see under a key id or an activation code. Raises `UnavailableError`."""
        ...


class KeyNumberSource(Protocol):
    """Where numbers of new keys come from."""

    async def draw(self, count: int) -> Sequence[int]:
        """Return `count` numbers that nobody else ever gets. Raises `UnavailableError`."""
        ...


class RememberingKeyDirectory:
    """A directory that asks another one only for what it has not heard lately."""

    __slots__ = ("_clock", "_directory", "_remembered")

    def __init__(self, directory: KeyDirectory, clock: SystemClock) -> None:
        """Remember nothing yet."""
        self._directory = directory
        self._clock = clock
        self._remembered: OrderedDict[tuple[str, KeyReference], tuple[float, FoundKey]] = OrderedDict()

    async def find(self, account: str, reference: KeyReference) -> FoundKey | None:
        """Return the key that `account` may see, or could see a moment ago. Raises `UnavailableError`."""
        asked = (account, reference)
        known = self._remembered.get(asked)
        if known is not None and self._clock.monotonic() < known[0]:
            return known[1]
        found = await self._directory.find(account, reference)
        self._remembered.pop(asked, None)
        if found is not None:
            self._remembered[asked] = (self._clock.monotonic() + TRUSTED_SECONDS, found)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        return found


class NumberBlocks:
    """Hands out numbers one by one, drawn in blocks."""

    __slots__ = ("_lock", "_numbers", "_source")

    def __init__(self, source: KeyNumberSource) -> None:
        """Draw nothing yet."""
        self._source = source
        self._numbers: deque[int] = deque()
        self._lock = asyncio.Lock()

    async def next(self) -> str:
        """Return a license number for a new key: its key id as at least eight digits. Raises `UnavailableError`."""
        while not self._numbers:
            async with self._lock:
                if not self._numbers:
                    self._numbers.extend(await self._source.draw(BLOCK_NUMBERS))
        return f"{self._numbers.popleft():08}"
