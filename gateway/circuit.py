"""May a command be published now? Answered from what background probes and replies told, without waiting.

Two things are watched. The *machines*: while Kafka or PostgreSQL does not answer its probe, nothing is published. And
the *queue* of each command partition: once it is known to be older than the reply budget, or a caller's budget ended
without any reply from that partition meanwhile, callers are refused at once, except one at a time, who finds out
whether the queue moves again (docs/protocols/isv-endpoint.md 8.3).
"""

from enum import Enum

from gateway.problems import Unanswered

NEVER = float("-inf")


class Machine(Enum):
    """What must answer before a command may be published."""

    BROKER = Unanswered.BROKER
    DATABASE = Unanswered.DATABASE


class Circuit:
    """The state of both watches for this process. Moments are monotonic seconds."""

    __slots__ = ("_budget_ms", "_distrusted", "_down", "_recovered_at", "_replied_at", "_scouts", "last_reply_at")

    def __init__(self, *, partitions: int, budget_seconds: float) -> None:
        """Begin with every machine down, until its first probe, and every queue trusted."""
        self._budget_ms = budget_seconds * 1000
        self._down: set[Machine] = set(Machine)
        self._distrusted: set[int] = set()
        self._scouts: dict[int, bytes] = {}
        """By distrusted partition: the correlation id of the one caller who tries."""
        self._replied_at = [NEVER] * partitions
        self._recovered_at = NEVER
        self.last_reply_at = NEVER
        """When any reply came: a sign of life of the broker."""

    def refusal(self, partition: int) -> Unanswered | None:
        """Return why nothing may be published to `partition` now, None when it may."""
        if self._down:
            return Unanswered(next(iter(self._down)).value)
        if self._distrusted and partition in self._scouts:
            return Unanswered.CIRCUIT
        return None

    def is_down(self, machine: Machine) -> bool:
        """Whether `machine` did not answer lately."""
        return machine in self._down

    @property
    def open_circuits(self) -> int:
        """How many partitions are distrusted."""
        return len(self._distrusted)

    def came_up(self, machine: Machine, *, now: float) -> bool:
        """Note that `machine` answered. Returns whether that is news.

        Queues that fell behind meanwhile are trusted again: the outage explains them, and one that really is old says
        so with its first reply. Otherwise a healthy service would refuse at each partition's first contact.
        """
        if machine not in self._down:
            return False
        self._down.remove(machine)
        self._recovered_at = now
        self._distrusted.clear()
        self._scouts.clear()
        return True

    def went_down(self, machine: Machine) -> bool:
        """Note that `machine` did not answer. Returns whether that is news."""
        if machine in self._down:
            return False
        self._down.add(machine)
        return True

    def admitted(self, partition: int, correlation_id: bytes) -> None:
        """Note that a command goes to `partition`: on a distrusted one it is the one that tries."""
        if self._distrusted and partition in self._distrusted:
            self._scouts[partition] = correlation_id

    def replied(self, partition: int, queue_age_ms: int, now: float) -> None:
        """Note a reply to a command of `partition` that had waited `queue_age_ms` for its worker."""
        self._replied_at[partition] = self.last_reply_at = now
        if queue_age_ms > self._budget_ms:
            self._distrusted.add(partition)
            self._scouts.pop(partition, None)
        elif self._distrusted:
            self._distrusted.discard(partition)
            self._scouts.pop(partition, None)

    def missed(self, partition: int, *, since: float) -> None:
        """Note that a caller who waited from `since` on got no reply within the budget.

        One who began to wait before the last recovery tells nothing: the outage explains it.
        """
        if self._replied_at[partition] < since and since > self._recovered_at:
            self._distrusted.add(partition)

    def left(self, partition: int, correlation_id: bytes) -> None:
        """Note that a caller waits no more, for whatever reason: somebody else may try."""
        if self._scouts and self._scouts.get(partition) == correlation_id:
            del self._scouts[partition]
