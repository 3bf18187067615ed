"""The relay role: whatever the fast path left in the outbox."""

import asyncio
import secrets
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from shared.clock import MachineClock
from shared.database.outbox import PostgresOutbox
from shared.kafka import (
    relay_producer,
    require_c_extensions,
)
from shared.settings import Settings
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import RelayMetrics
from workers.app.foundations import open_admin_port
from workers.relay.press import RenewedPress
from workers.relay.relay import Relay

STALE_SECONDS = 5.0


async def run_relay(settings: Settings, stop: asyncio.Event) -> None:
    """Publish what is left in the outbox until `stop` is set."""
    require_c_extensions()
    clock = MachineClock()
    registry = CollectorRegistry()
    metrics, readiness = RelayMetrics.bound_to(registry), Readiness(clock)
    database_url, bootstrap = settings.require_database_url(), settings.require_kafka_bootstrap()
    async with AsyncExitStack() as stack:
        await open_admin_port(stack, settings, readiness, registry)
        outbox = PostgresOutbox(database_url)
        stack.push_async_callback(outbox.close)
        press = RenewedPress(
            new_producer=lambda: relay_producer(bootstrap), bootstrap=bootstrap, topic_prefix=settings.topic_prefix
        )
        stack.push_async_callback(press.close)
        relay = Relay(
            outbox=outbox,
            press=press,
            clock=clock,
            chance=secrets.SystemRandom().random,
            metrics=metrics,
            probe=readiness.probe("relay", stale_after_seconds=STALE_SECONDS),
        )
        await relay.run(stop)
