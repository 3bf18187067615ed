"""Composition root of the workers: one module per role, settings -> stores, clients, clocks -> the loop.

Everything is made here and by hand, from the bottom up; what was opened is closed in reverse, the offsets last but one
and the admin port last, so that a stopping worker still tells how it is. A role's module is imported only in its own
process: what the others need would cost each start a good part of a second.
"""

import asyncio
import importlib
from collections.abc import Callable, Coroutine, Mapping
from typing import cast

from shared.errors import ConfigurationError
from shared.settings import Settings
from shared.telemetry.logging import configure_logging
from workers.runtime.process import run_process

Builder = Callable[[Settings, asyncio.Event], Coroutine[None, None, None]]

ROLES: Mapping[str, str] = {
    "license": "workers.app.license:run_license_worker",
    "provider": "workers.app.provider:run_provider_worker",
    "usage": "workers.app.usage:run_usage_worker",
    "intake": "workers.app.intake:run_intake_worker",
    "relay": "workers.app.relay:run_relay",
    "scheduler": "workers.app.scheduler:run_scheduler",
}
"""Role -> `module:function` of type `Builder`."""


def run_worker(role: str, settings: Settings) -> None:
    """Run one worker process of `role` until SIGTERM or SIGINT.

    Raises `ConfigurationError` for a role or setting that is wrong, and `UnavailableError` when a machine does not
    answer at the start: one line to print and exit status 1.
    """
    if role not in ROLES:
        raise ConfigurationError(f"there is no worker role {role!r}; there are: {', '.join(ROLES)}")
    builder = builder_of(role)
    configure_logging(settings.log_level, f"worker-{role}")
    run_process(lambda stop: builder(settings, stop))


def builder_of(role: str) -> Builder:
    """Return the function that runs a role."""
    module, _, function = ROLES[role].partition(":")
    return cast("Builder", getattr(importlib.import_module(module), function))
