"""Baseline R: what taking usage events in costs without any promise. A raw `getmany` loop with COPY into one table.

Same topic settings, partitions and poll sizes as the usage role; each poll is decoded by the JSON library, copied into
one table without keys or indexes, and its offsets are committed. Nothing is recognized, judged, added up or set aside.

`python -m bench.raw_usage loop JSON` runs the process.
"""

import json
import sys
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import asyncpg
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer

from bench.echo import settle
from shared.kafka import ConsumedRecord, RecordConsumer, start_client

GROUP = "bench-usage"
TABLE = "bench_usage"
MAKE_TABLE = """
CREATE TABLE IF NOT EXISTS bench_usage
    (source text, event_id text, license_id text, counter text, value numeric, at timestamptz)
"""
COLUMNS = ("source", "event_id", "license_id", "counter", "value", "at")
RECORDS_MAX = 500
POLL_MS = 20

Row = tuple[str, str, str, str, Decimal, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPlan:
    """How the process of baseline R runs."""

    bootstrap: str
    topic: str
    database: str = field(repr=False)


def row_of(record: ConsumedRecord) -> Row:
    """Return the columns of one event."""
    event = orjson.loads(record.value or b"")
    data = event["data"]
    return (
        event["source"],
        event["id"],
        f"{data['account']}:{data['license']}",
        data["counter"],
        Decimal(str(data["value"])),
        datetime.fromisoformat(event["time"]),
    )


async def copy_for_ever(consumer: RecordConsumer, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Copy every poll into the table, then commit its offsets."""
    while True:
        polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
        rows = [row_of(record) for records in polled.values() for record in records]
        if rows:
            await connection.copy_records_to_table(TABLE, records=rows, columns=COLUMNS)
            await consumer.commit({partition: records[-1].offset + 1 for partition, records in polled.items()})


async def run(plan: RawPlan) -> None:
    """Run the process until it is cancelled."""
    connection = await asyncpg.connect(plan.database)
    await connection.execute(MAKE_TABLE)
    consumer: RecordConsumer = AIOKafkaConsumer(
        plan.topic,
        bootstrap_servers=plan.bootstrap,
        group_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=131_072,
    )
    await start_client(consumer, plan.bootstrap)
    try:
        settle()
        print("ready", flush=True)
        await copy_for_ever(consumer, connection)
    finally:
        await consumer.stop()
        await connection.close()


def main() -> None:
    """Run the process with the plan in the second argument."""
    uvloop.run(run(RawPlan(**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
