"""The intake role: public requests of other systems become commands."""

import asyncio
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from shared.clock import MachineClock, business_clock
from shared.contracts.topics import (
    LICENSE_COMMANDS,
    LICENSE_COMMANDS_PARTITIONS,
    LICENSE_INTAKE,
    LICENSE_INTAKE_PARTITIONS,
    dead_letter_topic,
)
from shared.database.intake_requests import PostgresIntakeRequests
from shared.kafka import (
    command_producer,
    dead_letter_producer,
    require_c_extensions,
    warm_up,
)
from shared.settings import Settings
from shared.telemetry.health import Readiness
from workers.app.foundations import open_admin_port, open_producer
from workers.intake.assembly import IntakeParts, license_intake
from workers.runtime.process import settle_garbage_collector


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
