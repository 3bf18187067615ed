"""Orders in four accounts of a panel that misbehaves on a third of the calls, carried by a worker that is killed again
and again.

In the end every license has one service, every service one charge per order and period, both sides agree, and the
panel's passwords stand nowhere. `SAGA_ORDERS=1000 SAGA_KILLS=20` is the long run; the short one is part of `make test`.
"""

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from urllib.parse import quote

import asyncpg
import pytest
import yaml

from keyway.cli.prepare import EXAMPLE_CATALOG
from keyway.cli.world_files import panel_password_file, provider_accounts_file
from keyway.ka.client import KeyAdministrator
from keyway.ka.forms import Order, operation_form
from keyway.localstack.plan import PANEL_USER
from shared.database.pool import open_pool
from shared.database.provider_accounts import PostgresProviderAccounts
from shared.database.provider_oversight import PostgresProviderOversight
from shared.domain.approval import TwoPeople
from shared.domain.catalog import FIRST_PROVIDER_ACCOUNT
from shared.domain.provider_order import OrderState
from tests.process.panel import PanelControl, files_with
from tests.process.whole_stack import WholeStack, order, until

ORDERS = int(os.environ.get("SAGA_ORDERS", "100"))
KILLS = int(os.environ.get("SAGA_KILLS", "5"))
SECONDS = 400.0 + ORDERS * 0.9
SETTLED_SECONDS = 240.0
"""For everything that is open to be settled: several quiet periods, and what other tests left."""
DRIFT_SECONDS = 300.0
AT_ONCE = 24
ORDERING = "*.order.param"
THIRD = 1 / 3
FAULTS: tuple[tuple[str, str | None, dict[str, object]], ...] = (
    ("slow", "before", {"ms": 1500}),
    ("slow", "after", {"ms": 1500}),
    ("drop", "before", {}),
    ("drop", "after", {}),
    ("reset", "before", {}),
    ("reset", "after", {}),
    ("http_status", "before", {"status": 502}),
    ("http_status", "after", {"status": 502}),
    ("error_doc", "before", {"type": "xml"}),
    ("error_doc", "after", {"type": "xml"}),
    ("truncate", None, {}),
    ("malformed_xml", None, {"kind": "unclosed"}),
    ("empty_body", "after", {}),
    ("no_id", None, {}),
    ("billion_laughs", None, {}),
    ("late_visible", None, {"ms": 2000}),
    ("long_page", None, {"hops": 2}),
)
SOFTWARE = "ISPMGR6-LITE"
ACCOUNTS = {"ISPMGR6-LITE": "isplicense", "PLESK12-WEB-ADMIN": "second", "ISPMGR5-LITE": "third", "BILLMGR": "fourth"}
"""The products that are ordered, each in an account of its own."""
PRODUCTS = tuple(ACCOUNTS)

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.process,
    pytest.mark.timeout(int(SECONDS + 2 * SETTLED_SECONDS + DRIFT_SECONDS) + 300),
]

LICENSES = """
SELECT license_id, status, (service ->> 'elid')::bigint AS elid, service ->> 'account' AS account
FROM license WHERE license_id = ANY($1::text[])
"""
LINKS = """
SELECT o.elid, count(*) FILTER (WHERE o.kind = 'order') AS orders, count(*) FILTER (WHERE o.kind = 'prolong') AS periods
FROM provider_order o WHERE o.state = 'confirmed' AND o.elid IS NOT NULL GROUP BY o.elid
"""


def an_order(number: int, product: str, address: str) -> Order:
    """Return an order for a month."""
    expires_on = datetime.now(UTC).date() + timedelta(days=300)  # the stack's clock is ahead; far enough for both
    return replace(order(number, product=product, expires_on=expires_on), activation_data=address)


async def buy(administrator: KeyAdministrator, wanted: Order, *, until_seconds: float) -> float:
    """Ask until the license is there, as KA does; return the seconds that it took."""
    began = time.monotonic()
    while True:
        exchange = await administrator.send(operation_form("PURCHASE", wanted))
        if exchange.status == 200:
            return time.monotonic() - began
        assert exchange.status in {None, 503, 504}, f"{wanted.number}: {exchange.status} {exchange.body!r}"
        assert time.monotonic() < until_seconds, f"{wanted.number}: still {exchange.status}"
        await asyncio.sleep(0.5)


def address_of(number: int) -> str:
    return f"198.{18 + number // 65_000 % 2}.{number // 250 % 256}.{number % 250 + 1}"


