"""A license of a provider product changed through the Partner API, in the whole stack: real panel, real processes."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from keyway.sandbox.status import Status
from shared.database.owners import PostgresOwners
from shared.database.pool import connected, open_pool
from tests.process.panel import PanelControl
from tests.process.partner_client import Partner, Told, an_address
from tests.process.test_provider_saga import ORDERING, SOFTWARE, an_order, buy
from tests.process.whole_stack import TEST_SECONDS, WholeStack, until

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(TEST_SECONDS)]

SECONDS = 150.0
STATE = "?return-key-state=yes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A license bought over the ISV endpoint by an account that is linked to the partner's client."""

    stack: WholeStack
    panel: PanelControl
    partner: Partner
    license_id: str
    key_id: int
    server: str

    def change(self) -> dict[str, Any]:
        """A PUT of several operations, an upgrade among them."""
        return {
            "items": [{"item": "ISPMGR6-PRO"}],
            "ipAddressBinding": self.server,
            "productConfigurationId": 102,
            "nickname": f"saga {self.license_id}",
            "autoRenew": False,
        }

    async def services(self) -> dict[int, str]:
        """The panel's running services for the server: id and price list."""
        return {
            each["id"]: each["pricelist"]
            for each in await self.panel.services()
            if each["ip"] == self.server and each["status"] == Status.ACTIVE
        }

    async def charges(self) -> dict[int, int]:
        """How often each service of the server was charged."""
        mine = {each["id"] for each in await self.panel.services() if each["ip"] == self.server}
        charged = [charge["license"] for charge in await self.panel.charges()]
        return {elid: charged.count(elid) for elid in mine if elid in charged}

    async def asked_for(self) -> dict[int, int]:
        """How many orders and periods of each service we know to be confirmed."""
        found = await self.rows(
            "SELECT elid, count(*) AS times FROM provider_order"
            " WHERE license_id = $1 AND state = 'confirmed' AND kind IN ('order', 'prolong') GROUP BY elid"
        )
        return {row["elid"]: row["times"] for row in found}

    async def rows(self, query: str) -> list[asyncpg.Record]:
        async with connected(self.stack.now().database) as connection:
            found: list[asyncpg.Record] = await connection.fetch(query, self.license_id)
            return found

    async def events(self) -> list[str]:
        """The public events of the license, in order."""
        told = await self.rows(
            "SELECT type FROM outbox WHERE license_id = $1 AND sequence IS NOT NULL ORDER BY sequence"
        )
        return [row["type"].removeprefix("keyway.license.") for row in told]

    async def everything(self) -> tuple[Any, ...]:
        """All that anybody can see: the key with its children, its events, what is upstream."""
        (row,) = await self.rows("SELECT product, status, revision, service, key FROM license WHERE license_id = $1")
        return await self.partner.read(self.key_id), tuple(row), await self.events(), await self.services()

    async def repeated(self, *, until: int = 200) -> Told:
        """Send the PUT until its answer is known, as a client does; one with the status `until` is what is wanted."""
        ends = time.monotonic() + SECONDS
        while True:
            told = await self.partner.put(self.key_id, self.change(), STATE, once=True)
            if told.status == until or told.status not in {503, 504}:
                return told
            assert time.monotonic() < ends, told
            await asyncio.sleep(0.2)

    async def is_sent(self) -> bool:
        """Whether an order of the upgrade is with the panel now."""
        found = await self.rows(
            "SELECT 1 FROM provider_order WHERE license_id = $1 AND state = 'sending' AND settled_at IS NULL"
        )
        return bool(found)


@pytest_asyncio.fixture
async def scene(stack: WholeStack, fresh_number: Iterator[int]) -> AsyncIterator[Scene]:
    panel = PanelControl.of(stack)
    await panel.calm()
    number, server = next(fresh_number), an_address()
    administrator = stack.administrators()[0]
    await buy(administrator, an_order(number, SOFTWARE, server), until_seconds=time.monotonic() + SECONDS)
    async with open_pool(stack.now().database) as pool:
        owners = PostgresOwners(pool)
        await owners.link("ka", "10001")
        try:
            license_id = f"ka:{number:08}"
            key_id = await pool.fetchval("SELECT key_id FROM license WHERE license_id = $1", license_id)
            yield Scene(
                stack=stack,
                panel=panel,
                partner=Partner.of(stack.state),
                license_id=license_id,
                key_id=key_id,
                server=server,
            )
        finally:
            await owners.unlink("ka")
            await panel.calm()
            await panel.forget_unpaid(server)  # no service without an order is to be left to those who compare


