"""What every role opens at its start and leaves at its end: the admin port, and producers."""

import asyncio
from contextlib import AsyncExitStack

import structlog
from prometheus_client import CollectorRegistry

from shared.errors import ConfigurationError
from shared.kafka import RecordProducer, start_client
from shared.settings import Settings
from shared.telemetry.health import Readiness, ops_application, serve_ops

STOP_PRODUCER_SECONDS = 0.4

log = structlog.get_logger()


async def open_admin_port(
    stack: AsyncExitStack, settings: Settings, readiness: Readiness, registry: CollectorRegistry
) -> None:
    """Serve the admin port until `stack` closes. Raises `ConfigurationError` when it is taken."""
    host, port = settings.admin_host, settings.admin_port
    try:
        bound = await stack.enter_async_context(serve_ops(ops_application(readiness, registry), host, port))
    except OSError as error:
        raise ConfigurationError(
            f"the admin port {host}:{port} cannot be opened ({error.strerror or type(error).__name__}): "
            "set KEYWAY_ADMIN_PORT to a free one"
        ) from None
    log.info("worker.admin_port.opened", host=host, port=bound)


async def open_producer(stack: AsyncExitStack, producer: RecordProducer, bootstrap: str) -> RecordProducer:
    """Return `producer` connected until `stack` closes. Raises `UnavailableError` when no broker answers."""
    await start_client(producer, bootstrap)
    stack.push_async_callback(_stop_producer, producer)
    return producer


async def _stop_producer(producer: RecordProducer) -> None:
    """Disconnect; with the broker away nothing is waited for: what is not acknowledged will be redelivered."""
    try:
        async with asyncio.timeout(STOP_PRODUCER_SECONDS):
            await producer.stop()
    except TimeoutError:
        log.warning("worker.producer.not_flushed", timeout_seconds=STOP_PRODUCER_SECONDS)
