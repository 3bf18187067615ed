"""Settling an order whose outcome is unknown: one look a bell, judged by `shared.domain.provider_settling`."""

from dataclasses import dataclass

from shared.domain.provider_operation import ChangeService, EndService
from shared.domain.provider_order import OrderState, Pause, Trigger
from shared.domain.provider_record import ProviderOrder
from shared.domain.provider_settling import GiveUpReason, LookAgain, Settled, SettlingRules, settle
from workers.provider.looking import Looker, Sighting
from workers.provider.ports import OrderBook, ProviderReadError, RunnerObserver

LOOK_AGAIN_SECONDS_MIN = 1.0
READ_FAILED_SECONDS = 5.0
REPEATS_MAX = 8
"""So often a change or release whose outcome got lost is sent again by itself."""
REPEAT_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settler:
    """Settles the orders of one provider account."""

    book: OrderBook
    looker: Looker
    rules: SettlingRules
    provider_account: str
    observer: RunnerObserver

    async def settle(self, order: ProviderOrder) -> None:
        """Look once for the effect of an order in `unknown` or `manual`, and move it or let it be due again."""
        sighting = await self._look(order)
        may_repeat = isinstance(order.operation, ChangeService | EndService) and order.state is OrderState.UNKNOWN
        if may_repeat and sighting is not None:
            await self._repeat(order, sighting)
            return
        decision = settle(order.unsettled, await self.book.looks(order), self.rules, now=await self.book.now())
        match decision:
            case Settled():
                expires_on = sighting.expires_on if sighting is not None else None
                released = decision.trigger is Trigger.ABSENT_RELEASED
                state = await self.book.settle(
                    order, decision, expires_on=expires_on, due_seconds=0.0 if released else READ_FAILED_SECONDS
                )
                self.observer.order_moved(order, state, decision.reason or decision.trigger)
            case LookAgain(at=None):
                await self.book.defer(order.order_id, None)
            case LookAgain(at=at):
                assert at is not None  # noqa: S101 - the case above
                wait_seconds = max(LOOK_AGAIN_SECONDS_MIN, (at - await self.book.now()).total_seconds())
                if sighting is None:
                    wait_seconds = max(wait_seconds, READ_FAILED_SECONDS)
                await self.book.defer(order.order_id, wait_seconds)

    async def _look(self, order: ProviderOrder) -> Sighting | None:
        """Return a look, kept as evidence; None when it failed, from which nothing follows."""
        try:
            sighting = await self.looker.look(order)
        except ProviderReadError as error:
            if error.pause is not Pause.NONE:
                await self.book.hold_off(self.provider_account, error.pause)
            self.observer.order_waits(order, str(error), READ_FAILED_SECONDS)
            return None
        await self.book.add_look(order, sighting.look)
        return sighting

    async def _repeat(self, order: ProviderOrder, sighting: Sighting) -> None:
        """Settle what may be sent again: done, or not done and sent again, or too often for a machine (9.5)."""
        look = sighting.look
        if look.elids:
            decision = Settled(trigger=Trigger.FOUND, elid=look.elids[0], how=look.how)
        elif order.attempt < REPEATS_MAX:
            decision = Settled(trigger=Trigger.ABSENT_RELEASED, proof=(look,))
        else:
            decision = Settled(trigger=Trigger.GIVEN_UP, reason=GiveUpReason.TIME_OVER, proof=(look,))
        again_seconds = min(REPEAT_SECONDS_MAX, float(2**order.attempt))
        state = await self.book.settle(order, decision, due_seconds=again_seconds)
        self.observer.order_moved(order, state, decision.trigger)
