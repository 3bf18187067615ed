"""Work on a batch that is tried again in place until the machines answer, while heartbeats go on."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from shared.clock import SystemClock
from shared.errors import ConflictError, UnavailableError
from shared.telemetry.metrics import RetriedStep, WorkerMetrics
from workers.runtime.backoff import delay_seconds

LOG_EVERY_ATTEMPTS = 10

log = structlog.get_logger()

Outcome = TypeVar("Outcome")


async def until_done(
    action: Callable[[], Awaitable[Outcome]],
    is_stale: Callable[[], bool],
    *,
    count: int,
    clock: SystemClock,
    chance: Callable[[], float],
    metrics: WorkerMetrics,
) -> Outcome | None:
    """Return what `action` returns; None when its `count` records were taken away: their new owner does the work.

    Raises what `action` raises, except `UnavailableError` and `ConflictError`: after these it is tried again.
    """
    attempt = 0
    while True:
        try:
            return await action()
        except (UnavailableError, ConflictError) as error:
            attempt += 1
            metrics.retries[RetriedStep.HANDLE].inc()
            if attempt % LOG_EVERY_ATTEMPTS == 1:
                log.warning("worker.batch.failed", detail=error, attempt=attempt, count=count)
        if is_stale():
            return None
        await clock.sleep(delay_seconds(attempt, chance()))
