"""The usage role: reported usage folded into durable counters."""

import asyncio
import secrets
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from shared.clock import MachineClock, business_clock
from shared.contracts.topics import (
    USAGE_REPORTED,
    USAGE_REPORTED_PARTITIONS,
    dead_letter_topic,
)
from shared.database.catalogs import PostgresCatalogs
from shared.database.pool import open_pool
from shared.database.usage_store import PostgresUsageStore
from shared.database.usage_topic import PostgresUsageTopic
from shared.kafka import (
    dead_letter_producer,
    offset_reader,
    require_c_extensions,
    start_client,
    warm_up,
)
from shared.kafka_ending import stop_client
from shared.kafka_topic_ends import TopicEnds
from shared.settings import Settings
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import UsageMetrics, WorkerMetrics
from workers.app.foundations import beside, open_admin_port, open_producer, policy
from workers.license.rules_source import load_rules
from workers.runtime.process import settle_garbage_collector
from workers.usage.handler import UsageHandler
from workers.usage.subscriber import UsageSurroundings, usage_events
from workers.usage.topic_watch import TopicWatch

STOP_CLIENT_SECONDS = 1.0


async def run_usage_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Consume `usage.reported` until `stop` is set."""
    require_c_extensions()
    clock = MachineClock()
    registry = CollectorRegistry()
    metrics, readiness = WorkerMetrics.bound_to(registry), Readiness(clock)
    database_url, bootstrap = settings.require_database_url(), settings.require_kafka_bootstrap()
    async with AsyncExitStack() as stack:
        await open_admin_port(stack, settings, readiness, registry)
        pool = await stack.enter_async_context(open_pool(database_url))
        rules = await load_rules(PostgresCatalogs(pool), policy(settings), clock)
        dead_letters = await open_producer(stack, dead_letter_producer(bootstrap), bootstrap)
        topics = (USAGE_REPORTED, dead_letter_topic(USAGE_REPORTED))
        await warm_up(dead_letters, {settings.topic_prefix + topic: USAGE_REPORTED_PARTITIONS for topic in topics})
        topic = await _topic_watch(stack, settings, PostgresUsageTopic(pool), clock)
        store = PostgresUsageStore(database_url, generation=await topic.begin())
        stack.push_async_callback(store.close)
        handler = UsageHandler(
            store=store,
            rules=rules,
            business_clock=business_clock(settings.clock_offset_file),
            system_clock=clock,
        )
        usage = usage_events(
            handler,
            UsageSurroundings(
                bootstrap=bootstrap,
                topic_prefix=settings.topic_prefix,
                session_timeout_seconds=settings.kafka_session_timeout_seconds,
                dead_letters=dead_letters,
                ask_database=store.ping,
                readiness=readiness,
                metrics=metrics,
                usage_metrics=UsageMetrics.bound_to(registry),
                clock=clock,
                chance=secrets.SystemRandom().random,
                when_joined=settle_garbage_collector,
                generation=topic.generation,
            ),
        )
        await beside(usage.consumption.run(stop), rules.watch(), usage.gaps.run(), topic.run())


async def _topic_watch(
    stack: AsyncExitStack, settings: Settings, record: PostgresUsageTopic, clock: MachineClock
) -> TopicWatch:
    bootstrap, name = settings.require_kafka_bootstrap(), settings.topic_prefix + USAGE_REPORTED
    consumer = offset_reader(bootstrap)
    await start_client(consumer, bootstrap)
    stack.push_async_callback(stop_client, consumer, STOP_CLIENT_SECONDS)
    return TopicWatch(record=record, end=TopicEnds(consumer, name, USAGE_REPORTED_PARTITIONS).read, clock=clock)