async def use_four_accounts(stack: WholeStack, folder: Path) -> None:
    """Put a catalog into force by which `PRODUCTS` are ordered in four accounts, and wait until everybody knows it."""
    document = yaml.safe_load(EXAMPLE_CATALOG.read_text())
    for product in document["products"]:
        if product["sku"] in ACCOUNTS:
            product["provider_account"] = ACCOUNTS[product["sku"]]
    file = folder / "catalog.yaml"
    file.write_text(yaml.safe_dump(document))
    environment = {**os.environ, "KEYWAY_DATABASE_URL": stack.now().database}
    command = [sys.executable, "-m", "keyway", "catalog", "apply", str(file)]
    await asyncio.to_thread(subprocess.run, command, env=environment, check=True, capture_output=True, timeout=60)
    connection = await asyncpg.connect(stack.now().database)
    try:
        version = await connection.fetchval("SELECT max(version) FROM catalog_version")
        in_use = await connection.fetch("SELECT name FROM provider_account WHERE in_use")
    finally:
        await connection.close()
    assert {row["name"] for row in in_use} == set(ACCOUNTS.values())

    async def is_taken() -> bool:
        logs = [log.read_text() for log in stack.state.glob("logs/license-*.log")]
        return all(re.search(rf'"catalog_version":{version}\b', log) for log in logs)

    await until(is_taken, seconds=60, what=f"catalog version {version} is taken")


