"""One provider order, one step on: look first, claim, connect, fence, send once, classify, close, hand back.

Nothing here holds a transaction over a call. Between any two lines the process may die: what is stored then tells the
next one what may have happened (docs/protocols/isplicense.md 9.3).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar, assert_never
from uuid import UUID

from shared.clock import SendClock
from shared.domain.provider_operation import ChangeService, Marker, SetNodes
from shared.domain.provider_order import ClaimObstacle, Judgement, OrderState, Pause, Trigger, judge, put_off
from shared.domain.provider_outcome import Confirmed, Evidence, Refused, SendOutcome
from shared.domain.provider_record import Claim, ClaimLimits, ProviderOrder
from shared.errors import UnavailableError
from workers.provider.finishing import Finisher
from workers.provider.looking import Looker, Sight
from workers.provider.ports import OrderBook, ProviderClient, ProviderReadError, RunnerObserver
from workers.provider.settling import Settler
from workers.runtime.backoff import delay_seconds

KEEP_SECONDS = 4.0
TURN_SECONDS = 2.0
"""Longer an order does not wait for a money call to end; it gives way and is rung for again."""
NOT_SENT_SECONDS_MAX = 60.0
READ_FAILED_SECONDS_MAX = 60.0
WAIT_SECONDS: dict[ClaimObstacle, float] = {
    ClaimObstacle.SLOT_TAKEN: 2.0,
    ClaimObstacle.TOO_MANY_UNRESOLVED: 2.0,
    ClaimObstacle.PAUSED: 2.0,
    ClaimObstacle.BUSY: 0.5,
}
PAUSE_LOOK_SECONDS_MAX = 30.0

Stored = TypeVar("Stored")


@dataclass(slots=True, kw_only=True)
class OrderRunner:
    """Carries the orders of one provider account on; any number of them at once, each by one caller at a time."""

    book: OrderBook
    client: ProviderClient
    looker: Looker
    settler: Settler
    finisher: Finisher
    limits: ClaimLimits
    provider_account: str
    clock: SendClock
    chance: Callable[[], float]
    observer: RunnerObserver
    _money: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        """Let so many money calls be out at once; the book holds all workers to the same number."""
        self._money = asyncio.Semaphore(self.limits.money_in_flight_max)

    async def carry(self, order_id: UUID) -> None:
        """Take the order as far as it goes now.

        Raises `UnavailableError` when the database or the broker does not answer; then it may be carried again.
        """
        order = await self.book.load(order_id)
        if order is None or order.settled_at is not None:
            return
        match order.state:
            case OrderState.INTENDED:
                await self._begin(order)
            case OrderState.SENDING:
                if await self.book.lose(order.order_id, order.attempt):
                    self.observer.order_moved(order, OrderState.UNKNOWN, "met while sending")
                return
            case OrderState.UNKNOWN | OrderState.MANUAL:
                await self.settler.settle(order)
            case OrderState.CONFIRMED | OrderState.REFUSED:
                pass
            case _:
                assert_never(order.state)
        now = order if order.is_decided else await self.book.load(order_id)
        if now is not None:
            await self.finisher.finish(now)

    async def _begin(self, order: ProviderOrder) -> None:
        obstacle = await self.book.obstacle(order.order_id, self.limits)
        if obstacle is not None:
            await self._wait(order, obstacle)
            return
        try:
            sight = await self.looker.before(order)
        except ProviderReadError as error:
            if error.pause is not Pause.NONE:
                await self.book.hold_off(self.provider_account, error.pause)
            await self._defer(order, str(error), self._patience_seconds(order))
            return
        if not order.is_money:
            await self._attempt(order, sight)
            return
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._money.acquire()
        except TimeoutError:
            await self._defer(order, ClaimObstacle.BUSY, WAIT_SECONDS[ClaimObstacle.BUSY])
            return
        try:
            await self._attempt(order, sight)
        finally:
            self._money.release()

    async def _attempt(self, order: ProviderOrder, sight: Sight) -> None:
        """Claim the order and send it once, or close the claim with what was found."""
        await self.client.take_turn()
        window_ends = self.clock.since_boot() + self.limits.send_window_seconds
        claim = await self.book.claim(
            order.order_id,
            self.limits,
            snapshot=sight.snapshot,
            known_charges=sight.known_charges,
            operation=sight.operation,
        )
        if isinstance(claim, ClaimObstacle):
            await self._wait(order, claim)
            return
        known = _known_beforehand(sight)
        if known is not None:
            found = Evidence(row=0, detail="found by looking before sending")
            await self._close(order, claim, known, found, expires_on=sight)
            return
        outcome = await self._send(order, claim, sight, window_ends)
        judgement = judge(outcome)
        if judgement.look_first:
            judgement = await self._look_once(order, claim, judgement)
        judgement = put_off(judgement, order.operation, times=order.put_off)
        await self._close(order, claim, judgement, outcome.evidence, outcome=outcome)

    async def _send(self, order: ProviderOrder, claim: Claim, sight: Sight, window_ends: float) -> SendOutcome:
        """Send once, showing meanwhile that this worker lives."""

        async def fence() -> bool:
            if self.clock.since_boot() >= window_ends or not await self.book.pass_fence(claim):
                return False
            return self.clock.since_boot() < window_ends

        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._keep(claim))
            outcome = await self.client.carry_out(
                sight.operation or order.operation,
                offer=order.step.product.offer,
                marker=_marker_of(order),
                fence=fence,
            )
            keeper.cancel()
        return outcome

    async def _keep(self, claim: Claim) -> None:
        while True:
            await self.clock.sleep(KEEP_SECONDS)
            try:
                await self.book.keep(claim)
            except UnavailableError:
                continue  # somebody may take us for dead: the fence and the looks are made for that

    async def _look_once(self, order: ProviderOrder, claim: Claim, judgement: Judgement) -> Judgement:
        """Look before a doubtful no is believed (9.2 row 14); without a clear look it is not believed."""
        claimed = await self._stored(lambda: self.book.load(claim.order_id)) or order
        try:
            look = (await self.looker.look(claimed)).look
        except ProviderReadError:
            return Judgement(trigger=Trigger.LOST)
        if len(look.elids) == 1:
            return Judgement(trigger=Trigger.FOUND, elid=look.elids[0], how=look.how)
        return judgement if not look.elids and look.conclusive else Judgement(trigger=Trigger.LOST)

    async def _close(
        self,
        order: ProviderOrder,
        claim: Claim,
        judgement: Judgement,
        evidence: Evidence,
        *,
        outcome: SendOutcome | None = None,
        expires_on: Sight | None = None,
    ) -> None:
        """Close the attempt, however long the database is away: nobody else knows this outcome."""
        last_day = expires_on.expires_on if expires_on is not None else None
        if isinstance(outcome, Confirmed):
            last_day = outcome.expires_on
        due_seconds = judgement.again_seconds
        if judgement.trigger is Trigger.NOT_SENT:
            due_seconds = min(NOT_SENT_SECONDS_MAX, float(2 ** min(claim.attempt - 1, 10)))
        elif judgement.trigger in (Trigger.CONFIRMED, Trigger.FOUND, Trigger.REFUSED):
            due_seconds = 5.0
        subject = outcome.subject if isinstance(outcome, Refused) else ""
        state = await self._stored(
            lambda: self.book.close(
                claim, judgement, evidence, subject=subject, expires_on=last_day, due_seconds=due_seconds
            )
        )
        self.observer.order_moved(order, state, evidence.detail)

    async def _stored(self, store: Callable[[], Awaitable[Stored]]) -> Stored:
        attempt = 0
        while True:
            try:
                return await store()
            except UnavailableError:
                attempt += 1
                await self.clock.sleep(delay_seconds(attempt, self.chance()))

    async def _wait(self, order: ProviderOrder, obstacle: ClaimObstacle) -> None:
        match obstacle:
            case ClaimObstacle.NOT_INTENDED | ClaimObstacle.NOT_YET:
                return
            case ClaimObstacle.CANCELED:
                if await self.book.cancel(order.order_id):
                    self.observer.order_moved(order, OrderState.REFUSED, "canceled")
                return
            case ClaimObstacle.PAUSED:
                seconds = await self._pause_seconds()
            case _:
                seconds = WAIT_SECONDS[obstacle]
        await self._defer(order, obstacle, seconds)

    async def _pause_seconds(self) -> float:
        pause = await self.book.pause(self.provider_account)
        if pause.paused_until is None:
            return 0.0
        left = (pause.paused_until - await self.book.now()).total_seconds()
        return min(max(left, 0.1), PAUSE_LOOK_SECONDS_MAX)

    async def _defer(self, order: ProviderOrder, why: str, seconds: float) -> None:
        self.observer.order_waits(order, why, seconds)
        await self.book.defer(order.order_id, seconds)

    def _patience_seconds(self, order: ProviderOrder) -> float:
        age_seconds = (self.clock.now() - order.intended_at).total_seconds()
        return min(max(1.0, age_seconds / 4), READ_FAILED_SECONDS_MAX)


def _known_beforehand(sight: Sight) -> Judgement | None:
    """Return the judgement that looking alone allows, None when the order must be sent."""
    if sight.refusal is not None:
        return Judgement(trigger=Trigger.REFUSED, refusal=sight.refusal)
    if len(sight.elids) > 1:
        return Judgement(trigger=Trigger.AMBIGUOUS, quarantined=sight.elids)
    if sight.elids:
        return Judgement(trigger=Trigger.FOUND, elid=sight.elids[0], how=sight.how)
    return None


def _marker_of(order: ProviderOrder) -> Marker | None:
    """Return the marker to write: the order's own, or for a change that of the service, so that it stays."""
    if isinstance(order.operation, ChangeService | SetNodes):
        return order.service_marker
    return order.marker
