"""The provider role: orders carried out upstream, outcomes handed back as commands, both sides compared."""

import asyncio
import secrets
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from shared.clock import MachineClock
from shared.contracts.topics import (
    LICENSE_COMMANDS,
    LICENSE_COMMANDS_PARTITIONS,
    PROVIDER_REQUESTS,
    PROVIDER_REQUESTS_PARTITIONS,
    dead_letter_topic,
)
from shared.database.pool import open_pool, ping
from shared.database.provider_accounts import PostgresProviderAccounts
from shared.database.provider_comparison import PostgresOurSide
from shared.database.provider_orders import PostgresProviderOrders
from shared.database.provider_pauses import PauseTimes
from shared.database.provider_sweeps import PostgresProviderSweeps
from shared.kafka import (
    command_producer,
    dead_letter_producer,
    require_c_extensions,
    warm_up,
)
from shared.settings import Settings
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import ProviderMetrics, WorkerMetrics
from workers.app.foundations import beside, open_admin_port, open_producer
from workers.provider.announcing import KafkaAnnouncer
from workers.provider.assembly import claim_limits, order_runner, panel_client, provider_accounts, settling_rules
from workers.provider.crew import OrderCrew
from workers.provider.observing import LoggingProviderObserver
from workers.provider.runner import OrderRunner
from workers.provider.subscriber import ProviderSurroundings, provider_requests
from workers.provider.sweep_crew import SweepCrew
from workers.provider.sweeping import Sweeper, SweptAccount
from workers.runtime.process import settle_garbage_collector

PROVIDER_CONNECTIONS_MAX = 8


async def run_provider_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Carry provider orders and sweeps out, as `provider.requests` rings for them, until `stop` is set."""
    require_c_extensions()
    clock = MachineClock()
    registry = CollectorRegistry()
    metrics, readiness = WorkerMetrics.bound_to(registry), Readiness(clock)
    database_url, bootstrap = settings.require_database_url(), settings.require_kafka_bootstrap()
    chance = secrets.SystemRandom().random
    observer = LoggingProviderObserver(ProviderMetrics.bound_to(registry))
    accounts = provider_accounts(settings)
    clients = {name: panel_client(of_account, clock, observer) for name, of_account in accounts.items()}
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
        announcer = KafkaAnnouncer(producer=outcomes, topic=settings.topic_prefix + LICENSE_COMMANDS)
        registered = PostgresProviderAccounts(pool)
        await registered.enroll({name: claim_limits(each).unresolved_max for name, each in accounts.items()})
        books = {name: PostgresProviderOrders(pool, _pause_times(each)) for name, each in accounts.items()}

        def runner(name: str, of_account: Settings) -> OrderRunner:
            return order_runner(
                books[name],
                clients[name],
                announcer,
                limits=claim_limits(of_account),
                rules=settling_rules(of_account),
                provider_account=name,
                observer=observer,
                clock=clock,
                chance=chance,
            )

        carry = {name: runner(name, of_account).carry for name, of_account in accounts.items()}
        crew = OrderCrew(carry, registered.account_of, clock, chance)
        sweeper = Sweeper(
            book=PostgresProviderSweeps(pool),
            ours=PostgresOurSide(pool),
            accounts={name: SweptAccount(client=clients[name], orders=books[name]) for name in accounts},
            clock=clock,
            observer=observer,
        )
        sweeps = SweepCrew(sweeper.carry)
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
        await beside(provider_requests(crew, sweeps, surroundings).run(stop), crew.run(), sweeps.run())


def _pause_times(settings: Settings) -> PauseTimes:
    return PauseTimes(
        breaker_seconds=settings.provider_isplicense_breaker_seconds,
        back_off_seconds=settings.provider_isplicense_back_off_seconds,
        losses_seconds=settings.provider_isplicense_losses_pause_seconds,
    )
