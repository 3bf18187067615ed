"""`keyway provider` on a real database and a real sandbox: lists, people's decisions, and drift both ways."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import orjson
import pytest

from shared.contracts.envelope import new_id
from shared.database.pool import OwnConnection, connected
from tests.command_line import Shell, shell

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


def test_an_unknown_order_makes_reconcile_fail_until_it_is_settled(shell: Shell, manual_order: UUID) -> None:
    open_one = shell.keyway("provider", "reconcile", "--wait", 0)
    shell.keyway("provider", "cancel", manual_order, "--by", "ann")
    settled = shell.keyway("provider", "reconcile", "--wait", 0, "--json")

    assert (open_one.status, str(manual_order) in open_one.out) == (1, True)
    assert (settled.status, settled.document) == (0, {"undecided": []})


def test_drift_without_a_panel_says_which_setting_is_missing(shell: Shell, manual_order: UUID) -> None:
    refused = shell.keyway("provider", "drift")

    assert (refused.status, "KEYWAY_PROVIDER_ISPLICENSE_URL" in refused.err) == (1, True)
