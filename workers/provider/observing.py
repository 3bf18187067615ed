"""What the provider role tells of itself: a log line per moved order, counts of the rest, and nothing secret."""

import structlog

from shared.domain.provider_order import OrderState
from shared.domain.provider_record import ProviderOrder
from shared.domain.provider_sweep import SweepClaim
from shared.telemetry.metrics import ProviderMetrics

DETAIL_CHARACTERS_MAX = 200

log = structlog.get_logger()


class LoggingProviderObserver:
    """All observers of the role: log lines, and counts where there are metrics."""

    def __init__(self, metrics: ProviderMetrics | None = None) -> None:
        self._metrics = metrics

    def call_done(self, function: str, result: str, seconds: float) -> None:
        """One HTTP exchange ended."""
        if self._metrics is not None:
            self._metrics.call_seconds["http_error" if result.isdecimal() else result].observe(seconds)
        log.debug("provider.call.done", name=function, outcome=result, seconds=round(seconds, 3))

    def hostile_answer(self, function: str, reason: str) -> None:
        """An answer was refused as an attack on its reader."""
        if self._metrics is not None:
            self._metrics.hostile_answers.inc()
        log.warning("provider.answer.hostile", name=function, reason=reason[:DETAIL_CHARACTERS_MAX])

    def order_moved(self, order: ProviderOrder, state: OrderState | None, why: str) -> None:
        """An order moved, or did not (None)."""
        if self._metrics is not None and state is not None:
            self._metrics.moved[state].inc()
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
        if self._metrics is not None:
            self._metrics.deferred.inc()
        log.debug(
            "provider.order.waits",
            license_id=order.license_id,
            event_id=order.order_id,
            step=order.kind,
            state=order.state,
            reason=why[:DETAIL_CHARACTERS_MAX],
            retry_seconds=seconds,
        )

    def sweep_done(self, claim: SweepClaim, *, differences: int, told: int, closed: int, seconds: float) -> None:
        """A sweep ended with a result."""
        if self._metrics is not None:
            self._metrics.sweeps["done"].inc()
            self._metrics.findings_told.inc(told)
        write = log.warning if told else log.info
        write(
            "provider.sweep.done",
            account=claim.provider_account,
            event_id=claim.sweep_id,
            count=differences,
            detail=f"{told} findings told, {closed} closed",
            seconds=round(seconds, 3),
            attempt=claim.attempt,
        )

    def sweep_failed(self, claim: SweepClaim, why: str) -> None:
        """A sweep ended without a result."""
        if self._metrics is not None:
            self._metrics.sweeps["failed"].inc()
        log.warning(
            "provider.sweep.failed",
            account=claim.provider_account,
            event_id=claim.sweep_id,
            reason=why[:DETAIL_CHARACTERS_MAX],
            attempt=claim.attempt,
        )
