"""Who waits for which reply: a bounded map from correlation id to a waiting future.

Every waiter gets exactly one outcome: its reply, or None when the deadline passed or its command's fate is unknown.
All waiters have the same budget, so the map, which keeps the order of arrival, is also in the order of deadlines:
one sweep every `SWEEP_SECONDS` looks only at its head, and no request needs a timer of its own.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from shared.contracts.replies import Reply

SWEEP_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Waiter:
    """One caller that waits for the reply to its command."""

    correlation_id: bytes
    """16 bytes."""
    partition: int
    """The command partition that its command went to."""
    since: float
    """Monotonic seconds: when it began to wait."""
    reply: asyncio.Future[Reply | None]


class ReplyInbox:
    """The waiting callers of this process: at most `capacity`, each for at most `budget_seconds`."""

    __slots__ = ("_loop", "_waiting", "budget_seconds", "capacity")

    def __init__(self, *, capacity: int, budget_seconds: float) -> None:
        """Start empty. Needs a running loop."""
        self.capacity = capacity
        self.budget_seconds = budget_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, Waiter] = {}

    def __len__(self) -> int:
        """Return how many callers wait."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether nobody else may wait."""
        return len(self._waiting) >= self.capacity

    def expect(self, correlation_id: bytes, *, partition: int, now: float) -> Waiter:
        """Add a waiter; call this before the command is sent, and `forget` it whatever happens afterwards.

        `now` is monotonic and never smaller than at an earlier call.
        """
        waiter = Waiter(correlation_id, partition, now, self._loop.create_future())
        self._waiting[correlation_id] = waiter
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Free the place of `waiter`; its reply will be a late one."""
        self._waiting.pop(waiter.correlation_id, None)

    def resolve(self, correlation_id: bytes, reply: Reply | None) -> Waiter | None:
        """Hand `reply` to its waiter and return it; None when nobody waits (any more) for that id."""
        waiter = self._waiting.pop(correlation_id, None)
        if waiter is None:
            return None
        if not waiter.reply.done():  # done: the caller went away in this very moment
            waiter.reply.set_result(reply)
        return waiter

    def expire(self, now: float) -> Iterator[Waiter]:
        """End the wait of everybody whose budget is over at `now`, and yield them."""
        oldest_since = now - self.budget_seconds
        while self._waiting:
            waiter = next(iter(self._waiting.values()))
            if waiter.since > oldest_since:
                return
            self.resolve(waiter.correlation_id, None)
            yield waiter
