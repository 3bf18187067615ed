"""Offsets move only past what is finished: crashes, rebalances and outages repeat work and lose none."""

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from shared.contracts.identifiers import LicenseId
from shared.kafka import reply_producer
from tests.builders import a_purchase
from tests.integration.worker_rig import (
    CLOCK,
    MemoryHandler,
    Rig,
    WithheldProducer,
    body_of,
    purchases,
    rig,
    until,
)
from workers.runtime.lane import BATCH_RECORDS_MAX, QUEUE_RECORDS_MAX

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).resolve().parents[2]


def orders_by_license(handlers: list[MemoryHandler]) -> dict[str, list[str]]:
    orders: dict[str, list[str]] = {}
    for handler in handlers:
        for envelope in handler.handled:
            orders.setdefault(envelope.license_id, []).append(str(envelope.command_id))
    return orders


async def test_every_command_is_answered_and_committed(kafka_server: str, topic_prefix: str) -> None:
    handler = MemoryHandler()
    async with rig(kafka_server, topic_prefix) as stand:
        worker = await stand.worker(handler)
        envelopes = await stand.publish_many(purchases(300))
        replies = await stand.replies(300)
        await worker.end()

        assert {e.command_id.bytes: body_of(e) for e in envelopes} == {cid: r[0].body for cid, r in replies.items()}
        assert sum((await stand.committed()).values()) == 300
        assert all(reply[0].queue_age_ms < 60_000 for reply in replies.values())


async def test_commands_sent_before_the_first_worker_ever_are_handled(kafka_server: str, topic_prefix: str) -> None:
    async with rig(kafka_server, topic_prefix) as stand:
        await stand.publish_many(purchases(20))
        await stand.worker(MemoryHandler())

        assert len(await stand.replies(20)) == 20


async def test_crash_before_the_commit_redelivers_what_was_not_finished(kafka_server: str, topic_prefix: str) -> None:
    first, second = MemoryHandler(), MemoryHandler()
    async with rig(kafka_server, topic_prefix) as stand:
        worker = await stand.worker(first)
        done = await stand.publish_many(purchases(10))
        await stand.until_committed(10)
        first.open.clear()
        before = first.begun
        stuck = await stand.publish_many(purchases(50))
        await until(lambda: first.begun > before, what="a batch is taken")
        await worker.crash()
        await stand.worker(second)
        replies = await stand.replies(60)

        assert sorted(second.numbers) == sorted(e.command.number for e in stuck), "none lost, none of the finished"
        assert {e.command_id.bytes for e in (*done, *stuck)} == set(replies)


async def test_offset_does_not_move_before_the_replies_are_acknowledged(kafka_server: str, topic_prefix: str) -> None:
    handler = MemoryHandler()
    withheld = WithheldProducer(reply_producer(kafka_server))
    async with rig(kafka_server, topic_prefix) as stand:
        worker = await stand.worker(handler, replies=withheld)
        envelopes = await stand.publish_many(purchases(20))
        await until(lambda: len(handler.handled) == 20, what="all are handled")
        await CLOCK.sleep(0.7)  # more than two commits' time

        assert sum((await stand.committed()).values()) == 0
        withheld.released.set()
        assert len(await stand.replies(20)) == len(envelopes)
        await worker.end()
        assert sum((await stand.committed()).values()) == 20


async def test_rebalance_loses_nothing_and_keeps_the_order_of_each_license(
    kafka_server: str, topic_prefix: str
) -> None:
    handlers = [MemoryHandler(seconds_per_batch=0.02) for _ in range(3)]
    async with rig(kafka_server, topic_prefix) as stand:
        commands = purchases(3000, licenses=60)
        await stand.worker(handlers[0])
        sent = await stand.publish_many(commands[:1000])
        second = await stand.worker(handlers[1])
        sent += await stand.publish_many(commands[1000:2000])
        await stand.worker(handlers[2])
        sent += await stand.publish_many(commands[2000:])
        await until(lambda: all(handler.handled for handler in handlers), what="each has its share")
        await second.end()
        replies = await stand.replies(3000)

        assert set(replies) == {e.command_id.bytes for e in sent}
        expected: dict[LicenseId, list[str]] = {}
        for envelope in sent:
            expected.setdefault(envelope.license_id, []).append(str(envelope.command_id))
        for handler in handlers:
            for license_id, order in orders_by_license([handler]).items():
                everything = expected[LicenseId(license_id)]
                ranks = [everything.index(command_id) for command_id in dict.fromkeys(order)]  # without redeliveries
                assert ranks == sorted(ranks), "no worker sees a license's commands out of order"


