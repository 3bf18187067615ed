"""Public events of the complete stack under load, through kills of worker and relay: nothing missing, nothing early."""

import asyncio
from collections.abc import Iterator
from datetime import date
from typing import Any

import asyncpg
import orjson
import pytest

from shared.contracts.topics import LICENSE_EVENTS, LICENSE_EVENTS_PARTITIONS
from tests.process.whole_stack import SETTLED_SECONDS, TEST_SECONDS, WholeStack, load, until, whole_topic

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(TEST_SECONDS)]

VICTIMS = ("license-0", "relay-0", "license-0", "relay-0")
AT_WORK_SECONDS = 2.0
UNCOUNTED = "SELECT count(*) FROM license WHERE published_sequence < sequence"
TABLES = """
SELECT license_id, sequence, product, status, suspended, expires_on, revision FROM license WHERE license_id = ANY($1)
"""


async def test_every_event_is_published_in_sequence_through_kills_and_tells_what_the_tables_say(
    stack: WholeStack, fresh_number: Iterator[int]
) -> None:
    async with load(stack, fresh_number) as playing:
        await asyncio.sleep(1.0)
        for victim in VICTIMS:
            await stack.kill(victim)
            await until(lambda victim=victim: stack.is_ready(victim), seconds=SETTLED_SECONDS, what=f"{victim} is back")
            await asyncio.sleep(AT_WORK_SECONDS)
    await stack.wait_until_healthy()
    connection = await asyncpg.connect(stack.now().database)

    async def all_counted() -> bool:
        return await connection.fetchval(UNCOUNTED) == 0

    await until(all_counted, seconds=SETTLED_SECONDS, what="every event is published and counted")
    licenses = {f"ka:{dict(exchange.form)['PURCHASE_ID']}" for exchange in playing.history}
    rows = {row["license_id"]: row for row in await connection.fetch(TABLES, list(licenses))}
    await connection.close()
    records = await events(stack.now().kafka)

    assert rows, "no load"
    assert not gaps(records)
    latest = {event["subject"]: event for event in sorted(records, key=lambda event: int(event["sequence"]))}
    for license_id, row in rows.items():
        event = latest[license_id]
        told = event["data"]
        assert int(event["sequence"]) == row["sequence"]
        assert (told["product"], told["revision"]) == (row["product"], row["revision"])
        assert date.fromisoformat(told["expires_on"]) == row["expires_on"]
        assert told["status"] == row["status"]
    copies = len(records) / len({event["id"] for event in records})
    print(f"{len(rows)} licenses, {len(records)} records, {copies:.3f} of each event")


async def events(bootstrap: str) -> list[dict[str, Any]]:
    """Return all public events with a sequence, in the order of each partition."""
    records = await whole_topic(bootstrap, LICENSE_EVENTS, LICENSE_EVENTS_PARTITIONS)
    return [event for record in records if "sequence" in (event := orjson.loads(record.value or b""))]


def gaps(records: list[dict[str, Any]]) -> list[str]:
    """Return where a first occurrence came before the one that precedes it."""
    reached: dict[str, int] = {}
    faults = []
    for event in records:
        license_id, sequence = event["subject"], int(event["sequence"])
        last = reached.get(license_id, 0)
        if sequence > last + 1:
            faults.append(f"{license_id}: {sequence} after {last}")
        reached[license_id] = max(last, sequence)
    return faults
