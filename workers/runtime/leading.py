"""The life of a role of which one process is active: lead or stand by, round after round, through outages."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from prometheus_client import Counter, Gauge

from shared.clock import SystemClock
from shared.errors import ConflictError, StoreRefusedError, UnavailableError
from shared.telemetry.health import Probe
from workers.runtime.backoff import delay_seconds

LOG_EVERY_ATTEMPTS = 10

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """What a role does while it leads. Nothing is kept between rounds: each begins from the stored state."""

    lead: Callable[[], Awaitable[bool]]
    """Become the active process, or learn that another one is."""
    work: Callable[[], Awaitable[float]]
    """One round of the active process; returns after how many seconds the next one shall begin."""
    stand_by_seconds: float
    """So often a process that stands by asks again."""
    clock: SystemClock
    chance: Callable[[], float]
    active: Gauge
    failed: Counter
    probe: Probe

    async def run(self, stop: asyncio.Event) -> None:
        """Work or stand by until `stop` is set. Never raises for a machine that is down."""
        failures = 0
        leads = False
        while not stop.is_set():
            try:
                led, leads = leads, await self.lead()
                if leads and not led:
                    log.info("worker.leads")
                pause_seconds = await self.work() if leads else self.stand_by_seconds
            except (UnavailableError, ConflictError, StoreRefusedError) as error:
                leads = False
                failures += 1
                self.failed.inc()
                if failures % LOG_EVERY_ATTEMPTS == 1:
                    log.warning("worker.round.failed", detail=error, attempt=failures)
                await self.clock.sleep(delay_seconds(failures, self.chance()))
                continue
            finally:
                self.active.set(leads)
            failures = 0
            self.probe.succeeded("active" if leads else "standing by")
            if pause_seconds:
                await self.clock.sleep(pause_seconds)
