"""The relay's loop: lead, publish what is left over, mark it, count it.

Nothing is remembered between rounds: after any failure the next round reads the table again, and what was sent without
being marked is sent once more. The license worker publishes most rows itself right after its COMMIT and marks them
within `GRACE_SECONDS`; only what is older is taken here.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from shared.clock import SystemClock
from shared.domain.outgoing import in_order
from shared.errors import UnavailableError
from shared.telemetry.health import Probe
from shared.telemetry.metrics import RelayMetrics
from workers.relay.ports import Outbox, Press
from workers.runtime.leading import Rounds

GRACE_SECONDS = 2.0
"""Four times the interval in which those who publish at once mark their rows, and time for slow ones."""
ROWS_MAX = 500
LOOK_SECONDS = 0.25
STAND_BY_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class Relay:
    """The active relay, or one that stands by."""

    outbox: Outbox
    press: Press
    clock: SystemClock
    chance: Callable[[], float]
    metrics: RelayMetrics
    probe: Probe
    grace_seconds: float = GRACE_SECONDS

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set. Never raises for a machine that is down."""
        rounds = Rounds(
            lead=self.outbox.lead,
            work=self._round,
            stand_by_seconds=STAND_BY_SECONDS,
            clock=self.clock,
            chance=self.chance,
            active=self.metrics.active,
            failed=self.metrics.failed,
            probe=self.probe,
        )
        await rounds.run(stop)

    async def _round(self) -> float:
        """Publish and count one portion; no pause while there is probably more. Raises `UnavailableError`."""
        now = self.clock.now()
        records, published = await self.outbox.due(now - timedelta(seconds=self.grace_seconds), ROWS_MAX)
        known = 0
        if records:
            sent = await self.press.send(in_order(records, published))
            known = len(sent.acknowledged)
            if sent.acknowledged:
                await self.outbox.mark(sent.acknowledged, self.clock.now())
                self.metrics.published.inc(known)
            if sent.failure:
                raise UnavailableError(f"{len(records) - known} outbox rows were not published: {sent.failure}")
        counted = await self.outbox.count(ROWS_MAX)
        oldest = await self.outbox.oldest()
        self.metrics.oldest_seconds.set(0 if oldest is None else max(0.0, (now - oldest).total_seconds()))
        busy = (len(records) == ROWS_MAX and known > 0) or counted == ROWS_MAX
        return 0 if busy else LOOK_SECONDS
