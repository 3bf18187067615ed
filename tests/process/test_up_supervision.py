"""What `keyway up` promises about its children: they come back, they stop in order, they never outlive it."""

import asyncio
import http.client
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from keyway.localstack.processes import Launch, LocalStackError, identify
from keyway.localstack.supervisor import Stage, Supervisor
from tests.process.running_stack import READY_SECONDS, RunningStack, launch, running, until

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(400)]

PROMISED_SECONDS = 2.0
TRIES = 3
"""A supervisor that dawdles does so each time; a machine that is busy, now and then."""
BACK_SECONDS = 60.0
"""For a server or a process to answer again, recovery and a loaded machine included."""
CHILDREN = ("gateway-0", "license-0", "postgres", "kafka")


async def connects(stack: RunningStack) -> bool:
    try:
        connection = await asyncpg.connect(stack.document()["database"], timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


async def wait_until_postgres_answers(stack: RunningStack) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while not await connects(stack):
        assert time.monotonic() < deadline, f"no PostgreSQL within {BACK_SECONDS:g} s"
        await asyncio.sleep(0.05)


async def killed_and_back(stack: RunningStack, name: str) -> None:
    """Kill a child: its successor is there within the time that is promised, unless the machine itself is busy."""
    seconds = [await stack.kill_child(name)]
    while min(seconds) >= PROMISED_SECONDS and len(seconds) < TRIES:
        seconds.append(await stack.kill_child(name))
    assert min(seconds) < PROMISED_SECONDS, seconds


def last_words(stack: RunningStack, name: str) -> dict[str, Any]:
    """Return what a dummy process wrote when it stopped in order."""
    words: dict[str, Any] = json.loads((stack.state / "logs" / f"{name}.log").read_text().splitlines()[-1])
    return words


def ask(address: str) -> dict[str, Any]:
    host, _, port = address.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", "/")
        document: dict[str, Any] = json.load(connection.getresponse())
    finally:
        connection.close()
    return document


async def test_killed_children_are_back_within_two_seconds_and_all_heals(tmp_path: Path) -> None:
    async with running(tmp_path / "state", gateways=2) as stack:
        assert (stack.state / "endpoints.json").stat().st_mode & 0o777 == 0o600
        others = {name: stack.pid(name) for name in ("gateway-1", "gateway-0", "license-0")}
        for name in ("postgres", "kafka"):
            await killed_and_back(stack, name)
        assert {name: stack.pid(name) for name in others} == others, "a server's death restarted its clients"
        await wait_until_postgres_answers(stack)
        await until(lambda: can_connect(stack.document()["kafka"]), seconds=BACK_SECONDS)
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.document()["kafka"])
        await admin.start()
        await admin.close()

        address = stack.document()["admin"]
        for _ in range(3):
            await killed_and_back(stack, "gateway-0")
        await until(lambda: ask(address)["pid"] == stack.pid("gateway-0"), seconds=BACK_SECONDS)
        await killed_and_back(stack, "license-0")
        assert stack.document()["gateway"][0] == "http://127.0.0.1:" + ask(address)["settings"]["KEYWAY_HTTP_PORT"]


def can_connect(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=1):
        return True


async def test_killed_postmaster_leaves_no_backend_that_hinders_its_successor(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as stack:
        busy = await asyncpg.connect(stack.document()["database"])
        backend = await busy.fetchval("SELECT pg_backend_pid()")
        frozen = identify(backend)
        assert frozen is not None
        os.kill(backend, signal.SIGSTOP)  # it cannot notice the death of the postmaster by itself
        await stack.kill_child("postgres")
        await wait_until_postgres_answers(stack)
        assert identify(backend) != frozen
        busy.terminate()


async def test_stop_goes_in_order_and_the_next_run_has_the_data(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with running(state) as stack:
        connection = await asyncpg.connect(stack.document()["database"])
        await connection.execute("CREATE TABLE kept (value int); INSERT INTO kept VALUES (42)")
        await connection.close()
        bootstrap = stack.document()["kafka"]
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic("kept", 1, 1)])
        await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        await producer.start()
        await producer.send_and_wait("kept", b"42")
        await producer.stop()
        left = stack.children()
        assert stack.stop() == 0
        assert not (state / "endpoints.json").exists()
        assert [child for child in left if identify(child.pid) == child] == []
        gateway, worker = (last_words(stack, name) for name in ("gateway-0", "license-0"))
        assert gateway["done"] <= worker["asked"], "a worker must outlive the gateways that wait for it"
        assert worker["servers_up"], "the servers must outlive the workers"
        assert "database system is shut down" in (state / "logs" / "postgres.log").read_text()

    async with running(state) as stack:
        connection = await asyncpg.connect(stack.document()["database"])
        assert await connection.fetchval("SELECT value FROM kept") == 42
        await connection.close()
        consumer = AIOKafkaConsumer("kept", bootstrap_servers=stack.document()["kafka"], auto_offset_reset="earliest")
        await consumer.start()
        record = await asyncio.wait_for(consumer.getone(), BACK_SECONDS)
        await consumer.stop()
        assert record.value == b"42"


