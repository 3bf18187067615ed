"""What a route leaves behind per request: one count, one duration, and a log line when the answer is no success.

Successes leave no line: at thousands a second they would cost more than the work. Failures have a bound per second, so
that an outage does not drown the log; what was left out is counted and told.
"""

import structlog
from prometheus_client import Counter

from shared.clock import SystemClock
from shared.telemetry.metrics import GatewayMetrics

LINES_PER_SECOND_MAX = 100
FIRST_FAILURE_STATUS = 400
FIRST_SERVER_FAILURE_STATUS = 500

log = structlog.get_logger()


class Journal:
    """Counts and logs the answers of one part of the public port."""

    __slots__ = ("_children", "_clock", "_lines", "_metrics", "_second", "_seconds", "_suppressed")

    def __init__(self, metrics: GatewayMetrics, clock: SystemClock, *, route: str) -> None:
        """`route` names the part in `keyway_gateway_request_seconds`."""
        self._metrics = metrics
        self._clock = clock
        self._seconds = metrics.request_seconds.labels(route)
        self._children: dict[tuple[str, int], Counter] = {}
        self._second = 0
        self._lines = 0
        self._suppressed = 0

    def note(
        self, action: str, status: int, seconds: float, *, account: str, reason: str, correlation_id: object = None
    ) -> None:
        """Note an answer. `action` and `status` are from fixed sets; `reason` is empty or a fixed word."""
        child = self._children.get((action, status))
        if child is None:
            child = self._children[(action, status)] = self._metrics.requests.labels(action, str(status))
        child.inc()
        self._seconds.observe(seconds)
        if status < FIRST_FAILURE_STATUS or not self._has_room():
            return
        write = log.warning if status >= FIRST_SERVER_FAILURE_STATUS else log.info
        write(
            "gateway.request.failed",
            route=action,
            status=status,
            duration_ms=round(seconds * 1000, 1),
            account=account,
            reason=reason,
            correlation_id=correlation_id,
        )

    def _has_room(self) -> bool:
        second = int(self._clock.monotonic())
        if second != self._second:
            if self._suppressed:
                log.warning("gateway.request.lines_left_out", count=self._suppressed)
            self._second, self._lines, self._suppressed = second, 0, 0
        self._lines += 1
        if self._lines > LINES_PER_SECOND_MAX:
            self._suppressed += 1
            return False
        return True
