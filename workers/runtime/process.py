"""How a worker process lives and ends: event loop, signals, exit status."""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine

import uvloop

from shared.errors import KeywayError

GC_GENERATION_0_THRESHOLD = 50_000
"""Young objects before a collection: requests leave no cycles, and each collection stops the process."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Role = Callable[[asyncio.Event], Coroutine[None, None, None]]
"""A role's loop; it gets an event that SIGTERM and SIGINT set, and ends in order when it is set."""


def run_process(role: Role) -> None:
    """Run `role` on uvloop until it ends.

    Raises `KeywayError` when it could not start or a part of it died: one line to print, and exit status 1.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_with_signals(role))
    except BaseExceptionGroup as failures:
        reasons = _leaves(failures)
        if all(isinstance(reason, KeywayError) for reason in reasons):
            raise reasons[0] from None
        raise


async def _with_signals(role: Role) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    await role(stop)


def settle_garbage_collector() -> None:
    """Take everything built so far out of the collector's view; call once, when the process is ready."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_GENERATION_0_THRESHOLD, 20, 20)


def _leaves(failure: BaseException) -> list[BaseException]:
    if isinstance(failure, BaseExceptionGroup):
        return [leaf for inner in failure.exceptions for leaf in _leaves(inner)]
    return [failure]
