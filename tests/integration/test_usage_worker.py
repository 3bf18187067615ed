"""Usage workers as processes on a real Kafka and PostgreSQL: killed at any moment, counters equal an independent sum.

`USAGE_EVENTS=200000 USAGE_KILLS=10 pytest tests/integration/test_usage_worker.py` is the long form.
"""

import asyncio
import os
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from shared.domain.license import LicenseStatus
from tests.integration.usage_rig import an_event, made_up, usage_rig

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

EVENTS = int(os.environ.get("USAGE_EVENTS", "10000"))
KILLS = int(os.environ.get("USAGE_KILLS", "3"))
PATIENCE_SECONDS = 120 + EVENTS / 500
BACKUPS = [f"{number:08}" for number in range(10)]
TRANSFERS = [f"{number:08}" for number in range(10, 20)]

TOTALS = "SELECT license_id, counter, value, events FROM usage_total ORDER BY 1, 2"
DIGEST = """
SELECT (SELECT count(*) FROM usage_event) AS events,
    (SELECT md5(string_agg(e::text, '|' ORDER BY source, event_id)) FROM usage_event e) AS raw,
    (SELECT md5(string_agg(t::text, '|' ORDER BY license_id, counter)) FROM usage_total t) AS totals,
    (SELECT md5(string_agg(w::text, '|' ORDER BY partition)) FROM usage_watermark w) AS marks
"""


@pytest.mark.timeout(3 * PATIENCE_SECONDS)
async def test_counters_equal_an_independent_sum_through_kills_and_a_replay_changes_nothing(
    kafka_server: str, topic_prefix: str, database_url: str, tmp_path: Path
) -> None:
    events, ledger = made_up(random.Random(28), EVENTS, BACKUPS, TRANSFERS)
    with usage_rig(kafka_server, topic_prefix, database_url, tmp_path) as rig:
        await rig.prepare(
            {number: {"product": "CloudBackup"} for number in BACKUPS}
            | {number: {"product": "CloudTransfer"} for number in TRANSFERS}
        )
        workers = [rig.start_worker(), rig.start_worker()]
        slices = [events[start :: KILLS + 1] for start in range(KILLS + 1)]
        for kill in range(KILLS):
            before = await rig.taken_in()
            await rig.publish(slices[kill])
            await rig.until_busy(before, seconds=60)
            await asyncio.sleep(random.uniform(0, 0.3))
            workers[kill % 2].kill()
            workers[kill % 2] = rig.start_worker()
        await rig.publish(slices[-1])
        await rig.until_taken_in(seconds=PATIENCE_SECONDS)

        rows = await rig.query(TOTALS)
        assert {(row["license_id"].partition(":")[2], row["counter"]): row["value"] for row in rows} == ledger.totals()
        assert sum(row["events"] for row in rows) == EVENTS
        assert await rig.dead_letters() == []

        rig.stop_workers(signal.SIGTERM)
        digest = await rig.query(DIGEST)
        await rig.rewind()
        rig.start_worker()
        await rig.until_committed(seconds=PATIENCE_SECONDS)
        assert await rig.query(DIGEST) == digest
        assert digest[0]["events"] == EVENTS


@pytest.mark.timeout(120)
async def test_every_odd_event_has_its_end(
    kafka_server: str, topic_prefix: str, database_url: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    ended = now - timedelta(hours=1)
    good = [
        an_event("good", "1", "storedGigabytes", 118, now),
        an_event("fraction", "1", "protectedServers", "2.5", now),
        an_event("late", "1", "storedGigabytes", 7, now - timedelta(days=300)),
        an_event("test", "3", "storedGigabytes", 1, now),
        an_event("before the end", "4", "storedGigabytes", 1, ended - timedelta(seconds=1)),
    ]
    bad = {
        "value_negative": an_event("negative", "1", "storedGigabytes", -1, now),
        "value_too_large": an_event("large", "1", "storedGigabytes", 2**53, now),
        "value_too_precise": an_event("precise", "1", "storedGigabytes", "1e-31", now),
        "future": an_event("future", "1", "storedGigabytes", 1, now + timedelta(hours=25)),
        "unknown_counter": an_event("counter", "1", "sentGigabytes", 1, now),
        "wrong_kind": an_event("kind", "1", "storedGigabytes", 1, now, kind="increment"),
        "unknown_license": an_event("license", "999", "storedGigabytes", 1, now),
        "standard_license": an_event("standard", "2", "storedGigabytes", 1, now),
        "after_termination": an_event("ended", "4", "storedGigabytes", 1, now),
        "id_reuse": an_event("good", "1", "storedGigabytes", 119, now),
        "not_storable": an_event("a nul \0", "1", "storedGigabytes", 1, now),
        "not_json": an_event("nan", "1", "storedGigabytes", "NaN", now),
        "payload": an_event("text", "1", "storedGigabytes", '"1"', now),
        "unknown_type": an_event("type", "1", "storedGigabytes", 1, now, type="keyway.usage.peak"),
        "version": an_event("version", "1", "storedGigabytes", 1, now, specversion="0.3"),
    }
    with usage_rig(kafka_server, topic_prefix, database_url, tmp_path) as rig:
        await rig.prepare(
            {
                "1": {"product": "CloudBackup"},
                "2": {"product": "Bronze"},
                "3": {"product": "NFR-CloudBackup", "test": True},
                "4": {"product": "CloudBackup", "status": LicenseStatus.TERMINATED, "terminated_at": ended},
            }
        )
        await rig.publish([(5, event) for event in (*good, *bad.values(), good[0])])
        rig.start_worker()
        await rig.until_taken_in(seconds=60)
        await rig.until_committed(seconds=30)

        counted = await rig.query("SELECT event_id FROM usage_event ORDER BY event_id")
        assert [row["event_id"] for row in counted] == sorted(["good", "fraction", "late", "test", "before the end"])
        letters = await rig.dead_letters()
        reasons = {dict(letter.headers)["x-error"].split(b":")[0].decode(): letter.value for letter in letters}
        assert reasons == bad


@pytest.mark.timeout(120)
async def test_events_of_transactions_count_once_committed_and_the_watermark_passes_their_marks(
    kafka_server: str, topic_prefix: str, database_url: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    with usage_rig(kafka_server, topic_prefix, database_url, tmp_path) as rig:
        await rig.prepare({"1": {"product": "CloudTransfer"}})
        rig.start_worker()
        producer = AIOKafkaProducer(bootstrap_servers=kafka_server, transactional_id=f"{topic_prefix}test")
        await producer.start()
        try:
            async with producer.transaction():
                kept = an_event("kept", "1", "sentGigabytes", 1, now, kind="increment")
                await producer.send(rig.topic, kept, partition=5)
            await rig.until_taken_in(seconds=60)
            await producer.begin_transaction()
            taken_back = an_event("taken back", "1", "sentGigabytes", 2, now, kind="increment")
            await (await producer.send(rig.topic, taken_back, partition=6))
            await producer.abort_transaction()
            await rig.until_taken_in(seconds=30)
        finally:
            await producer.stop()

        counted = await rig.query("SELECT event_id FROM usage_event")
        marks = await rig.query("SELECT partition, next_offset FROM usage_watermark WHERE next_offset > 0 ORDER BY 1")
        assert [row["event_id"] for row in counted] == ["kept"]
        assert [tuple(row) for row in marks] == [(5, 2), (6, 2)]
        assert await rig.dead_letters() == []
