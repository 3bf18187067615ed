"""What every role's composition stands on: the admin port, started producers, the policy, tasks side by side."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack

import structlog
from prometheus_client import CollectorRegistry

from shared.domain.case import Policy
from shared.kafka import RecordProducer, start_client
from shared.kafka_ending import stop_client
from shared.settings import Settings
from shared.telemetry.health import Readiness, ops_application, serve_ops

STOP_PRODUCER_SECONDS = 0.4

log = structlog.get_logger()


async def open_admin_port(
    stack: AsyncExitStack, settings: Settings, readiness: Readiness, registry: CollectorRegistry
) -> None:
    """Serve health and metrics until the stack unwinds. Raises `ConfigurationError` for a port that is taken."""
    host, port = settings.admin_host, settings.admin_port
    bound = await stack.enter_async_context(serve_ops(ops_application(readiness, registry), host, port))
    log.info("worker.admin_port.opened", host=host, port=bound)


async def open_producer(stack: AsyncExitStack, producer: RecordProducer, bootstrap: str) -> RecordProducer:
    """Return `producer`, started; it is stopped when the stack unwinds."""
    await start_client(producer, bootstrap)
    stack.push_async_callback(_stop_producer, producer)
    return producer


async def _stop_producer(producer: RecordProducer) -> None:
    """Disconnect; with the broker away nothing is waited for: what is not acknowledged will be redelivered."""
    if not await stop_client(producer, STOP_PRODUCER_SECONDS):
        log.warning("worker.producer.not_flushed", timeout_seconds=STOP_PRODUCER_SECONDS)


def policy(settings: Settings) -> Policy:
    """Return the switches of the rules."""
    return Policy(
        nfr_to_regular_allowed=settings.nfr_to_regular_allowed,
        terminate_unknown_is_error=settings.terminate_unknown_is_error,
    )


async def beside(work: Coroutine[None, None, None], *keeping: Coroutine[None, None, None]) -> None:
    """Run `work`, and as long as it runs what keeps its surroundings fresh."""
    async with asyncio.TaskGroup() as group:
        keepers = [group.create_task(keeper) for keeper in keeping]
        await work
        for keeper in keepers:
            keeper.cancel()