async def test_every_license_costs_one_charge_whatever_breaks(
    stack: WholeStack, fresh_number: Iterator[int], tmp_path: Path
) -> None:
    panel = PanelControl.of(stack)
    await panel.calm()
    await use_four_accounts(stack, tmp_path)
    numbers = [next(fresh_number) for _ in range(ORDERS + len(PRODUCTS))]
    wanted = [an_order(number, PRODUCTS[at % len(PRODUCTS)], address_of(at)) for at, number in enumerate(numbers)]
    canaries, others = wanted[: len(PRODUCTS)], wanted[len(PRODUCTS) :]
    administrators = stack.administrators()
    deadline = time.monotonic() + SECONDS
    for canary in canaries:
        await buy(administrators[0], canary, until_seconds=deadline)
    await settle_all(stack, panel)
    deadline = time.monotonic() + SECONDS
    # Chance decides about most orders; these fates come about in any case, each several times as often as is asked for.
    await panel.first(ORDERS // 20, "drop", phase="before", func=ORDERING, user=user_of("isplicense"))
    await panel.first(ORDERS // 10, "drop", phase="after", func=ORDERING, user=user_of("third"))
    for mode, phase, args in FAULTS:
        await panel.often(mode, THIRD / len(FAULTS), func=ORDERING, phase=phase, **args)
    line = asyncio.Queue[Order]()
    for each in others:
        line.put_nowait(each)

    async def administer(administrator: KeyAdministrator) -> None:
        while not line.empty():
            await buy(administrator, line.get_nowait(), until_seconds=deadline)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(administer(administrators[n % len(administrators)])) for n in range(AT_ONCE)]
        kills = group.create_task(keep_killing(stack))
        people = group.create_task(decide_by_hand(stack, panel))
        await asyncio.wait(tasks)
        kills.cancel()
        people.cancel()
    await panel.calm()
    await settle_all(stack, panel)
    await assert_both_sides_agree(stack, panel, {f"ka:{each.number}": ACCOUNTS[each.product] for each in wanted})
    assert await asyncio.to_thread(drift, stack) == ""
    happened = await assert_it_was_no_picnic(stack)
    print(f"{len(wanted)} licenses, {len(await panel.charges())} charges in the ledger; {happened}")


def user_of(account: str) -> str:
    """Return the panel user of an account."""
    return PANEL_USER if account == FIRST_PROVIDER_ACCOUNT else f"keyway-{account}"


def drift(stack: WholeStack) -> str:
    """Return what `keyway provider drift` prints, as the provider worker found it; empty when both sides agree."""
    command = [sys.executable, "-m", "keyway", "provider", "drift", "--state-dir", str(stack.state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DRIFT_SECONDS)
    return done.stdout + done.stderr + (f"exit status {done.returncode}" if done.returncode else "")


async def assert_it_was_no_picnic(stack: WholeStack) -> dict[str, int]:
    """Return how often each thing happened to orders; a run without losses proves nothing."""
    connection = await asyncpg.connect(stack.now().database)
    try:
        rows = await connection.fetch("SELECT trigger, count(*) AS times FROM provider_step GROUP BY 1 ORDER BY 1")
    finally:
        await connection.close()
    happened = {row["trigger"]: row["times"] for row in rows}
    assert happened["lost"] >= ORDERS / 10
    assert happened["found"] >= ORDERS / 20
    assert happened["absent_released"] >= ORDERS / 50
    return happened


async def keep_killing(stack: WholeStack) -> None:
    """Kill the provider worker over and over, each time when it has had time to work."""
    for _ in range(KILLS):
        await asyncio.sleep(4.0)
        await until(lambda: stack.is_ready("provider-0"), seconds=SETTLED_SECONDS, what="the provider worker is back")
        await stack.kill("provider-0")
    await asyncio.Event().wait()


async def decide_by_hand(stack: WholeStack, panel: PanelControl) -> None:
    """Be the people: an order that was absent twice is ordered again once its books show nothing of it."""
    people = TwoPeople.of(["ann", "bob"])
    assert people is not None
    async with open_pool(stack.now().database) as pool:
        oversight = PostgresProviderOversight(pool)
        while True:
            for manual in await oversight.orders(states=[OrderState.MANUAL]):
                marked = [each for each in await panel.services() if manual.marker in str(each)]
                assert not marked, f"order {manual.order_id} is manual although its service is there: {marked}"
                await oversight.release(manual.order_id, by=people)
            await asyncio.sleep(1.0)


async def settle_all(stack: WholeStack, panel: PanelControl) -> None:
    """Wait until no order is open, those that other tests left included: looks are asked for, and people decide."""

    async def look_often() -> None:
        while True:
            await oversight.look_now()
            await asyncio.sleep(3.0)

    async def nothing_is_open() -> bool:
        async with pool.acquire() as connection:
            return not await connection.fetchval("SELECT count(*) FROM provider_order WHERE settled_at IS NULL")

    async with open_pool(stack.now().database) as pool, asyncio.TaskGroup() as group:
        oversight = PostgresProviderOversight(pool)
        beside = [group.create_task(look_often()), group.create_task(decide_by_hand(stack, panel))]
        await until(nothing_is_open, seconds=SETTLED_SECONDS, what="every order is settled")
        for task in beside:
            task.cancel()


async def assert_both_sides_agree(stack: WholeStack, panel: PanelControl, accounts: dict[str, str]) -> None:
    """One live service per license, one order charge per service, no service without a license, nothing unresolved.

    `accounts` tells in which account each license had to be ordered.
    """
    license_ids = list(accounts)
    connection = await asyncpg.connect(stack.now().database)
    try:
        licenses = await connection.fetch(LICENSES, license_ids)
        links = {row["elid"]: (row["orders"], row["periods"]) for row in await connection.fetch(LINKS)}
        twice = await connection.fetch(
            "SELECT license_id FROM provider_order WHERE kind = 'order' AND state = 'confirmed'"
            " AND license_id = ANY($1) GROUP BY 1 HAVING count(*) > 1",
            license_ids,
        )
    finally:
        await connection.close()
    assert {row["status"] for row in licenses} == {"active"}
    assert len({row["elid"] for row in licenses}) == len(license_ids)
    assert twice == []
    charged: dict[int, int] = {}
    for charge in await panel.charges():
        charged[charge["license"]] = charged.get(charge["license"], 0) + 1
    assert charged == {elid: orders + periods for elid, (orders, periods) in links.items()}
    services = {service["id"]: service for service in await panel.services()}
    assert set(services) == set(links), "no service without an order"
    assert {row["license_id"]: row["account"] for row in licenses} == accounts
    users = {row["license_id"]: services[row["elid"]]["user"] for row in licenses}
    assert users == {license_id: user_of(account) for license_id, account in accounts.items()}


async def test_a_hanging_provider_holds_up_no_local_product(stack: WholeStack, fresh_number: Iterator[int]) -> None:
    panel = PanelControl.of(stack)
    await panel.calm()
    administrator = stack.administrators()[0]

    async def bronze(count: int) -> float:
        """Buy one after the other, each at the first try; return the median of the seconds, for people to read.

        A busy machine may hold up one of them; what waits for the provider is held up again and again.
        """
        exchanges = [
            await administrator.send(operation_form("PURCHASE", order(next(fresh_number)))) for _ in range(count)
        ]
        held_up = [str(exchange) for exchange in exchanges if exchange.status != 200]
        assert len(held_up) <= 1, held_up
        return median(exchange.seconds for exchange in exchanges)

    async def an_order_hangs() -> bool:
        async with pool.acquire() as connection:
            return bool(await connection.fetchval("SELECT count(*) FROM provider_order WHERE state = 'sending'"))

    before = await bronze(60)
    await panel.often("hang", 1.0, func=ORDERING, phase="before", max_ms=20_000)
    async with open_pool(stack.now().database) as pool, asyncio.TaskGroup() as group:
        hanging = [
            group.create_task(
                administrator.send(
                    operation_form("PURCHASE", an_order(next(fresh_number), SOFTWARE, address_of(9000 + n)))
                )
            )
            for n in range(8)
        ]
        await until(an_order_hangs, seconds=SETTLED_SECONDS, what="an order is with the panel")
        meanwhile = await bronze(60)
        answered = [task.result().status for task in hanging if task.done()]
        assert 200 not in answered, "the provider was to hang all the while"
        await panel.calm()
        for task in hanging:
            task.cancel()
    print(f"Bronze: {before * 1000:.1f} ms before, {meanwhile * 1000:.1f} ms with a hanging provider")


async def test_an_account_that_hangs_leaves_the_orders_of_another_flowing(
    stack: WholeStack, fresh_number: Iterator[int], tmp_path: Path
) -> None:
    panel = PanelControl.of(stack)
    await panel.calm()
    await use_four_accounts(stack, tmp_path)
    administrators = stack.administrators()
    deadline = time.monotonic() + SECONDS

    async def administer(product: str, at: int) -> float:
        wanted = an_order(next(fresh_number), product, address_of(at))
        return await buy(administrators[at % len(administrators)], wanted, until_seconds=deadline)

    await administer(SOFTWARE, 8000)  # that the lists are complete is known by a service that must stand in them
    await panel.often("hang", 1.0, func="*", user=PANEL_USER, phase="before", max_ms=10_000)
    async with asyncio.TaskGroup() as group:
        hanging = [group.create_task(administer(SOFTWARE, 8001 + n)) for n in range(80)]
        await asyncio.sleep(1.0)
        others = [group.create_task(administer("PLESK12-WEB-ADMIN", 8100 + n)) for n in range(12)]
        await asyncio.gather(*others)
        assert not any(task.done() for task in hanging), "the first account hangs all the while"
        await panel.calm()


async def test_the_panel_passwords_stand_nowhere(stack: WholeStack, fresh_number: Iterator[int]) -> None:
    panel = PanelControl.of(stack)
    further = {account["user"]: account["password"] for account in json.loads(accounts_file(stack).read_bytes())}
    passwords = {PANEL_USER: panel_password_file(stack.state).read_text().strip(), **further}
    assert len(passwords) == len(ACCOUNTS)
    await panel.calm()
    administrator = stack.administrators()[0]
    for at, product in enumerate(PRODUCTS):  # without one that stands in the lists, what gets lost is never settled
        canary = an_order(next(fresh_number), product, f"198.19.253.{at + 9}")
        await buy(administrator, canary, until_seconds=time.monotonic() + SECONDS)
    for mode, phase in (("error_doc", "before"), ("http_status", "before"), ("truncate", None)):
        await panel.often(mode, 0.5, func=ORDERING, phase=phase)
    async with asyncio.TaskGroup() as group:
        for at, product in enumerate(PRODUCTS):
            wanted = an_order(next(fresh_number), product, f"198.19.254.{at + 9}")
            group.create_task(administrator.send(operation_form("PURCHASE", wanted)))
    await panel.calm()
    needles = [needle for user, password in passwords.items() for needle in in_all_encodings(user, password)]
    secret_files = [panel_password_file(stack.state), accounts_file(stack)]
    for file in secret_files:
        assert any(needle in file.read_bytes() for needle in needles), "the needles find what is there"
    names = {file.name for file in secret_files}
    hits = await asyncio.to_thread(files_with, needles, stack.state, spared=names)
    assert [hit for hit in hits if not hit.startswith("sandbox/")] == [], "the panel itself may know its passwords"


def accounts_file(stack: WholeStack) -> Path:
    return provider_accounts_file(stack.state)


def in_all_encodings(user: str, password: str) -> list[bytes]:
    """Return every form in which a password could have slipped out."""
    plain = password.encode()
    return [
        plain,
        quote(password, safe="").encode(),
        plain.hex().encode(),
        base64.b64encode(f"{user}:{password}".encode()).rstrip(b"="),
        base64.b64encode(plain).rstrip(b"="),
        base64.urlsafe_b64encode(plain).rstrip(b"="),
        password.encode("utf-16-le"),
    ]


async def test_the_accounts_tell_whether_they_pause(stack: WholeStack) -> None:
    await PanelControl.of(stack).calm()
    async with open_pool(stack.now().database) as pool:
        accounts = PostgresProviderAccounts(pool)
        assert set(await accounts.accepting()) == set(ACCOUNTS.values())

        async def all_take_orders() -> bool:  # a pause that the losses of another test brought ends by itself
            return all((await accounts.accepting()).values())

        await until(all_take_orders, seconds=SETTLED_SECONDS, what="every account takes orders")
