"""Partner commands on real PostgreSQL: all or nothing, races between workers, redeliveries, keys of other protocols."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from shared.contracts.commands import LicenseCommand
from shared.contracts.identifiers import LicenseId
from shared.contracts.key_commands import (
    Idempotency,
    KeyReference,
    ModifyKey,
    RenewKey,
    TerminateKey,
    WantedActivation,
    WantedItem,
)
from shared.contracts.replies import Reply, ReplyStatus
from shared.database.license_queries import license_story
from shared.database.license_store import PostgresLicenseStore
from shared.database.owners import PostgresOwners
from shared.database.pool import connected, open_pool
from shared.domain.case import Rules
from shared.domain.key_owners import OwnerKind
from tests.builders import a_purchase, a_renew, an_envelope
from tests.key_builders import RULES, a_create, members
from tests.unit.test_license_handler import FixedClock, Notes, PlainSigner, received
from workers.license.handler import LicenseHandler
from workers.license.sheet import Handled

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

NOW = datetime(2027, 2, 5, 9, 30, tzinfo=UTC)
MON = WantedItem(item="360-MON-1M")
PLESK = WantedItem(item="PLESK-12-WEB-ADMIN-1M")


class ExampleRules:
    def current(self) -> Rules:
        return RULES


@dataclass
class Worker:
    """One license worker with a connection of its own."""

    store: PostgresLicenseStore
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    notes: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        self.handler = LicenseHandler(
            store=self.store,
            signer=PlainSigner(),
            rules=ExampleRules(),
            observer=self.notes,
            listener=self.notes,
            business_clock=self.clock,
            system_clock=FixedClock(datetime.now(UTC)),
            issuer="keyway",
        )

    async def send(self, *commands: LicenseCommand) -> Sequence[Handled]:
        return await self.handler.handle([received(an_envelope(command)) for command in commands])

    async def ask(self, command: LicenseCommand) -> Reply:
        (handled,) = await self.send(command)
        assert handled.reply is not None, handled.dead_letter
        return handled.reply


@pytest_asyncio.fixture
async def world(database_url: str) -> AsyncIterator[str]:
    """The owners of the examples: a reseller with three clients, and an ISV account of the first of them."""
    async with connected(database_url) as connection:
        for name, role in (("partner", "partner"), ("ka", "ka")):
            await connection.execute(
                "INSERT INTO account (name, role, secret_hash) VALUES ($1, $2, '$argon2id$none')", name, role
            )
    async with open_pool(database_url) as pool:
        owners = PostgresOwners(pool)
        await owners.add("20001", OwnerKind.RESELLER)
        for client in ("10001", "10002"):
            await owners.add(client, OwnerKind.CLIENT, reseller="20001")
        for configuration, owner, default in ((101, "10001", True), (102, "10001", False), (201, "10002", True)):
            await owners.add_configuration(configuration, owner, default=default)
        await owners.link("partner", "20001", default_client="10001")
        await owners.link("ka", "10001")
    yield database_url


@asynccontextmanager
async def workers(database_url: str, count: int = 1) -> AsyncIterator[list[Worker]]:
    made = [Worker(PostgresLicenseStore(database_url)) for _ in range(count)]
    try:
        yield made
    finally:
        for worker in made:
            await worker.store.close()


def a_key(number: str, *items: WantedItem, **given: Any) -> Any:
    return replace(a_create(items=items or (PLESK,), **given), number=number)


def put(number: str, *, account: str = "partner", **given: Any) -> Any:
    return ModifyKey(account=account, number=number, asked_by="partner", members=members(**given), return_state=True)


def state(reply: Reply) -> dict[str, Any]:
    assert reply.status is ReplyStatus.KEY_STATE, (reply.meta, reply.body)
    told: dict[str, Any] = json.loads(reply.body)
    return told


def code(reply: Reply) -> str:
    assert reply.status is ReplyStatus.REJECTED, reply
    return reply.meta.decode()


async def rows(database_url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    async with connected(database_url) as connection:
        found: list[asyncpg.Record] = await connection.fetch(query, *arguments)
        return found


async def events_of(database_url: str, license_id: str) -> list[str]:
    told = await rows(
        database_url, "SELECT type, sequence FROM outbox WHERE license_id = $1 ORDER BY sequence", license_id
    )
    assert [row["sequence"] for row in told] == list(range(1, len(told) + 1))
    return [row["type"].removeprefix("keyway.license.") for row in told]


async def assert_whole(database_url: str, license_id: str) -> None:
    async with connected(database_url) as connection:
        story = await license_story(connection, LicenseId(license_id))
    assert story is not None
    assert story.audit_fault is None


async def test_a_created_key_has_the_number_as_its_id_and_comes_back_as_told(world: str) -> None:
    async with workers(world) as (worker,):
        reply = await worker.ask(a_key("20240317", nickname="shop", address="2001:0db8::17"))
        told = state(reply)
        again = state(await worker.ask(put("20240317", nickname="shop")))

    assert reply.meta == b"20240317"
    assert told["keyIdentifiers"]["keyNumber"] == "PLSK.20240317.0000"
    assert (told["ownerId"], told["productConfigurationId"], told["nickname"]) == ("10001", 101, "shop")
    assert told["ipAddressBinding"] == "2001:db8::17"
    assert again == told
    (row,) = await rows(world, "SELECT key_id, activation_code, version FROM license WHERE number = '20240317'")
    assert (row["key_id"], row["activation_code"]) == (20240317, told["keyIdentifiers"]["activationCode"])
    assert await events_of(world, "partner:20240317") == ["issued"]


async def test_a_redelivered_command_has_one_effect_and_the_same_bytes(world: str) -> None:
    async with workers(world) as (worker,):
        made = received(an_envelope(a_key("20240317")))
        changed = received(
            an_envelope(put("20240317", nickname="eu-7", items=(WantedItem(item="PLESK-12-WEB-PRO-1M"),)))
        )
        first = [(await worker.handler.handle([each]))[0] for each in (made, changed)]
        second = [(await worker.handler.handle([each]))[0] for each in (made, changed)]

    assert [one.reply and one.reply.body for one in first] == [one.reply and one.reply.body for one in second]
    assert await events_of(world, "partner:20240317") == ["issued", "upgraded", "modified"]
    assert worker.notes.outcomes == ["done", "done", "redelivered", "redelivered"]


async def test_a_put_repeated_with_a_new_command_id_finds_nothing_to_do(world: str) -> None:
    async with workers(world) as (worker,):
        await worker.ask(a_key("20240317"))
        first = await worker.ask(put("20240317", nickname="eu-7", suspended=True))
        second = await worker.ask(put("20240317", nickname="eu-7", suspended=True))

    assert first.body == second.body
    assert await events_of(world, "partner:20240317") == ["issued", "suspended", "modified"]


async def test_a_refused_operation_leaves_nothing_of_the_others(world: str) -> None:
    async with workers(world) as (worker,):
        before = state(await worker.ask(a_key("20240317")))
        refused = await worker.ask(
            put(
                "20240317",
                items=(WantedItem(item="PLESK-12-WEB-HOST-1M"),),
                address="203.0.113.8",
                configuration_id=999,
                nickname="never seen",
            )
        )
        after = state(await worker.ask(put("20240317", nickname="")))

    assert (code(refused), json.loads(refused.body)) == ("key_configuration_unsuitable", {"configuration": "999"})
    assert after == before
    assert await events_of(world, "partner:20240317") == ["issued"]


async def test_two_puts_at_once_are_applied_one_after_the_other(world: str) -> None:
    async with workers(world, 2) as (one, two):
        await one.ask(a_key("20240317"))
        for attempt in range(10):
            await asyncio.gather(
                one.ask(put("20240317", nickname=f"n{attempt}")),
                two.ask(put("20240317", configuration_id=102 if attempt % 2 else 101, auto_renew=bool(attempt % 2))),
            )
        told = state(await one.ask(put("20240317", nickname="n9")))

    assert (told["nickname"], told["productConfigurationId"], told["autoRenew"]) == ("n9", 102, True)
    assert (await events_of(world, "partner:20240317")).count("modified") == 20
    await assert_whole(world, "partner:20240317")


async def test_one_address_bound_twice_at_once_is_bound_once(world: str) -> None:
    async with workers(world, 2) as (one, two):
        await one.send(a_key("00000001"), a_key("00000002"))
        replies = await asyncio.gather(
            one.ask(put("00000001", address="203.0.113.7")), two.ask(put("00000002", address="203.0.113.7"))
        )

    statuses = sorted(reply.status for reply in replies)
    assert statuses == [ReplyStatus.REJECTED, ReplyStatus.KEY_STATE]
    assert {code(reply) for reply in replies if reply.status is ReplyStatus.REJECTED} == {"key_address_taken"}


async def test_one_address_bound_twice_in_one_batch_is_bound_once_without_a_conflict(world: str) -> None:
    async with workers(world) as (worker,):
        await worker.send(a_key("00000001"), a_key("00000002"))
        first, second = await worker.send(
            put("00000001", address="203.0.113.7"), put("00000002", address="203.0.113.7")
        )

    assert first.reply is not None
    assert second.reply is not None
    assert (first.reply.status, code(second.reply)) == (ReplyStatus.KEY_STATE, "key_address_taken")
    assert worker.notes.conflicts == 0


async def test_an_address_is_free_again_once_its_key_is_terminated(world: str) -> None:
    async with workers(world) as (worker,):
        await worker.send(a_key("00000001", address="203.0.113.7"), a_key("00000002"))
        taken = await worker.ask(put("00000002", address="203.0.113.7"))
        await worker.ask(TerminateKey(account="partner", number="00000001", asked_by="partner"))
        free = await worker.ask(put("00000002", address="203.0.113.7"))

    assert code(taken) == "key_address_taken"
    assert state(free)["ipAddressBinding"] == "203.0.113.7"


async def test_one_uid_activates_one_key_of_a_product(world: str) -> None:
    wanted = WantedActivation(uid="ops@example.org")
    async with workers(world, 2) as (one, two):
        await one.send(a_key("00000001", MON), a_key("00000002", MON))
        replies = await asyncio.gather(
            one.ask(put("00000001", activation=wanted)), two.ask(put("00000002", activation=wanted))
        )

    assert sorted(reply.status for reply in replies) == [ReplyStatus.REJECTED, ReplyStatus.KEY_STATE]
    assert {code(reply) for reply in replies if reply.status is ReplyStatus.REJECTED} == {"key_activation_refused"}


async def test_children_move_with_their_parent_each_with_an_event_and_an_audit_of_its_own(world: str) -> None:
    async with workers(world) as (worker,):
        await worker.send(a_key("00000001"), a_key("00000002", MON, parent=KeyReference(key_id=1)))
        told = state(await worker.ask(put("00000001", owner_id="10002", nickname="handed over")))
        child = state(await worker.ask(put("00000002", nickname="")))

    assert (told["ownerId"], told["productConfigurationId"]) == ("10002", 201)
    assert [each["keyId"] for each in told["childKeyIdentifiers"]] == [2]
    assert (child["ownerId"], child["productConfigurationId"]) == ("10002", 201)
    assert child["parentKeyIdentifiers"]["keyNumber"] == "PLSK.00000001.0000"
    assert await events_of(world, "partner:00000001") == ["issued", "moved", "modified"]
    assert await events_of(world, "partner:00000002") == ["issued", "moved"]
    await assert_whole(world, "partner:00000001")
    await assert_whole(world, "partner:00000002")


async def test_a_parent_that_moves_while_a_child_is_attached_leaves_them_with_one_owner(world: str) -> None:
    async with workers(world, 2) as (one, two):
        for number in range(1, 21, 2):
            parent, child = f"{number:08}", f"{number + 1:08}"
            await one.send(a_key(parent), a_key(child, MON))
            moved, attached = await asyncio.gather(
                one.ask(put(parent, owner_id="10002")), two.ask(put(child, parent=KeyReference(key_id=number)))
            )
            assert state(moved)["ownerId"] == "10002"
            owner = state(await one.ask(put(child, auto_renew=True)))["ownerId"]
            if attached.status is ReplyStatus.REJECTED:
                assert (code(attached), owner) == ("key_parent_unsuitable", "10001")
            else:
                assert owner == "10002"


async def test_two_children_of_one_type_are_never_attached_to_one_parent(world: str) -> None:
    async with workers(world, 2) as (one, two):
        await one.send(a_key("00000001"), a_key("00000002", MON), a_key("00000003", MON))
        replies = await asyncio.gather(
            one.ask(put("00000002", parent=KeyReference(key_id=1))),
            two.ask(put("00000003", parent=KeyReference(key_number="PLSK.00000001.0000"))),
        )

    assert sorted(reply.status for reply in replies) == [ReplyStatus.REJECTED, ReplyStatus.KEY_STATE]


async def test_a_named_create_asked_again_with_another_number_makes_one_key(world: str) -> None:
    named = Idempotency(key="order-7", body_sha256="ab" * 32)
    async with workers(world, 2) as (one, two):
        first, second = await asyncio.gather(
            one.ask(replace(a_key("00000001"), idempotency=named)),
            two.ask(replace(a_key("00000002"), idempotency=named)),
        )
        third = await one.ask(replace(a_key("00000003"), idempotency=named))
        other = await one.ask(replace(a_key("00000004"), idempotency=replace(named, body_sha256="cd" * 32)))

    assert (first.meta, first.body) == (second.meta, second.body) == (third.meta, third.body)
    assert (code(other), json.loads(other.body)) == ("key_repeat_differs", {"parameter": "Idempotency-Key"})
    assert len(await rows(world, "SELECT 1 FROM license")) == 1


async def test_a_license_of_a_linked_isv_account_is_changed_here_and_goes_on_there(world: str) -> None:
    async with workers(world) as (worker,):
        await worker.ask(a_purchase())
        suspended = state(await worker.ask(put("00481516", account="ka", suspended=True, nickname="isv")))
        renewed = await worker.ask(a_renew())
        told = state(await worker.ask(put("00481516", account="ka", nickname="isv")))
        refused = await worker.ask(put("00481516", account="ka", items=(PLESK,)))
        resumed = state(await worker.ask(put("00481516", account="ka", suspended=False)))
        further = state(
            await worker.ask(RenewKey(account="ka", number="00481516", asked_by="partner", return_state=True))
        )

    assert (suspended["ownerId"], suspended["status"]) == ("10001", "SUSPENDED")
    assert suspended["items"] == [{"externalId": None, "item": "Bronze"}]
    assert renewed.status is ReplyStatus.LICENSE_BODY
    assert (told["suspended"], told["nickname"], told["expirationDate"]) == (True, "isv", "2027-04-15T00:00:00.000Z")
    assert code(refused) == "key_suspended"
    assert resumed["status"] == "ACTIVE"
    assert further["expirationDate"] == "2027-05-15T00:00:00.000Z"
    assert await events_of(world, "ka:00481516") == [
        "issued", "suspended", "modified", "renewed", "resumed", "modified", "renewed",
    ]  # fmt: skip


async def test_a_license_of_an_account_that_is_not_linked_is_not_found(world: str) -> None:
    async with workers(world) as (worker,):
        await worker.ask(a_purchase(account="elsewhere"))
        reply = await worker.ask(put("00481516", account="elsewhere", nickname="x"))

    assert code(reply) == "key_unknown"


async def test_create_and_changes_of_one_key_fold_in_order_within_a_batch(world: str) -> None:
    async with workers(world) as (worker,):
        handled = await worker.send(
            a_key("00000001"),
            a_key("00000002", MON),
            put("00000002", parent=KeyReference(key_id=1)),
            put("00000001", items=(WantedItem(item="PLESK-12-WEB-HOST-1M"),)),
            put("00000002", nickname="child"),
            TerminateKey(account="partner", number="00000001", asked_by="partner", return_state=True),
            put("00000001", nickname="too late"),
        )
    told = [one.reply for one in handled if one.reply is not None]
    assert state(told[4])["parentKeyIdentifiers"]["keyNumber"] == "PLSK.00000001.0001"
    assert state(told[5])["status"] == "TERMINATED"
    assert code(told[6]) == "key_terminated"
    assert await events_of(world, "partner:00000001") == ["issued", "upgraded", "modified", "terminated"]
    assert await events_of(world, "partner:00000002") == ["issued", "modified", "modified"]
