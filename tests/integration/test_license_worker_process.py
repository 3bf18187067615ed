"""`keyway worker license` as a real process on real PostgreSQL and Kafka: starts, answers, tells how it is, stops."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from keyway.cli.prepare import prepare_world
from keyway.localstack.ports import PortReservations
from shared.contracts.replies import ReplyStatus
from shared.settings import Settings
from tests.builders import a_purchase
from tests.integration.worker_rig import CLOCK, Rig, rig, until

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def a_port() -> Iterator[int]:
    reservations = PortReservations()
    try:
        yield reservations.take()
    finally:
        reservations.release()


@contextmanager
def worker_process(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("KEYWAY_")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "keyway", "worker", "license"], cwd=ROOT, env=own | environment, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answer(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


async def environment_of(stand: Rig, database_url: str, folder: Path, port: int) -> dict[str, str]:
    settings = Settings.model_validate(
        {"database_url": database_url, "kafka_bootstrap": stand.bootstrap, "topic_prefix": stand.prefix}
    )
    world = await prepare_world(settings, folder)
    return {
        "KEYWAY_DATABASE_URL": database_url,
        "KEYWAY_KAFKA_BOOTSTRAP": stand.bootstrap,
        "KEYWAY_TOPIC_PREFIX": stand.prefix,
        "KEYWAY_KAFKA_SESSION_TIMEOUT_SECONDS": "3",
        "KEYWAY_SIGNING_KEYS_FILE": str(world.signing_keys_file),
        "KEYWAY_ADMIN_PORT": str(port),
    }


async def test_worker_answers_from_the_database_and_stops_in_order(
    kafka_server: str, topic_prefix: str, database_url: str, tmp_path: Path
) -> None:
    expires_on = (CLOCK.now() + timedelta(days=60)).date()
    log = tmp_path / "worker.log"
    async with rig(kafka_server, topic_prefix) as stand:
        with a_port() as port:
            environment = await environment_of(stand, database_url, tmp_path, port)
            command = a_purchase(number="00481516", expires_on=expires_on, activation_data="secret-canary")
            late = await stand.publish(command, deadline_at=CLOCK.now() - timedelta(seconds=1))
            first = await stand.publish(command)
            again = await stand.publish(command)
            with worker_process(environment, log) as process:
                replies = await stand.replies(3, seconds=60)
                await until(lambda: answer(port, "/readyz")[0] == 200, what="ready")
                metrics = await asyncio.to_thread(answer, port, "/metrics")
                alive = await asyncio.to_thread(answer, port, "/livez")
                ready = await asyncio.to_thread(answer, port, "/readyz")
                began = CLOCK.monotonic()
                process.send_signal(signal.SIGTERM)
                status = await asyncio.to_thread(process.wait, 15)
                stopped = CLOCK.monotonic() - began
            committed = sum((await stand.committed()).values())

    issued = replies[first.command_id.bytes][0]
    assert (issued.status, issued.meta) == (ReplyStatus.LICENSE_BODY, expires_on.isoformat().encode())
    assert issued.body.count(b".") == 2
    assert replies[again.command_id.bytes][0].body == issued.body
    assert replies[late.command_id.bytes][0].status is ReplyStatus.EXPIRED
    assert alive[0] == 200
    assert {part["name"] for part in json.loads(ready[1])["dependencies"]} >= {"kafka", "postgres", "group"}
    assert 'keyway_worker_dedupe_hits_total{kind="operation"} 1.0' in metrics[1]
    assert "keyway_worker_commands_expired_total 1.0" in metrics[1]
    assert (status, committed) == (0, 3)
    assert stopped < 10
    lines = log.read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert "secret-canary" not in log.read_text()


async def test_start_without_topics_is_one_clear_line(
    kafka_server: str, topic_prefix: str, database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    async with rig(kafka_server, topic_prefix) as stand:
        with a_port() as port:
            environment = await environment_of(stand, database_url, tmp_path, port)
            environment["KEYWAY_TOPIC_PREFIX"] = f"{topic_prefix}absent."
            with worker_process(environment, log) as process:
                status = await asyncio.to_thread(process.wait, 80)

    assert status == 1
    told = [line for line in log.read_text().splitlines() if not line.startswith("{")]
    assert len(told) == 1
    assert "keyway topics apply" in told[0]
