"""Composition root of the workers: one module per role, settings -> stores, clients, clocks -> the loop.

Everything is made here and by hand, from the bottom up; what was opened is closed in reverse, the offsets last but one
and the admin port last, so that a stopping worker still tells how it is.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping

from shared.errors import ConfigurationError
from shared.settings import Settings
from shared.telemetry.logging import configure_logging
from workers.app.intake import run_intake_worker
from workers.app.license import run_license_worker
from workers.app.provider import run_provider_worker
from workers.app.relay import run_relay
from workers.app.scheduler import run_scheduler
from workers.app.usage import run_usage_worker
from workers.runtime.process import run_process

ROLES: Mapping[str, Callable[[Settings, asyncio.Event], Coroutine[None, None, None]]] = {
    "license": run_license_worker,
    "provider": run_provider_worker,
    "usage": run_usage_worker,
    "intake": run_intake_worker,
    "relay": run_relay,
    "scheduler": run_scheduler,
}


def run_worker(role: str, settings: Settings) -> None:
    """Run one worker process of `role` until SIGTERM or SIGINT.

    Raises `ConfigurationError` for a role or setting that is wrong, and `UnavailableError` when a machine does not
    answer at the start: one line to print and exit status 1.
    """
    builder = ROLES.get(role)
    if builder is None:
        raise ConfigurationError(f"there is no worker role {role!r}; there are: {', '.join(ROLES)}")
    configure_logging(settings.log_level, f"worker-{role}")
    run_process(lambda stop: builder(settings, stop))
