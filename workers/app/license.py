"""The license role: commands in, decisions stored, replies and outbox rows out."""

import asyncio
import secrets
from contextlib import AsyncExitStack

import structlog
from prometheus_client import CollectorRegistry

from shared.clock import MachineClock, SystemClock, business_clock
from shared.contracts.topics import (
    LICENSE_COMMANDS,
    LICENSE_COMMANDS_PARTITIONS,
    LICENSE_REPLIES,
    LICENSE_REPLIES_PARTITIONS,
    dead_letter_topic,
)
from shared.database.catalogs import PostgresCatalogs
from shared.database.command_result_days import ensure_command_result_days
from shared.database.license_store import PostgresLicenseStore
from shared.database.outbox import PostgresOutboxMarks
from shared.database.pool import Pool, borrowed, open_pool
from shared.database.provider_accounts import PostgresProviderAccounts
from shared.database.signing_keys import PostgresSigningKeys
from shared.errors import UnavailableError
from shared.kafka import (
    dead_letter_producer,
    event_producer,
    reply_producer,
    require_c_extensions,
    warm_up,
)
from shared.security.watched_keys import load_signer
from shared.settings import Settings
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import WorkerMetrics
from workers.app.foundations import beside, open_admin_port, open_producer, policy
from workers.license.handler import LicenseHandler
from workers.license.observer import MeasuringObserver
from workers.license.publishing import FastPublisher
from workers.license.rules_source import load_rules
from workers.license.subscriber import Surroundings, license_commands
from workers.outbox import OUTBOX_PARTITIONS, OutboxSender
from workers.runtime.process import settle_garbage_collector

KEEP_DAYS_SECONDS = 3600.0
KEEP_DAYS_AGAIN_SECONDS = 10.0

log = structlog.get_logger()


async def run_license_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Consume `license.commands` until `stop` is set."""
    require_c_extensions()
    clock = MachineClock()
    registry = CollectorRegistry()
    metrics, readiness = WorkerMetrics.bound_to(registry), Readiness(clock)
    database_url, bootstrap = settings.require_database_url(), settings.require_kafka_bootstrap()
    async with AsyncExitStack() as stack:
        await open_admin_port(stack, settings, readiness, registry)
        pool = await stack.enter_async_context(open_pool(database_url))
        provider_accounts = PostgresProviderAccounts(pool)
        rules = await load_rules(PostgresCatalogs(pool), policy(settings), clock, provider_accounts.accepting)
        signer = await load_signer(settings.require_signing_keys_file(), PostgresSigningKeys(pool), clock)
        store = PostgresLicenseStore(database_url)
        stack.push_async_callback(store.close)
        replies = await open_producer(stack, reply_producer(bootstrap), bootstrap)
        dead_letters = await open_producer(stack, dead_letter_producer(bootstrap), bootstrap)
        publisher = await _open_publisher(stack, settings, metrics, clock)
        await warm_up(replies, _partition_counts(settings.topic_prefix))
        await warm_up(dead_letters, _partition_counts(settings.topic_prefix))
        handler = LicenseHandler(
            store=store,
            signer=signer,
            rules=rules,
            observer=MeasuringObserver(metrics),
            listener=publisher,
            business_clock=business_clock(settings.clock_offset_file),
            system_clock=clock,
            issuer=settings.license_issuer,
        )
        surroundings = Surroundings(
            bootstrap=bootstrap,
            topic_prefix=settings.topic_prefix,
            session_timeout_seconds=settings.kafka_session_timeout_seconds,
            replies=replies,
            dead_letters=dead_letters,
            ask_database=store.ping,
            readiness=readiness,
            metrics=metrics,
            clock=clock,
            chance=secrets.SystemRandom().random,
            when_joined=settle_garbage_collector,
        )
        consumption = license_commands(handler, surroundings)
        await beside(consumption.run(stop), rules.watch(), signer.watch(), publisher.run(), _keep_days(pool, clock))


async def _open_publisher(
    stack: AsyncExitStack, settings: Settings, metrics: WorkerMetrics, clock: SystemClock
) -> FastPublisher:
    """Return what publishes outbox rows right after their commit; at the end it marks what it published."""
    bootstrap = settings.require_kafka_bootstrap()
    marks = PostgresOutboxMarks(settings.require_database_url())
    stack.push_async_callback(marks.close)
    events = await open_producer(stack, event_producer(bootstrap), bootstrap)
    await warm_up(events, {settings.topic_prefix + topic: count for topic, count in OUTBOX_PARTITIONS.items()})
    press = OutboxSender(producer=events, topic_prefix=settings.topic_prefix)
    publisher = FastPublisher(press=press, marks=marks, clock=clock, metrics=metrics)
    stack.push_async_callback(publisher.mark)
    return publisher


def _partition_counts(prefix: str) -> dict[str, int]:
    return {
        prefix + LICENSE_COMMANDS: LICENSE_COMMANDS_PARTITIONS,
        prefix + LICENSE_REPLIES: LICENSE_REPLIES_PARTITIONS,
        prefix + dead_letter_topic(LICENSE_COMMANDS): LICENSE_COMMANDS_PARTITIONS,
    }


async def _keep_days(pool: Pool, clock: SystemClock) -> None:
    """Make the day partitions of command results ahead of time, now and every hour."""
    while True:
        try:
            async with borrowed(pool, "ensure command_result days") as connection:
                made = await ensure_command_result_days(connection, clock.now().date())
            if made:
                log.info("worker.command_result_days.made", days=made)
            await clock.sleep(KEEP_DAYS_SECONDS)
        except UnavailableError as error:
            log.warning("worker.command_result_days.not_made", detail=error)
            await clock.sleep(KEEP_DAYS_AGAIN_SECONDS)
