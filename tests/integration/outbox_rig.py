"""Licenses with events in the outbox, and a reader of the topic: what tests of the relay stand on.

`python -m tests.integration.outbox_rig URL BOOTSTRAP PREFIX` is a relay as a process of its own, for sudden death.
"""

import asyncio
import secrets
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry

from shared.clock import MachineClock
from shared.contracts.envelope import new_id
from shared.contracts.topics import LICENSE_EVENTS, LICENSE_EVENTS_PARTITIONS
from shared.database.outbox import PostgresOutbox
from shared.database.pool import OwnConnection
from shared.kafka import relay_producer
from shared.telemetry.health import Readiness
from shared.telemetry.metrics import RelayMetrics
from workers.relay.press import RenewedPress
from workers.relay.relay import Relay
from workers.runtime.process import run_process

CLOCK = MachineClock()
GRACE_SECONDS = 0.1
LONG_AGO = datetime.now(UTC) - timedelta(minutes=1)

LICENSE = """
INSERT INTO license (license_id, account_id, number, activation_code, product, model, test, status, suspended,
    expires_on, revision, key_version, sequence, audit_sha256)
VALUES ($1, 'ka', $2, $3, 'Bronze', 'standard', false, 'active', false, '2099-01-01', 1, 0, $4, sha256('x'))
ON CONFLICT (license_id) DO UPDATE
SET sequence = greatest(license.sequence, EXCLUDED.sequence), version = license.version + 1
"""
EVENT = """
INSERT INTO outbox (event_id, topic, key, license_id, sequence, command_id, type, value, created_at)
VALUES ($1, 'license.events', $2, $2, $3, $4, 'keyway.license.issued', $5, $6)
"""


async def write_event(connection: OwnConnection, number: str, sequence: int, at: datetime = LONG_AGO) -> None:
    """Let a license reach `sequence` and tell of it, as the license worker does."""
    key = f"ka:{number}"
    event_id = new_id()
    value = orjson.dumps({"id": str(event_id), "subject": key, "sequence": sequence})
    await connection.execute(LICENSE, key, number, secrets.token_hex(8), sequence)
    await connection.execute(EVENT, event_id, key, sequence, new_id(), value, at)


def make_relay(database_url: str, bootstrap: str, prefix: str) -> tuple[Relay, PostgresOutbox, RenewedPress]:
    """Return a relay with a short grace and what it stands on; close the other two afterwards."""
    outbox = PostgresOutbox(database_url)
    press = RenewedPress(new_producer=lambda: relay_producer(bootstrap), bootstrap=bootstrap, topic_prefix=prefix)
    relay = Relay(
        outbox=outbox,
        press=press,
        clock=CLOCK,
        chance=lambda: 0.5,
        metrics=RelayMetrics.bound_to(CollectorRegistry()),
        probe=Readiness(CLOCK).probe("relay", stale_after_seconds=5),
        grace_seconds=GRACE_SECONDS,
    )
    return relay, outbox, press


async def published(bootstrap: str, prefix: str) -> list[tuple[str, int | None]]:
    """Return (license, sequence) of every record on the topic, in the order of each partition."""
    topic = prefix + LICENSE_EVENTS
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(LICENSE_EVENTS_PARTITIONS)]
        consumer.assign(partitions)
        ends: Mapping[TopicPartition, int] = await consumer.end_offsets(partitions)
        found: list[tuple[str, int | None]] = []
        missing = sum(ends.values())
        while missing:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                missing -= len(records)
                for record in records:
                    members = orjson.loads(record.value)
                    found.append((record.key.decode(), members.get("sequence")))
        return found
    finally:
        await consumer.stop()


def gaps(records: Iterable[tuple[str, int | None]]) -> list[str]:
    """Return where a first occurrence came before the one that precedes it."""
    reached: dict[str, int] = {}
    faults = []
    for license_id, sequence in records:
        if sequence is None:
            continue
        last = reached.get(license_id, 0)
        if sequence > last + 1:
            faults.append(f"{license_id}: {sequence} after {last}")
        reached[license_id] = max(last, sequence)
    return faults


async def _run_alone(database_url: str, bootstrap: str, prefix: str, stop: asyncio.Event) -> None:
    relay, outbox, press = make_relay(database_url, bootstrap, prefix)
    await relay.run(stop)
    await press.close()
    await outbox.close()


if __name__ == "__main__":
    url, address, name = sys.argv[1:]
    run_process(lambda stop: _run_alone(url, address, name, stop))
