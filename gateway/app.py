"""Composition root of the gateway: every lifetime in order, from the first connection to the last answer.

The public port opens last, when a canary has come back through this process's own reply partition and PostgreSQL has
answered; it closes first. `run` is the whole life of the process.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
import uvloop
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry

from gateway.auth import Doorkeeper
from gateway.circuit import Circuit, Machine
from gateway.command_bus import CommandBus
from gateway.command_publisher import VALUE_BYTES_MAX, CommandPublisher
from gateway.key_directory import NumberBlocks, RememberingKeyDirectory
from gateway.problems import Refused
from gateway.reply_inbox import SWEEP_SECONDS, ReplyInbox
from gateway.reply_listener import ReplyListener
from gateway.routes.contract import add_contract_pages, load_document
from gateway.routes.isv import IsvEndpoint
from gateway.routes.journal import Journal
from gateway.routes.jwks import JwksEndpoint
from gateway.routes.partner_keys import PartnerEndpoint
from gateway.routes.public import public_application
from gateway.routes.whole_response import DateLine
from gateway.server import PublicServer, tls_context
from gateway.usage_gate import UsageBus, UsageGate
from gateway.watch import ANSWER_SECONDS, Watch
from shared.clock import MachineClock, SystemClock, business_clock
from shared.contracts.envelope import new_id
from shared.contracts.topics import (
    LICENSE_COMMANDS,
    LICENSE_COMMANDS_PARTITIONS,
    LICENSE_REPLIES,
    LICENSE_REPLIES_PARTITIONS,
    USAGE_REPORTED,
    USAGE_REPORTED_PARTITIONS,
)
from shared.database.accounts import PostgresAccounts
from shared.database.key_queries import PostgresKeyNumbers, PostgresKeyQueries
from shared.database.ping import DatabasePing
from shared.database.pool import Pool, open_pool
from shared.database.reader import open_reading_pool
from shared.database.reply_slots import LEASE_SECONDS, PostgresReplySlots
from shared.database.signing_keys import PostgresSigningKeys
from shared.database.usage_topic import PostgresUsageTopic
from shared.errors import ConfigurationError, KeywayError, UnavailableError
from shared.kafka import (
    command_producer,
    is_sending,
    offset_reader,
    reply_consumer,
    require_c_extensions,
    start_client,
    warm_up,
)
from shared.kafka_ending import stop_client
from shared.kafka_topic_ends import TopicEnds
from shared.security.accounts import Role
from shared.security.credentials import Authenticator, open_authenticator
from shared.settings import Settings
from shared.telemetry.health import Readiness, ops_application, serve_ops
from shared.telemetry.logging import configure_logging
from shared.telemetry.metrics import GatewayMetrics

FAILED = 1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PROBE_STALE_SECONDS = 3.0
CONNECTIONS_BESIDE_INFLIGHT = 1024
ANSWER_AFTER_BUDGET_SECONDS = 1.0
FIRST_CANARY_SECONDS = 10.0
LEASE_RENEWALS = 3
"""Renewals per lease, so that two may fail."""
GARBAGE_THRESHOLD = 50_000
"""Young objects before the collector looks: requests leave no cycles, so looking often finds nothing."""
STOP_CLIENT_SECONDS = 3.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What every part of the gateway shares."""

    settings: Settings
    clock: SystemClock
    registry: CollectorRegistry
    metrics: GatewayMetrics
    readiness: Readiness
    circuit: Circuit

    @classmethod
    def of(cls, settings: Settings) -> "Core":
        """Make the parts that need neither network nor loop."""
        clock = MachineClock()
        registry = CollectorRegistry()
        return cls(
            settings=settings,
            clock=clock,
            registry=registry,
            metrics=GatewayMetrics.bound_to(registry),
            readiness=Readiness(clock),
            circuit=Circuit(partitions=LICENSE_COMMANDS_PARTITIONS, budget_seconds=settings.reply_budget_seconds),
        )

    def watch(self, machine: Machine, name: str, ask: Callable[[], Awaitable[object]]) -> Watch:
        """Return a watch over `machine`, shown as `name` in `/readyz`."""
        probe = self.readiness.probe(name, stale_after_seconds=PROBE_STALE_SECONDS)
        return Watch(machine, ask=ask, circuit=self.circuit, probe=probe, clock=self.clock)


def main(settings: Settings) -> int:
    """Run a gateway until SIGTERM or SIGINT; returns the exit status. A second signal ends the process at once."""
    configure_logging(settings.log_level, "gateway")
    status = 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_until_signalled(settings))
        except* KeywayError as errors:
            sys.stderr.write(f"keyway gateway: {_first(errors)}\n")
            status = FAILED
    return status