async def assert_upgraded_once(scene: Scene, told: Told) -> None:
    """The whole plan is there, once: one event of each kind, one charge, one service, one reply."""
    assert told.status == 200, told
    shown = told.document
    assert shown["items"] == [{"externalId": None, "item": "ISPMGR6-PRO"}]
    assert shown["keyIdentifiers"]["keyNumber"].endswith(".0001")
    assert {name: shown[name] for name in scene.change() if name != "items"} == {
        name: value for name, value in scene.change().items() if name != "items"
    }
    assert await scene.partner.read(scene.key_id) == shown
    assert await scene.events() == ["issued", "upgraded", "modified"]

    async def the_old_one_is_gone() -> bool:
        return len(await scene.services()) == 1

    await until(the_old_one_is_gone, seconds=SECONDS, what="the old service is released")
    charged = await scene.charges()
    assert charged == await scene.asked_for()
    assert len(charged) == 2, "the service that was bought, and the one that it became"


async def test_a_refusal_in_the_middle_of_a_modification_leaves_everything_as_before(scene: Scene) -> None:
    before, charged = await scene.everything(), await scene.charges()
    planned = await scene.partner.put(scene.key_id, scene.change(), "?dry-run=true")
    assert planned.document["operations"] == ["UPGRADE", "IPBIND", "CONFIG", "NICKNAME", "AUTORENEW"]
    assert await scene.everything() == before
    for mode, args, status, type_ in (
        ("error_doc", {"type": "value", "object": "ip"}, 502, "30051"),
        ("balance_exhausted", {"money": "payment_required"}, 503, "30052"),
    ):
        await scene.panel.often(mode, 1.0, func=ORDERING, phase="before", **args)
        refused = await scene.repeated(until=status)
        await scene.panel.calm()
        assert refused.error[:2] == (status, type_)
        assert await scene.everything() == before
        assert await scene.charges() == charged
    await assert_upgraded_once(scene, await scene.repeated())


async def test_what_cannot_be_done_is_refused_before_anything_is_ordered(scene: Scene) -> None:
    before = await scene.everything()
    for given, type_ in (
        ({"productConfigurationId": 999}, "30025"),
        ({"suspended": True}, "30010"),
        ({"ownerId": "10002"}, "30010"),
        ({"items": [{"item": "ISPMGR7"}]}, "30022"),
        ({"items": [{"item": "BILLMGR"}]}, "30023"),
    ):
        assert (await scene.partner.put(scene.key_id, {**scene.change(), **given})).error[:2] == (400, type_), given
    assert await scene.everything() == before
    assert len(await scene.rows("SELECT 1 FROM provider_order WHERE license_id = $1")) == 1


async def test_a_slow_panel_is_504_and_the_repeat_gets_the_answer(scene: Scene) -> None:
    await scene.panel.often("slow", 1.0, func=ORDERING, phase="before", ms=10_000)
    first = await scene.repeated(until=504)
    assert first.error[:2] == (504, "30053")
    assert int(first.headers["retry-after"]) > 0
    waiting = await scene.partner.read(scene.key_id)
    assert waiting["items"] == [{"externalId": None, "item": SOFTWARE}]
    await assert_upgraded_once(scene, await scene.repeated())


async def test_workers_killed_between_order_and_confirmation_change_nothing_about_the_end(scene: Scene) -> None:
    await scene.panel.often("slow", 1.0, func=ORDERING, phase="after", ms=3000)
    async with asyncio.TaskGroup() as group:
        put = group.create_task(scene.repeated())
        await until(scene.is_sent, seconds=SECONDS, what="the order is with the panel")
        for name in ("license-0", "provider-0"):
            await scene.stack.kill(name)
        await scene.panel.calm()
    await scene.stack.wait_until_healthy()
    await assert_upgraded_once(scene, put.result())


async def test_a_termination_ends_the_key_at_once_and_keeps_the_service_for_its_wind_down(scene: Scene) -> None:
    services = await scene.services()
    told = await scene.partner.put(scene.key_id, {"terminated": True, "nickname": "bye"}, STATE)
    assert (told.status, told.document["status"], told.document["nickname"]) == (200, "TERMINATED", "bye")
    assert await scene.events() == ["issued", "modified", "terminated"]
    assert await scene.services() == services
