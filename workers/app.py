"""Composition root of the workers: one builder per role, settings -> store, signer, rules, clocks -> the loop.

Everything is made here and by hand, from the bottom up; what was opened is closed in reverse, the offsets last but one
and the admin port last, so that a stopping worker still tells how it is.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack

import structlog
from prometheus_client import CollectorRegistry

from shared.clock import MachineClock, SystemClock, business_clock
from shared.contracts.topics import (
    LICENSE_COMMANDS,
    LICENSE_COMMANDS_PARTITIONS,
    LICENSE_INTAKE,
    LICENSE_INTAKE_PARTITIONS,
    LICENSE_REPLIES,
    LICENSE_REPLIES_PARTITIONS,
    PROVIDER_REQUESTS,
    PROVIDER_REQUESTS_PARTITIONS,
    USAGE_REPORTED,
    USAGE_REPORTED_PARTITIONS,
    dead_letter_topic,
)
from shared.database.catalogs import PostgresCatalogs
from shared.database.command_result_days import ensure_command_result_days
from shared.database.intake_requests import PostgresIntakeRequests
from shared.database.license_store import PostgresLicenseStore
from shared.database.outbox import PostgresOutbox, PostgresOutboxMarks
from shared.database.pool import Pool, borrowed, open_pool, ping
from shared.database.provider_orders import PostgresProviderOrders
from shared.database.provider_pauses import PauseTimes
from shared.database.schedule import PostgresSchedule
from shared.database.signing_keys import PostgresSigningKeys
from shared.database.usage_store import PostgresUsageStore
from shared.domain.case import Policy
from shared.errors import ConfigurationError, UnavailableError
from shared.kafka import (
    command_producer,
    dead_letter_producer,
    event_producer,
    relay_producer,
    reply_producer,
    require_c_extensions,
    warm_up,
)
from shared.security.watched_keys import load_signer
from shared.settings import Settings
from shared.telemetry.health import Readiness
from shared.telemetry.logging import configure_logging
from shared.telemetry.metrics import ProviderMetrics, RelayMetrics, SchedulerMetrics, UsageMetrics, WorkerMetrics
from workers.intake.assembly import IntakeParts, license_intake
from workers.license.handler import LicenseHandler
from workers.license.observer import MeasuringObserver
from workers.license.publishing import FastPublisher
from workers.license.rules_source import load_rules
from workers.license.subscriber import Surroundings, license_commands
from workers.outbox import OUTBOX_PARTITIONS, OutboxSender
from workers.provider.announcing import KafkaAnnouncer
from workers.provider.assembly import PROVIDER_ACCOUNT, claim_limits, order_runner, panel_client, settling_rules
from workers.provider.crew import OrderCrew
from workers.provider.observing import LoggingProviderObserver
from workers.provider.subscriber import ProviderSurroundings, provider_requests
from workers.relay.press import RenewedPress
from workers.relay.relay import Relay
from workers.runtime.opening import open_admin_port, open_producer
from workers.runtime.process import run_process, settle_garbage_collector
from workers.scheduler.post import KafkaPost
from workers.scheduler.scheduler import Scheduler
from workers.usage.handler import UsageHandler
from workers.usage.subscriber import UsageSurroundings, usage_events

KEEP_DAYS_SECONDS = 3600.0
STALE_SECONDS = 5.0
PROVIDER_CONNECTIONS_MAX = 8
KEEP_DAYS_AGAIN_SECONDS = 10.0

log = structlog.get_logger()


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
        orders = PostgresProviderOrders(pool)

        async def provider_accepts() -> bool:
            return await orders.accepts(PROVIDER_ACCOUNT, unresolved_max=settings.provider_isplicense_unresolved_max)

        rules = await load_rules(PostgresCatalogs(pool), _policy(settings), clock, provider_accepts)
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
        await _beside(consumption.run(stop), rules.watch(), signer.watch(), publisher.run(), _keep_days(pool, clock))


async def run_provider_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Carry provider orders out, as `provider.requests` rings for them, until `stop` is set."""
    require_c_extensions()
    clock = MachineClock()
    registry = CollectorRegistry()
    metrics, readiness = WorkerMetrics.bound_to(registry), Readiness(clock)
    database_url, bootstrap = settings.require_database_url(), settings.require_kafka_bootstrap()
    chance = secrets.SystemRandom().random
    observer = LoggingProviderObserver(ProviderMetrics.bound_to(registry))
    client = panel_client(settings, clock, observer)
    async with AsyncExitStack() as stack:
        await open_admin_port(stack, settings, readiness, registry)
        pool = await stack.enter_async_context(open_pool(database_url, connections_max=PROVIDER_CONNECTIONS_MAX))
        outcomes = await open_producer(stack, command_producer(bootstrap), bootstrap)
        dead_letters = await open_producer(stack, dead_letter_producer(bootstrap), bootstrap)
        await warm_up(outcomes, {settings.topic_prefix + LICENSE_COMMANDS: LICENSE_COMMANDS_PARTITIONS})
        await warm_up(
            dead_letters,
            {settings.topic_prefix + dead_letter_topic(PROVIDER_REQUESTS): PROVIDER_REQUESTS_PARTITIONS},
        )
        runner = order_runner(
            PostgresProviderOrders(pool, _pause_times(settings)),
            client,
            KafkaAnnouncer(producer=outcomes, topic=settings.topic_prefix + LICENSE_COMMANDS),
            limits=claim_limits(settings),
            rules=settling_rules(settings),
            clock=clock,
            chance=chance,
            observer=observer,
        )
        crew = OrderCrew(runner.carry, clock, chance)
        surroundings = ProviderSurroundings(
            bootstrap=bootstrap,
            topic_prefix=settings.topic_prefix,
            session_timeout_seconds=settings.kafka_session_timeout_seconds,
            outcomes=outcomes,
            dead_letters=dead_letters,
            ask_database=lambda: ping(pool),
            readiness=readiness,
            metrics=metrics,
            clock=clock,
            chance=chance,
            when_joined=settle_garbage_collector,
        )
        await _beside(provider_requests(crew, surroundings).run(stop), crew.run())


