"""The usage handler: read once, judge every event in memory, take all that counts in one transaction.

Each event ends in one of three ways: it counts; it is known already and changes nothing; or it is set aside with a
reason. The watermark of each partition moves in the same transaction, past all three. A value that the database cannot
hold spoils a whole batch: the batch is halved, in order, until the one at fault is alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.clock import BusinessClock, SystemClock
from shared.contracts.usage import ReportedUsage, UsageKey
from shared.domain.usage import UsageRefused, judge
from shared.domain.usage_batch import TakenUsage, UsageLoaded
from shared.errors import ConflictError, InvalidRecordError, StoreRefusedError, UnavailableError
from workers.usage.ports import RulesSource, UsageStore

CONFLICT_ATTEMPTS_MAX = 5
"""Attempts on one set of events before it is halved, or given back to be tried later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedUsage:
    """One record of the topic: the event in it, or why it holds none."""

    content: ReportedUsage | InvalidRecordError
    content_sha256: bytes
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one record."""

    dead_letter: InvalidRecordError | None = None
    """Why it is set aside; None when it counts or is known."""
    is_duplicate: bool = False
    is_adjustment: bool = False


@dataclass(slots=True, kw_only=True)
class UsageHandler:
    """Handles batches one at a time; keeps nothing between them."""

    store: UsageStore
    rules: RulesSource
    business_clock: BusinessClock
    system_clock: SystemClock

    async def handle(self, received: Sequence[ReceivedUsage]) -> Sequence[Verdict]:
        """Return what became of each record, in order.

        Raises `UnavailableError` only; then the same batch may be handled again, as often as needed.
        """
        if not received:
            return ()
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            try:
                return await self._attempt(received)
            except ConflictError:
                continue
            except StoreRefusedError as refused:
                if len(received) == 1:
                    return await self._set_aside(received[0], InvalidRecordError("not_storable", str(refused)))
                break
        if len(received) == 1:
            raise UnavailableError(f"usage event at offset {received[0].offset} met a conflict on every attempt")
        middle = len(received) // 2
        return (*await self.handle(received[:middle]), *await self.handle(received[middle:]))

    async def move_watermark(self, marks: Mapping[int, int]) -> None:
        """Store how far each partition is done, where that is further than before. Raises `UnavailableError`."""
        await self.store.take((), marks, received_at=self.system_clock.now())

    async def _set_aside(self, received: ReceivedUsage, reason: InvalidRecordError) -> Sequence[Verdict]:
        await self.move_watermark(marks_of((received,)))
        return (Verdict(dead_letter=reason),)

    async def _attempt(self, received: Sequence[ReceivedUsage]) -> Sequence[Verdict]:
        events = [each.content for each in received if isinstance(each.content, ReportedUsage)]
        loaded = UsageLoaded()
        if events:
            loaded = await self.store.load({event.key for event in events}, {event.license_id for event in events})
        taken: dict[UsageKey, TakenUsage] = {}
        verdicts = [self._judge(each, loaded, taken) for each in received]
        await self.store.take(list(taken.values()), marks_of(received), received_at=self.system_clock.now())
        return verdicts

    def _judge(self, received: ReceivedUsage, loaded: UsageLoaded, taken: dict[UsageKey, TakenUsage]) -> Verdict:
        event = received.content
        if isinstance(event, InvalidRecordError):
            return Verdict(dead_letter=event)
        earlier = taken.get(event.key)
        known = loaded.known.get(event.key) if earlier is None else earlier.content_sha256
        if known is not None:
            if known == received.content_sha256:
                return Verdict(is_duplicate=True)
            return Verdict(dead_letter=InvalidRecordError("id_reuse", "its source and id named another event before"))
        holder, catalog = loaded.holders.get(event.license_id), self.rules.current().catalog
        counted = judge(event, holder, catalog, now=self.business_clock.now())
        if isinstance(counted, UsageRefused):
            return Verdict(dead_letter=InvalidRecordError(counted.fault.value, counted.text))
        taken[event.key] = TakenUsage(
            counted=counted,
            content_sha256=received.content_sha256,
            partition=received.partition,
            offset=received.offset,
        )
        return Verdict(is_adjustment=counted.is_adjustment)


def marks_of(received: Sequence[ReceivedUsage]) -> Mapping[int, int]:
    """Return the offset to read next per partition, once `received` is done."""
    marks: dict[int, int] = {}
    for each in received:
        marks[each.partition] = max(marks.get(each.partition, 0), each.offset + 1)
    return marks
