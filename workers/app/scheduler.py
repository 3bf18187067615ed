"""The scheduler role: rings for what is due; one active at a time."""

import asyncio
import secrets
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from shared.clock import MachineClock, business_clock
from shared.contracts.topics import (
    LICENSE_COMMANDS,
    LICENSE_COMMANDS_PARTITIONS,
    PROVIDER_REQUESTS,
    PROVIDER_REQUESTS_PARTITIONS,
)
from shared.database.catalogs import PostgresCatalogs
from shared.database.pool import open_pool
from shared.database.provider_orders import PostgresProviderOrders
from shared.database.provider_overdue import PostgresOverdueOrders
from shared.database.provider_sweeps import PostgresProviderSweeps
from shared.database.schedule import PostgresSchedule
from shared.kafka import (
    command_producer,
    require_c_extensions,
    warm_up,
)
from shared.settings import Settings
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import SchedulerMetrics
from workers.app.foundations import beside, open_admin_port, open_producer, policy
from workers.license.rules_source import load_rules
from workers.scheduler.post import KafkaPost
from workers.scheduler.scheduler import Scheduler

STALE_SECONDS = 5.0


async def run_scheduler(settings: Settings, stop: asyncio.Event) -> None:
    """Ring and ask for what is due until `stop` is set."""
    require_c_extensions()
    clock = MachineClock()
    registry = CollectorRegistry()
    metrics, readiness = SchedulerMetrics.bound_to(registry), Readiness(clock)
    database_url, bootstrap = settings.require_database_url(), settings.require_kafka_bootstrap()
    async with AsyncExitStack() as stack:
        await open_admin_port(stack, settings, readiness, registry)
        pool = await stack.enter_async_context(open_pool(database_url, connections_max=2))
        rules = await load_rules(PostgresCatalogs(pool), policy(settings), clock)
        schedule = PostgresSchedule(database_url)
        stack.push_async_callback(schedule.close)
        producer = await open_producer(stack, command_producer(bootstrap), bootstrap)
        counts = {LICENSE_COMMANDS: LICENSE_COMMANDS_PARTITIONS, PROVIDER_REQUESTS: PROVIDER_REQUESTS_PARTITIONS}
        await warm_up(producer, {settings.topic_prefix + topic: count for topic, count in counts.items()})
        scheduler = Scheduler(
            schedule=schedule,
            orders=PostgresProviderOrders(pool),
            overdue=PostgresOverdueOrders(pool),
            sweeps=PostgresProviderSweeps(pool),
            patrol_seconds=settings.provider_drift_patrol_seconds,
            post=KafkaPost(producer=producer, topic_prefix=settings.topic_prefix, clock=clock),
            catalog=lambda: rules.current().catalog,
            business_clock=business_clock(settings.clock_offset_file),
            clock=clock,
            chance=secrets.SystemRandom().random,
            metrics=metrics,
            probe=readiness.probe("scheduler", stale_after_seconds=STALE_SECONDS),
        )
        await beside(scheduler.run(stop), rules.watch())
