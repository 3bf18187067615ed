"""What the provider role tells of itself: one log line per moved order and failed call, and nothing secret in it."""

import structlog

from shared.domain.provider_order import OrderState
from shared.domain.provider_record import ProviderOrder

DETAIL_CHARACTERS_MAX = 200

log = structlog.get_logger()


class LoggingProviderObserver:
    """Both observers of the role (`ProviderObserver`, `RunnerObserver`) as log lines."""

    def call_done(self, function: str, result: str, seconds: float) -> None:
        """One HTTP exchange ended."""
        log.debug("provider.call.done", name=function, outcome=result, seconds=round(seconds, 3))

    def hostile_answer(self, function: str, reason: str) -> None:
        """An answer was refused as an attack on its reader."""
        log.warning("provider.answer.hostile", name=function, reason=reason[:DETAIL_CHARACTERS_MAX])

    def order_moved(self, order: ProviderOrder, state: OrderState | None, why: str) -> None:
        """An order moved, or did not (None)."""
        log.info(
            "provider.order.moved",
            license_id=order.license_id,
            event_id=order.order_id,
            step=order.kind,
            state=state if state is not None else order.state,
            outcome="moved" if state is not None else "unchanged",
            detail=why[:DETAIL_CHARACTERS_MAX],
            attempt=order.attempt,
        )

    def order_waits(self, order: ProviderOrder, why: str, seconds: float) -> None:
        """An order is left for later."""
        log.debug(
            "provider.order.waits",
            license_id=order.license_id,
            event_id=order.order_id,
            step=order.kind,
            state=order.state,
            reason=why[:DETAIL_CHARACTERS_MAX],
            retry_seconds=seconds,
        )