def _pause_times(settings: Settings) -> PauseTimes:
    return PauseTimes(
        breaker_seconds=settings.provider_isplicense_breaker_seconds,
        back_off_seconds=settings.provider_isplicense_back_off_seconds,
        losses_seconds=settings.provider_isplicense_losses_pause_seconds,
    )


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
        rules = await load_rules(PostgresCatalogs(pool), _policy(settings), clock)
        store = PostgresUsageStore(database_url)
        stack.push_async_callback(store.close)
        dead_letters = await open_producer(stack, dead_letter_producer(bootstrap), bootstrap)
        topics = (USAGE_REPORTED, dead_letter_topic(USAGE_REPORTED))
        await warm_up(dead_letters, {settings.topic_prefix + topic: USAGE_REPORTED_PARTITIONS for topic in topics})
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
            ),
        )
        await _beside(usage.consumption.run(stop), rules.watch(), usage.gaps.run())


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
        rules = await load_rules(PostgresCatalogs(pool), _policy(settings), clock)
        schedule = PostgresSchedule(database_url)
        stack.push_async_callback(schedule.close)
        producer = await open_producer(stack, command_producer(bootstrap), bootstrap)
        counts = {LICENSE_COMMANDS: LICENSE_COMMANDS_PARTITIONS, PROVIDER_REQUESTS: PROVIDER_REQUESTS_PARTITIONS}
        await warm_up(producer, {settings.topic_prefix + topic: count for topic, count in counts.items()})
        scheduler = Scheduler(
            schedule=schedule,
            orders=PostgresProviderOrders(pool),
            post=KafkaPost(producer=producer, topic_prefix=settings.topic_prefix, clock=clock),
            catalog=lambda: rules.current().catalog,
            business_clock=business_clock(settings.clock_offset_file),
            clock=clock,
            chance=secrets.SystemRandom().random,
            metrics=metrics,
            probe=readiness.probe("scheduler", stale_after_seconds=STALE_SECONDS),
        )
        await _beside(scheduler.run(stop), rules.watch())


async def run_intake_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Consume `license.intake` until `stop` is set."""
    require_c_extensions()
    clock = MachineClock()
    registry = CollectorRegistry()
    readiness = Readiness(clock)
    bootstrap, prefix = settings.require_kafka_bootstrap(), settings.topic_prefix
    async with AsyncExitStack() as stack:
        await open_admin_port(stack, settings, readiness, registry)
        requests = PostgresIntakeRequests(settings.require_database_url())
        stack.push_async_callback(requests.close)
        await requests.ping()
        commands = await open_producer(stack, command_producer(bootstrap), bootstrap)
        dead_letters = await open_producer(stack, dead_letter_producer(bootstrap), bootstrap)
        await warm_up(commands, {prefix + LICENSE_COMMANDS: LICENSE_COMMANDS_PARTITIONS})
        await warm_up(dead_letters, {prefix + dead_letter_topic(LICENSE_INTAKE): LICENSE_INTAKE_PARTITIONS})
        parts = IntakeParts(
            requests=requests,
            commands=commands,
            dead_letters=dead_letters,
            business_clock=business_clock(settings.clock_offset_file),
            clock=clock,
            readiness=readiness,
            registry=registry,
            when_joined=settle_garbage_collector,
        )
        await license_intake(parts, settings).run(stop)


ROLES: Mapping[str, Callable[[Settings, asyncio.Event], Coroutine[None, None, None]]] = {
    "license": run_license_worker,
    "provider": run_provider_worker,
    "usage": run_usage_worker,
    "relay": run_relay,
    "scheduler": run_scheduler,
    "intake": run_intake_worker,
}


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


def _policy(settings: Settings) -> Policy:
    return Policy(
        nfr_to_regular_allowed=settings.nfr_to_regular_allowed,
        terminate_unknown_is_error=settings.terminate_unknown_is_error,
    )


def _partition_counts(prefix: str) -> dict[str, int]:
    return {
        prefix + LICENSE_COMMANDS: LICENSE_COMMANDS_PARTITIONS,
        prefix + LICENSE_REPLIES: LICENSE_REPLIES_PARTITIONS,
        prefix + dead_letter_topic(LICENSE_COMMANDS): LICENSE_COMMANDS_PARTITIONS,
    }


async def _beside(work: Coroutine[None, None, None], *keeping: Coroutine[None, None, None]) -> None:
    """Run `work`, and as long as it runs what keeps its surroundings fresh."""
    async with asyncio.TaskGroup() as group:
        keepers = [group.create_task(keeper) for keeper in keeping]
        await work
        for keeper in keepers:
            keeper.cancel()


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
