"""`keyway provider` on a real database and a real sandbox: lists, people's decisions, and drift both ways."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import orjson
import pytest

from shared.contracts.envelope import new_id
from shared.database.pool import OwnConnection, connected
from tests.command_line import Shell, shell
from tests.integration.provider_rig import CLOCK, provider_rig
from tests.integration.sweep_rig import SweepRig

__all__ = ["shell"]

pytestmark = pytest.mark.services

NOW = datetime.now(UTC)
STEP = {"kind": "order", "product": {"sku": "DNSMGR5"}, "data": {"address": "203.0.113.7", "label": "", "nodes": None}}
OPERATION = {
    "is": "OrderSoftware",
    "of": {"pricelist": 166, "address": "203.0.113.7", "label": "", "period_months": 1},
}
ORDER = """
INSERT INTO provider_order (order_id, license_id, account_id, number, provider_account, kind, step, operation, slot_key,
    state, attempt, intended_at, sent_at, manual_since)
VALUES ($1, 'ka:00000001', 'ka', '00000001', 'isplicense', 'order', $2::jsonb, $3::jsonb, $5, 'manual', 1, $4, $4, $4)
"""
Outcome = TypeVar("Outcome")


def on_database(database_url: str, work: Callable[[OwnConnection], Awaitable[Outcome]]) -> Outcome:
    async def run() -> Outcome:
        async with connected(database_url) as connection:
            return await work(connection)

    return asyncio.run(run())


@pytest.fixture
def manual_order(shell: Shell, database_url: str) -> UUID:
    """An order that waits for people, and a shell that knows its database."""
    shell.export(database_url=database_url)
    order_id = new_id()
    step, operation = orjson.dumps(STEP).decode(), orjson.dumps(OPERATION).decode()

    async def write(connection: OwnConnection) -> None:
        await connection.execute(ORDER, order_id, step, operation, NOW - timedelta(hours=1), str(order_id))

    on_database(database_url, write)
    return order_id


def state_of(shell: Shell, order_id: UUID) -> str:
    (told,) = [each for each in shell.keyway("provider", "orders", "--json").document if each["order"] == str(order_id)]
    return str(told["state"])


def test_orders_are_listed_whole_and_by_state(shell: Shell, manual_order: UUID) -> None:
    listed = shell.keyway("provider", "orders", "--state", "manual")
    none = shell.keyway("provider", "orders", "--state", "unknown", "--json")
    wrong = shell.keyway("provider", "orders", "--state", "lost")

    assert str(manual_order) in listed.out, "an id is there to be copied"
    assert shell.keyway("provider", "orders", "--license", "ka:2").out == "no order fits\n"
    assert shell.keyway("provider", "orders", "--license", "00000001").status == 2
    assert none.document == []
    assert wrong.status == 2


def test_two_people_release_an_order(shell: Shell, manual_order: UUID) -> None:
    alone = shell.keyway("provider", "release", manual_order, "--by", "ann", "--by", "ann")
    both = shell.keyway("provider", "release", manual_order, "--by", "ann", "--by", "bob", "--json")

    assert (alone.status, "two people" in alone.err) == (1, True)
    assert both.document == {"order": str(manual_order), "state": "intended"}
    assert state_of(shell, manual_order) == "intended"


def test_a_service_found_by_people_confirms_the_order(shell: Shell, manual_order: UUID) -> None:
    linked = shell.keyway("provider", "link", manual_order, 40001, "--by", "ann")
    again = shell.keyway("provider", "link", manual_order, 40001, "--by", "ann")

    assert linked.status == 0
    assert state_of(shell, manual_order) == "confirmed"
    assert (again.status, "not in state manual" in again.err) == (1, True)


def test_people_cancel_an_order_and_it_is_on_record_who(shell: Shell, manual_order: UUID, database_url: str) -> None:
    assert shell.keyway("provider", "cancel", manual_order, "--by", "ann").status == 0

    async def record(connection: OwnConnection) -> str:
        step = "SELECT evidence::text FROM provider_step WHERE order_id = $1 ORDER BY id DESC LIMIT 1"
        return str(await connection.fetchval(step, manual_order))

    assert state_of(shell, manual_order) == "refused"
    assert orjson.loads(on_database(database_url, record))["by"] == "ann"


def test_an_order_that_does_not_exist_is_refused_and_nobody_decides_without_a_name(
    shell: Shell, manual_order: UUID
) -> None:
    absent = new_id()
    reconciled = shell.keyway("provider", "reconcile", absent, "--wait", 0)
    canceled = shell.keyway("provider", "cancel", absent, "--by", "ann")
    nameless = shell.keyway("provider", "cancel", manual_order, "--by", " ")

    assert [ran.status for ran in (reconciled, canceled, nameless)] == [1, 1, 2]
    assert f"there is no order {absent}" in reconciled.err
    assert f"there is no order {absent}" in canceled.err
    assert state_of(shell, manual_order) == "manual"


def test_explain_says_that_people_must_decide(shell: Shell, manual_order: UUID) -> None:
    told = shell.keyway("explain", "ka:00000001")
    json = shell.keyway("explain", "ka:00000001", "--json").document

    assert told.out.startswith("ka:00000001  no license\n")
    assert f"people must decide order {manual_order}" in told.out
    assert (json["license"], json["orders"][0]["state"]) == (None, "manual")


def test_an_unknown_order_makes_reconcile_fail_until_it_is_settled(shell: Shell, manual_order: UUID) -> None:
    open_one = shell.keyway("provider", "reconcile", "--wait", 0)
    shell.keyway("provider", "cancel", manual_order, "--by", "ann")
    settled = shell.keyway("provider", "reconcile", "--wait", 0, "--json")

    assert (open_one.status, str(manual_order) in open_one.out) == (1, True)
    assert (settled.status, settled.document) == (0, {"undecided": []})


@contextmanager
def provider_role(
    database_url: str, state: Path, arrange: Callable[[SweepRig], Awaitable[object]]
) -> Iterator[SweepRig]:
    """A provider worker with its own panel in a thread, rung for as the scheduler does it; only Kafka is left out."""
    made: Future[SweepRig] = Future()
    stop = threading.Event()

    async def serve() -> None:
        async with provider_rig(database_url, state) as provider:
            rig = await SweepRig.on(provider)
            await arrange(rig)
            made.set_result(rig)
            while not stop.is_set():
                for due in await rig.sweeps.ring(sweeps_max=10, again_seconds=5.0):
                    await rig.sweeper.carry(due.sweep_id)
                await CLOCK.sleep(0.05)

    with ThreadPoolExecutor(max_workers=1) as threads:
        serving = threads.submit(lambda: asyncio.run(serve()))
        serving.add_done_callback(lambda ended: made.done() or made.set_exception(ended.exception() or EOFError()))
        try:
            yield made.result(timeout=60)
        finally:
            stop.set()
            serving.result(timeout=30)


def test_drift_of_equal_sides_prints_nothing(shell: Shell, database_url: str, tmp_path: Path) -> None:
    shell.export(database_url=database_url)
    with provider_role(database_url, tmp_path, lambda rig: rig.hold(2)):
        told = shell.keyway("provider", "drift")
        document = shell.keyway("provider", "drift", "--json").document

    assert (told.status, told.out, told.err) == (0, "", "")
    assert document == {"differences": [], "cost": "0"}


def test_drift_prints_what_the_provider_role_found_and_fails(shell: Shell, database_url: str, tmp_path: Path) -> None:
    shell.export(database_url=database_url)

    async def surplus(rig: SweepRig) -> None:
        await rig.drop_service((await rig.hold(1))[0])

    with provider_role(database_url, tmp_path, surplus) as rig:
        ((elid, number),) = rig.licenses.items()
        told = shell.keyway("provider", "drift")
        as_json = shell.keyway("provider", "drift", "--json", "--account", "isplicense")

    (difference,) = as_json.document["differences"]
    assert list(difference) == ["kind", "elid", "license_id", "ours", "theirs", "order", "cost", "account"]
    assert (difference["kind"], difference["elid"], difference["license_id"]) == ("surplus", elid, f"ka:{number}")
    assert as_json.document["cost"] == difference["cost"] != "0"
    assert (told.status, as_json.status) == (1, 1)
    heads = ["Account", "Difference", "Service", "License", "Ours", "Theirs", "Order", "Charged"]
    assert told.out.splitlines()[0].split() == heads
    assert f"1 differences; {difference['cost']} was charged for them" in told.out
    assert difference["order"] in told.out


def test_drift_that_cannot_be_known_is_refused_with_the_reason(shell: Shell, database_url: str, tmp_path: Path) -> None:
    shell.export(database_url=database_url)

    async def broken(rig: SweepRig) -> None:
        match = {"match": {"func": "expense"}, "mode": "http_status", "phase": "before", "args": {"status": 500}}
        await rig.rig.sandbox.control("POST", "faults", {**match, "times": None})

    with provider_role(database_url, tmp_path, broken):
        refused = shell.keyway("provider", "drift")

    assert (refused.status, refused.out) == (1, "")
    assert "isplicense could not be compared: the panel cannot be read: the expense ledger" in refused.err


def test_drift_without_a_provider_worker_says_so_and_leaves_the_question(shell: Shell, database_url: str) -> None:
    shell.export(database_url=database_url)
    never = shell.keyway("provider", "drift")

    async def enroll(connection: OwnConnection) -> None:
        await connection.execute("UPDATE provider_account SET in_use = true")

    on_database(database_url, enroll)
    refused = shell.keyway("provider", "drift", "--wait", 1)
    unknown = shell.keyway("provider", "drift", "--account", "nobody")

    async def asked(connection: OwnConnection) -> str:
        return str(await connection.fetchval("SELECT asked_by || ' ' || state FROM provider_sweep"))

    assert (never.status, never.out) == (1, "")
    assert "no provider account is in use" in never.err
    assert (refused.status, "no provider worker answered for account isplicense" in refused.err) == (1, True)
    assert on_database(database_url, asked) == "operator asked"
    assert (unknown.status, "there is no provider account nobody: there is isplicense" in unknown.err) == (1, True)