async def _until_signalled(settings: Settings) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def end() -> None:
        stop.set()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # the next one finds nobody who waits

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, end)
    await run(settings, stop)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set and the requests in flight then are answered.

    Raises `KeywayError`, alone or in a group, when the process cannot start or cannot go on; its text is one line.
    """
    require_c_extensions()
    core = Core.of(settings)
    serving = core.readiness.probe("serving", stale_after_seconds=float("inf"))
    async with AsyncExitStack() as stack:
        operations = ops_application(core.readiness, core.registry)
        add_contract_pages(operations, load_document())
        await stack.enter_async_context(serve_ops(operations, settings.admin_host, settings.admin_port))
        pool = await stack.enter_async_context(open_pool(settings.require_database_url()))
        ping = DatabasePing(settings.require_database_url(), answer_seconds=ANSWER_SECONDS)
        stack.push_async_callback(ping.close)
        slot = await stack.enter_async_context(_reply_slot(PostgresReplySlots(pool), core.clock))
        bus = await stack.enter_async_context(open_bus(core, slot))
        await stack.enter_async_context(_watching(core.watch(Machine.DATABASE, "postgresql", ping.ask)))
        gate = await stack.enter_async_context(_usage_gate(core, pool))
        port = await stack.enter_async_context(_public_port(core, pool, bus, gate))
        serving.succeeded()
        _settle_garbage()
        log.info("gateway.started", host=settings.http_host, port=port, reply_partition=slot)
        await stop.wait()
        serving.failed("stopping")
        log.info("gateway.stopping")
    log.info("gateway.stopped")


@asynccontextmanager
async def open_bus(core: Core, reply_partition: int) -> AsyncIterator[CommandBus]:
    """Open the way to the license workers and back, proven by a canary; it stays watched while the block runs.

    Raises `UnavailableError` when Kafka does not answer, `ConfigurationError` when the topics are not as declared.
    """
    bootstrap, prefix = core.settings.require_kafka_bootstrap(), core.settings.topic_prefix
    commands, replies = prefix + LICENSE_COMMANDS, prefix + LICENSE_REPLIES
    async with AsyncExitStack() as stack:
        producer = command_producer(bootstrap)
        await start_client(producer, bootstrap)
        stack.push_async_callback(stop_client, producer, STOP_CLIENT_SECONDS)
        await warm_up(producer, {commands: LICENSE_COMMANDS_PARTITIONS, replies: LICENSE_REPLIES_PARTITIONS})
        consumer = reply_consumer(bootstrap)
        consumer.assign([TopicPartition(replies, reply_partition)])
        await start_client(consumer, bootstrap)
        stack.push_async_callback(stop_client, consumer, STOP_CLIENT_SECONDS)

        inbox = ReplyInbox(capacity=core.settings.inflight_max, budget_seconds=core.settings.reply_budget_seconds)
        publisher = CommandPublisher(producer, commands, partitions=LICENSE_COMMANDS_PARTITIONS)
        bus = CommandBus(
            sink=publisher,
            inbox=inbox,
            circuit=core.circuit,
            clock=core.clock,
            metrics=core.metrics,
            partitions=LICENSE_COMMANDS_PARTITIONS,
            reply_partition=reply_partition,
            record_bytes_max=VALUE_BYTES_MAX,
        )
        listener = ReplyListener(
            consumer=consumer,
            producer=producer,
            bus=bus,
            topic=replies,
            partition=reply_partition,
            clock=core.clock,
            metrics=core.metrics,
        )
        await listener.resolve_position()

        async def broker_answers() -> None:
            if not is_sending(producer):
                raise ConfigurationError("the Kafka producer has died: the process must start again")
            await listener.canary(timeout_seconds=ANSWER_SECONDS)

        await stack.enter_async_context(
            _in_background(publisher.run(bus.give_up), listener.run(), _sweeping(bus, core.clock))
        )
        await _first_canary(listener)
        await stack.enter_async_context(_watching(core.watch(Machine.BROKER, "kafka", broker_answers)))
        yield bus


@asynccontextmanager
async def _usage_gate(core: Core, pool: Pool) -> AsyncIterator[UsageGate]:
    """Open the gate for questions about usage; it is served while the block runs."""
    bootstrap = core.settings.require_kafka_bootstrap()
    async with AsyncExitStack() as stack:
        consumer = offset_reader(bootstrap)
        await start_client(consumer, bootstrap)
        stack.push_async_callback(stop_client, consumer, STOP_CLIENT_SECONDS)
        ends = TopicEnds(consumer, core.settings.topic_prefix + USAGE_REPORTED, USAGE_REPORTED_PARTITIONS)
        gate = UsageGate(
            end=ends.read,
            read_topic=PostgresUsageTopic(pool).read,
            is_down=lambda: any(core.circuit.is_down(machine) for machine in Machine),
            clock=core.clock,
        )
        await stack.enter_async_context(_in_background(gate.run()))
        yield gate


async def _first_canary(listener: ReplyListener) -> None:
    try:
        await listener.canary(timeout_seconds=FIRST_CANARY_SECONDS)
    except TimeoutError:
        raise UnavailableError(
            f"a reply sent to ourselves was not heard within {FIRST_CANARY_SECONDS:.0f} s: is Kafka overloaded?"
        ) from None


async def _sweeping(bus: CommandBus, clock: SystemClock) -> None:
    while True:
        await clock.sleep(SWEEP_SECONDS)
        bus.sweep()


@asynccontextmanager
async def _in_background(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run endless `work` while the block runs; when one of it fails, so does the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def _watching(watch: Watch) -> AsyncIterator[None]:
    """Look once, so that the state is known, then go on looking while the block runs."""
    await watch.look()
    async with _in_background(watch.run()):
        yield


@asynccontextmanager
async def _reply_slot(slots: PostgresReplySlots, clock: SystemClock) -> AsyncIterator[int]:
    """Lease a reply partition for the block, and renew the lease."""
    owner = new_id()
    slot = await slots.lease(owner)

    async def renewing() -> None:
        while True:
            await clock.sleep(LEASE_SECONDS / LEASE_RENEWALS)
            with suppress(UnavailableError):  # the watch tells of it; a lost lease costs nothing but load
                if not await slots.renew(owner, slot):
                    log.warning("gateway.reply_slot.taken_over", slot=slot)

    try:
        async with _in_background(renewing()):
            yield slot
    finally:
        with suppress(UnavailableError):
            await slots.release(owner, slot)


@asynccontextmanager
async def _public_port(core: Core, pool: Pool, bus: CommandBus, gate: UsageGate) -> AsyncIterator[int]:
    """Serve the public port while the block runs; afterwards requests in flight are answered within the budget."""
    settings, clock = core.settings, core.clock
    tls = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        tls = tls_context(settings.tls_cert, settings.tls_key)
    async with (
        open_authenticator(
            PostgresAccounts(pool), clock, trust_seconds=settings.credential_cache_seconds
        ) as authenticator,
        open_reading_pool(settings.require_reader_url()) as key_pool,
    ):
        date_line = DateLine(clock)
        endpoint = IsvEndpoint(
            bus=UsageBus(bus, gate),
            doorkeeper=Doorkeeper(authenticator, role=Role.KA, circuit=core.circuit, metrics=core.metrics),
            journal=Journal(core.metrics, clock, route="isv"),
            clock=clock,
            date_line=date_line,
            body_limit_bytes=settings.body_limit_bytes,
        )
        keys = JwksEndpoint(PostgresSigningKeys(pool), clock=clock, date_line=date_line)
        partner = _partner_endpoint(core, pool, key_pool, bus, authenticator, date_line)
        server = PublicServer(
            public_application(
                endpoint.handle, keys.handle, partner_endpoint=partner.handle, clock=clock, date_line=date_line
            ),
            connections_max=2 * settings.inflight_max + CONNECTIONS_BESIDE_INFLIGHT,
            date_line=date_line,
            clock=clock,
        )
        try:
            yield await server.open(settings.http_host, settings.http_port, tls)
        finally:
            await server.close(answer_seconds=settings.reply_budget_seconds + ANSWER_AFTER_BUDGET_SECONDS)


def _partner_endpoint(
    core: Core, pool: Pool, key_pool: Pool, bus: CommandBus, authenticator: Authenticator, date_line: DateLine
) -> PartnerEndpoint:
    """Make the Partner API; `key_pool` is for its reads alone: it cannot write, and a long search holds up no login."""
    settings, clock = core.settings, core.clock
    queries = PostgresKeyQueries(key_pool, business_clock(settings.clock_offset_file))
    return PartnerEndpoint(
        bus=bus,
        doorkeeper=Doorkeeper(
            authenticator,
            role=Role.PARTNER,
            circuit=core.circuit,
            metrics=core.metrics,
            wrong_pair=Refused.UNAUTHENTICATED,
        ),
        directory=RememberingKeyDirectory(queries, clock),
        queries=queries,
        numbers=NumberBlocks(PostgresKeyNumbers(pool)),
        circuit=core.circuit,
        journal=Journal(core.metrics, clock, route="partner"),
        clock=clock,
        date_line=date_line,
        body_limit_bytes=settings.body_limit_bytes,
        scheme="https" if settings.tls_cert is not None or settings.behind_tls_proxy else "http",
    )


def _settle_garbage() -> None:
    """Take what was made at the start out of the collector's sight, and let it look seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 100)
