"""The panel's lists, read once for all who ask at the same time.

Whoever asks gets a read that **began after** the question: a read that is already under way may miss what happened
since. So at most one read is out and at most one more is waited for, however many orders are looked for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


@dataclass(slots=True)
class SharedRead(Generic[Answer]):
    """Reads through `read`; failures reach everybody who waited for that very read."""

    read: Callable[[], Awaitable[Answer]]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _begun: int = field(default=0, init=False)
    _outcomes: dict[int, Answer | Exception] = field(default_factory=dict, init=False)

    async def fresh(self) -> Answer:
        """Return the answer of a read that began after this call. Raises what the read raised."""
        wanted = self._begun + 1
        async with self._turn:
            if self._begun < wanted or self._begun not in self._outcomes:  # the second: a reader was canceled
                self._begun += 1
                self._outcomes = {self._begun: await self._outcome()}
            outcome = self._outcomes[self._begun]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _outcome(self) -> Answer | Exception:
        try:
            return await self.read()
        except Exception as error:  # noqa: BLE001 - handed to everybody who waits for this read
            return error