async def test_killed_parent_leaves_no_orphan_and_the_next_start_is_clean(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with running(state) as stack:
        connection = await asyncpg.connect(stack.document()["database"])
        await connection.execute("CREATE TABLE kept (value int); INSERT INTO kept VALUES (7)")
        sleeper = asyncio.ensure_future(connection.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(0)
        children = stack.children()
        assert len(children) > len(CHILDREN)
        stack.process.kill()
        stack.process.wait()
        await until(lambda: not any(identify(child.pid) == child for child in children), seconds=BACK_SECONDS)
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await sleeper
        connection.terminate()

    async with running(state) as stack:
        connection = await asyncpg.connect(stack.document()["database"])
        assert await connection.fetchval("SELECT value FROM kept") == 7
        await connection.close()


async def test_sigterm_wakes_a_paused_child_so_that_it_stops_in_order(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as stack:
        os.kill(stack.pid("gateway-0"), signal.SIGSTOP)
        assert stack.stop(signal.SIGTERM) == 0
        assert last_words(stack, "gateway-0")["servers_up"]


async def test_second_stack_on_a_state_folder_in_use_is_refused_and_elsewhere_it_runs(tmp_path: Path) -> None:
    first = launch(tmp_path / "one")
    second = launch(tmp_path / "two")
    try:
        for stack in (first, second):
            await until((stack.state / "endpoints.json").exists, seconds=READY_SECONDS)
        refused = launch(tmp_path / "one")
        assert refused.process.wait(READY_SECONDS) == 1
        refused.output.rename(tmp_path / "refused.out")
        assert "is in use by another `keyway up`" in (tmp_path / "refused.out").read_text()
        assert first.pid("kafka"), "the refused one must not touch the files of the running one"
        assert not set(listeners(first)) & set(listeners(second))
    finally:
        assert [first.stop(), second.stop()] == [0, 0]


def listeners(stack: RunningStack) -> list[str]:
    document = stack.document()
    admins = [entry["admin"] for entry in document["processes"] if "admin" in entry]
    return [*document["gateway"], *admins, document["kafka"], document["database"].rpartition("@")[2]]


async def test_child_that_cannot_start_ends_the_start_with_its_own_words(tmp_path: Path) -> None:
    stack = launch(tmp_path / "state", {"KEYWAY_LICENSE_ISSUER": "crash"})
    assert stack.process.wait(READY_SECONDS) == 1
    assert "refused: license-0 keeps ending (exit status 1)" in stack.text()
    assert "this worker cannot start" in stack.text()
    assert stack.children() == []


async def test_child_that_takes_long_to_fail_ends_the_start_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyway.localstack.supervisor.QUICK_DEATH_SECONDS", 0.0)  # no death is quick now
    failing = Launch(
        name="license-0",
        role="license",
        command=(sys.executable, "-S", "-c", "raise SystemExit('this worker cannot start')"),
        environment={},
        log=tmp_path / "license-0.log",
    )
    with pytest.RaisesGroup(pytest.RaisesExc(LocalStackError, match=r"(?s)license-0 keeps ending.*cannot start")):
        async with asyncio.timeout(BACK_SECONDS), asyncio.TaskGroup() as tasks:
            supervisor = Supervisor(tasks, tmp_path / "record", say=print, on_change=lambda _: None)
            supervisor.keep(failing, Stage.WORKERS)


async def test_external_servers_are_used_instead_of_our_own(
    tmp_path: Path, postgres_server: str, kafka_server: str
) -> None:
    named = {"KEYWAY_DATABASE_URL": postgres_server, "KEYWAY_KAFKA_BOOTSTRAP": kafka_server}
    async with running(tmp_path / "state", named) as stack:
        document = stack.document()
        assert {entry["role"] for entry in document["processes"]} == {"gateway", "license"}
        assert (document["database"], document["kafka"]) == (postgres_server, kafka_server)
        settings = ask(document["admin"])["settings"]
        assert settings["KEYWAY_DATABASE_URL"] == postgres_server