async def test_queue_is_bounded_and_a_batch_takes_at_most_its_cap(kafka_server: str, topic_prefix: str) -> None:
    handler = MemoryHandler()
    async with rig(kafka_server, topic_prefix) as stand:
        handler.open.clear()
        envelopes = await stand.publish_many(purchases(4000))
        worker = await stand.worker(handler)
        await until(lambda: worker.consumption.lane.blocked_seconds > 0, what="submit waits for space")
        await CLOCK.sleep(0.3)

        assert worker.consumption.lane.queued_count <= QUEUE_RECORDS_MAX
        handler.open.set()
        assert len(await stand.replies(4000)) == len(envelopes)
        assert max(handler.batches) <= BATCH_RECORDS_MAX


async def test_largest_record_and_a_queue_of_full_bodies_are_carried(kafka_server: str, topic_prefix: str) -> None:
    handler = MemoryHandler()
    largest = "\x01" * 524_288  # written as JSON each of these is six characters
    async with rig(kafka_server, topic_prefix) as stand:
        await stand.publish(a_purchase(number="00000001", activation_data=largest))
        full = await stand.publish_many(
            [a_purchase(number=f"{n:08d}", activation_data="x" * 50_000) for n in range(30)]
        )
        await stand.worker(handler)
        replies = await stand.replies(31)

        assert len(replies) == 1 + len(full)
        assert max(len(getattr(e.command, "activation_data", "") or "") for e in handler.handled) == 524_288


async def test_database_outage_is_sat_out_in_place_and_nothing_is_logged_of_the_commands(
    kafka_server: str, topic_prefix: str
) -> None:
    handler = MemoryHandler(unavailable_times=6)
    async with rig(kafka_server, topic_prefix) as stand:
        worker = await stand.worker(handler)
        envelopes = await stand.publish_many(
            [a_purchase(number=f"{n:08d}", activation_data="secret-canary") for n in range(10)]
        )
        replies = await stand.replies(10)
        await worker.end()

        assert len(replies) == len(envelopes)
        assert worker.sample("keyway_worker_retries_total", step="handle") == 6
        assert b"worker.batch.failed" in stand.log.getvalue()
        assert b"secret-canary" not in stand.log.getvalue()


async def test_readiness_tells_each_dependency(kafka_server: str, topic_prefix: str) -> None:
    async with rig(kafka_server, topic_prefix) as stand:
        worker = await stand.worker(MemoryHandler())
        await until(lambda: worker.readiness.is_ready, what="the worker is ready")

        assert {probe.name for probe in worker.readiness.probes} == {"group", "polling", "sending", "kafka", "postgres"}
        assert "24 partitions" in {probe.detail for probe in worker.readiness.probes}


async def test_orderly_stop_hands_over_at_once(kafka_server: str, topic_prefix: str) -> None:
    first, second = MemoryHandler(), MemoryHandler()
    async with rig(kafka_server, topic_prefix) as stand:
        worker = await stand.worker(first, session_seconds=30)
        await stand.worker(second, session_seconds=30)
        await until(lambda: worker.consumption.subscription.listener.is_member, what="both are members")
        began = CLOCK.monotonic()
        await worker.end()
        stopped = CLOCK.monotonic() - began
        sent = await stand.publish_many(purchases(50))
        replies = await stand.replies(50, seconds=20)  # nobody waits for the session of thirty to be over

        assert stopped < 10
        assert set(replies) == {e.command_id.bytes for e in second.handled} == {e.command_id.bytes for e in sent}


def spawn(stand: Rig, path: Path) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "tests.integration.worker_rig", stand.bootstrap, stand.prefix, str(path)]
    return subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def test_sigterm_drains_commits_and_exits_zero(kafka_server: str, topic_prefix: str, tmp_path: Path) -> None:
    log = tmp_path / "handled"
    async with rig(kafka_server, topic_prefix) as stand:
        await stand.publish_many(purchases(3000))
        process = spawn(stand, log)
        try:
            await until(lambda: len(lines(log)) > 200, what="the process works")
            began = CLOCK.monotonic()
            process.send_signal(signal.SIGTERM)
            status = await asyncio.to_thread(process.wait, 10)
        finally:
            process.kill()
            process.wait()
        handled = lines(log)

        assert status == 0
        assert CLOCK.monotonic() - began < 10
        assert max(Counter(handled).values()) == 1
        assert sum((await stand.committed()).values()) == len(handled), "all that was handled is committed"


async def test_killed_worker_is_replaced_and_nothing_is_lost(
    kafka_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    log, successor = tmp_path / "handled", MemoryHandler()
    async with rig(kafka_server, topic_prefix) as stand:
        sent = await stand.publish_many(purchases(3000))
        process = spawn(stand, log)
        try:
            await until(lambda: len(lines(log)) > 300, what="the process works")
        finally:
            process.kill()
            process.wait()
        await stand.worker(successor)
        replies = await stand.replies(3000)
        before = Counter(lines(log))

        assert set(replies) == {e.command_id.bytes for e in sent}
        assert set(before) | set(successor.numbers) == {e.command.number for e in sent}
        assert max(before.values()) == 1
