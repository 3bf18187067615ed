"""What the Partner API reads: who sees which key, every search filter, numbers of new keys, and the owner verbs."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import orjson
import pytest
import pytest_asyncio

from keyway.cli.prepare import _ensure_owners
from shared.contracts.identifiers import license_id
from shared.contracts.key_commands import KeyReference
from shared.database.accounts import PostgresAccounts
from shared.database.key_queries import PostgresKeyNumbers, PostgresKeyQueries
from shared.database.owners import PostgresOwners
from shared.database.pool import Pool, open_pool
from shared.database.reader import open_reading_pool
from shared.domain.key_details import KeyDetails, KeyItem, MonthlyActivations, ParentKey
from shared.domain.key_owners import OwnerKind
from shared.domain.key_queries import FoundKey, FraudKind, KeyFilter, KeyType
from shared.errors import StoreRefusedError
from shared.security.account_secrets import hash_secret
from shared.security.accounts import Role
from tests.command_line import Shell, shell

__all__ = ["shell"]

pytestmark = pytest.mark.services

NOW = datetime(2027, 2, 20, 12, tzinfo=UTC)
MADE = datetime(2027, 2, 5, 10, 15, 30, 120_000, tzinfo=UTC)
CODE = "QK10A7-ZZ81MM-04TB5X-PL9W2C-7HD3RE"
PLAIN = KeyDetails(
    key_id=10_000_001,
    activation_code=CODE,
    owner="10001",
    configuration=101,
    items=(KeyItem(item="PLESK-12-WEB-ADMIN-1M", external_id="S-1"),),
    family="plesk",
    created_at=MADE,
    modified_at=MADE,
    update_on=date(2027, 3, 5),
)


class StillClock:
    def now(self) -> datetime:
        return NOW


class World:
    """A database with the example owners, and keys written into it as a worker would leave them."""

    def __init__(self, pool: Pool, reading: Pool) -> None:
        self.pool = pool
        self.queries = PostgresKeyQueries(reading, StillClock())
        self.owners = PostgresOwners(pool)

    async def key(self, details: KeyDetails | None, **changes: Any) -> None:
        """Write a license; without details it is one that the Partner API never changed."""
        row: dict[str, Any] = {
            "account_id": "partner",
            "key_id": details.key_id if details else 0,
            "activation_code": details.activation_code if details else None,
            "product": "PLESK-12-WEB-ADMIN-1M",
            "status": "active",
            "suspended": False,
            "expires_on": date(2027, 3, 15),
            "subscription_on": None,
            "terminated_at": None,
            "key_version": 0,
            "revision": 1,
            "key": None if details is None else orjson.dumps(details).decode(),
            **changes,
        }
        row.setdefault("number", f"{row['key_id']:08}")
        row["license_id"] = license_id(row["account_id"], row["number"])
        async with self.pool.acquire() as connection:
            places = ", ".join(f"${place}" for place in range(1, len(row) + 2))
            await connection.execute(
                f"INSERT INTO license ({', '.join(row)}, audit_sha256, model, test, sequence)"  # noqa: S608 - our names
                f" VALUES ({places}, 'standard', false, 1)",
                *row.values(),
                bytes(32),
            )
            await connection.execute(
                "INSERT INTO revision (license_id, revision, cause, product, expires_on, issued_at, body_sha256, body)"
                " VALUES ($1, 1, 'issued', 'x', '2027-03-15', now(), $2, $3)",
                row["license_id"],
                hashlib.sha256(b"body").digest(),
                b"body",
            )

    async def ids(self, account: str = "partner", **wanted: Any) -> list[int]:
        """Search; return the key ids."""
        found = await self.queries.search(account, KeyFilter(**wanted))
        assert found is not None
        return [line["keyId"] for line in json.loads(found)]

    async def structure(self, key_id: int, account: str = "partner") -> dict[str, Any] | None:
        found = await self.queries.structure(account, KeyReference(key_id=key_id))
        return None if found is None else json.loads(found)


def another(number: int, **changes: Any) -> KeyDetails:
    return replace(PLAIN, key_id=number, activation_code=f"{number:06}" + CODE[6:], **changes)


@pytest_asyncio.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with open_pool(database_url) as pool, open_reading_pool(database_url) as reading:
        accounts = PostgresAccounts(pool)
        for name, role in {
            "partner": Role.PARTNER,
            "other": Role.PARTNER,
            "single": Role.PARTNER,
            "ka": Role.KA,
        }.items():
            await accounts.add(name, role, hash_secret("secret"))
        made = World(pool, reading)
        await _ensure_owners(made.owners)
        await made.owners.add("30001", OwnerKind.CLIENT)
        await made.owners.link("other", "30001")
        await made.owners.link("single", "10002")
        yield made


@pytest.mark.asyncio
async def test_example_owners_are_made_once_and_as_documented(world: World) -> None:
    await world.owners.suspend("10002", suspended=True)
    await _ensure_owners(world.owners)
    book = await world.owners.all()
    assert book.owners["20001"].kind is OwnerKind.RESELLER
    assert book.owners["10001"].configurations == {101, 102}
    assert book.default_configuration("10001") == 101
    assert book.default_configuration("10002") == 201
    assert book.owners["10002"].suspended  # what people changed stays
    assert (book.accounts["partner"].owner, book.accounts["partner"].default_client) == ("20001", "10001")


@pytest.mark.asyncio
async def test_a_key_is_seen_by_its_owner_and_its_owners_reseller_alone(world: World) -> None:
    await world.key(PLAIN)
    await world.key(another(10_000_002, owner="10002"))
    await world.key(another(10_000_003, owner="30001"), account_id="other")
    assert await world.ids("partner") == [10_000_001, 10_000_002]
    assert await world.ids("single") == [10_000_002]
    assert await world.ids("other") == [10_000_003]
    assert await world.ids("ka") == []
    for account, seen in {"partner": True, "single": False, "other": False, "ka": False}.items():
        by_id, by_code = KeyReference(key_id=10_000_001), KeyReference(activation_code=CODE)
        expected = FoundKey(account="partner", number="10000001", key_id=10_000_001) if seen else None
        assert await world.queries.find(account, by_id) == expected
        assert await world.queries.find(account, by_code) == expected
        assert (await world.queries.structure(account, by_id) is not None) is seen
        assert (await world.queries.key_file(account, by_id) is not None) is seen
        assert (await world.queries.activations(account, by_id) is not None) is seen


@pytest.mark.asyncio
async def test_a_license_of_another_protocol_shows_once_its_account_is_linked(world: World) -> None:
    code = "A" + CODE[1:]
    await world.key(
        None,
        account_id="ka",
        number="00481516",
        key_id=10_000_009,
        activation_code=code,
        product="Bronze",
        subscription_on=date(2027, 2, 1),
    )
    assert await world.ids() == []
    await world.owners.link("ka", "10001")
    assert await world.ids() == [10_000_009]
    assert await world.ids("single") == []
    structure = await world.structure(10_000_009)
    assert structure is not None
    assert structure["items"] == [{"externalId": None, "item": "Bronze"}]
    assert (structure["ownerId"], structure["productConfigurationId"]) == ("10001", 101)
    assert structure["keyIdentifiers"]["keyNumber"] == "PLSK.10000009.0000"
    found = await world.queries.find("partner", KeyReference(activation_code=code))
    assert found == FoundKey(account="ka", number="00481516", key_id=10_000_009)
    await world.owners.unlink("ka")
    assert await world.ids() == []


@pytest.mark.asyncio
async def test_structure_tells_parent_children_and_the_owners_suspension(world: World) -> None:
    await world.key(PLAIN, key_version=3)
    parent = ParentKey(license_id=license_id("partner", "10000001"), key_id=10_000_001, activation_code=CODE)
    await world.key(another(10_000_002, parent=parent, family="360"))
    child, above = await world.structure(10_000_002), await world.structure(10_000_001)
    assert child is not None
    assert above is not None
    assert child["parentKeyIdentifiers"]["keyNumber"] == "PLSK.10000001.0003"
    assert [each["keyId"] for each in above["childKeyIdentifiers"]] == [10_000_002]
    assert above["creationDate"] == "2027-02-05T10:15:30.120Z"
    assert above["status"] == "ACTIVE"
    short = json.loads(await world.queries.search("partner", KeyFilter()))
    assert [line["parentKeyId"] for line in short] == [None, 10_000_001]
    await world.owners.suspend("10001", suspended=True)
    assert (await world.structure(10_000_001) or {})["status"] == "SUSPENDED"
    assert (await world.structure(10_000_001) or {})["ownerSuspended"] is True


@pytest.mark.asyncio
async def test_every_filter_finds_its_keys_and_filters_combine(world: World) -> None:
    await world.key(PLAIN)
    await world.key(another(10_000_002, nickname="shop", address="203.0.113.7", restrict_address=True))
    await world.key(
        another(10_000_003, items=(KeyItem(item="360-MON-1M"),), family="360", uid="ops@example.org", activatable=True),
        suspended=True,
    )
    await world.key(
        another(10_000_004, address="2001:db8::17", purchased=True, family="b"), expires_on=date(2027, 2, 1)
    )
    await world.key(another(10_000_005, update_on=date(2027, 2, 18), items=(KeyItem(item="X-1Y"),)))
    await world.key(another(10_000_006), status="terminated", terminated_at=NOW)
    every = list(range(10_000_001, 10_000_007))
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({}, every),
        ({"nickname": "shop"}, [10_000_002]),
        ({"nickname": "sho"}, []),
        ({"nickname": ""}, [each for each in every if each != 10_000_002]),
        ({"address": "203.0.113.7"}, [10_000_002]),
        ({"address": "2001:db8::17"}, [10_000_004]),
        ({"uid": "ops@example.org"}, [10_000_003]),
        ({"product": "360-mon-1m"}, [10_000_003]),
        ({"product": "360"}, []),
        ({"status": "ACTIVE"}, [10_000_001, 10_000_002]),
        ({"status": "SUSPENDED"}, [10_000_003]),
        ({"status": "EXPIRED"}, [10_000_004]),
        ({"status": "EXPIRING"}, [10_000_005]),
        ({"status": "TERMINATED"}, [10_000_006]),
        ({"type": KeyType.PURCHASED}, [10_000_004]),
        ({"type": KeyType.LEASE}, [each for each in every if each != 10_000_004]),
        ({"type": KeyType.LEASE_1M}, [10_000_001, 10_000_002, 10_000_003, 10_000_006]),
        ({"type": KeyType.LEASE_1Y}, [10_000_005]),
        ({"type": KeyType.TRIAL}, []),
        ({"restrict_address": True}, [10_000_002]),
        ({"restrict_address": False, "status": "ACTIVE"}, [10_000_001]),
        ({"fraud": FraudKind.MULTIUSE}, []),
        ({"is_els": True}, []),
        ({"is_els": False}, every),
        ({"nickname": "shop", "status": "SUSPENDED"}, []),
    ]
    for wanted, expected in cases:
        assert await world.ids(**wanted) == expected, wanted
    first = json.loads(await world.queries.search("partner", KeyFilter()))[0]
    assert first == {
        "ownerId": "10001",
        "keyId": 10_000_001,
        "parentKeyId": None,
        "isEls": False,
        "lastReportingOs": None,
    }


@pytest.mark.asyncio
async def test_key_file_and_activations_are_those_in_force(world: World) -> None:
    await world.key(replace(PLAIN, activations=MonthlyActivations(month=date(2027, 2, 1), remaining=3)), key_version=2)
    await world.key(another(10_000_002, activations=MonthlyActivations(month=date(2027, 1, 1), remaining=3)))
    file = await world.queries.key_file("partner", KeyReference(key_id=10_000_001))
    assert file is not None
    assert (file.key_number, file.revision, file.body) == ("PLSK.10000001.0002", 1, b"body")
    this_month = await world.queries.activations("partner", KeyReference(key_id=10_000_001))
    last_month = await world.queries.activations("partner", KeyReference(key_id=10_000_002))
    assert this_month is not None
    assert last_month is not None
    assert (this_month.remaining, last_month.remaining) == (3, 10)


@pytest.mark.asyncio
async def test_reads_cannot_write(world: World) -> None:
    async with world.queries._reading("try") as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("DELETE FROM account_owner")


@pytest.mark.asyncio
async def test_numbers_are_drawn_once_whoever_asks_at_once(world: World) -> None:
    numbers = PostgresKeyNumbers(world.pool)
    blocks = await asyncio.gather(*(numbers.draw(50) for _ in range(4)))
    drawn = [number for block in blocks for number in block]
    assert len(set(drawn)) == 200
    assert min(drawn) >= 10_000_001
    assert all(list(block) == sorted(block) for block in blocks)


@pytest.mark.asyncio
async def test_owners_refuse_what_contradicts_them(world: World) -> None:
    assert not await world.owners.add("10001", OwnerKind.CLIENT)
    assert not await world.owners.add_configuration(101, "10002", default=True)
    with pytest.raises(StoreRefusedError):
        await world.owners.link("nobody", "10001")
    with pytest.raises(StoreRefusedError):
        await world.owners.add("a b", OwnerKind.CLIENT)
    assert await world.owners.add_configuration(202, "10002", default=True)
    assert (await world.owners.all()).default_configuration("10002") == 202


def test_owner_verbs_tell_their_story(shell: Shell, database_url: str) -> None:
    shell.export(database_url=database_url)
    assert shell.keyway("owner", "add", "20001", "--kind", "reseller").status == 0
    assert shell.keyway("owner", "add", "10001", "--kind", "client", "--reseller", "20001").status == 0
    assert shell.keyway("owner", "add", "10001", "--kind", "client").status == 1
    assert shell.keyway("owner", "add", "10003", "--kind", "client", "--reseller", "10001").status == 1
    assert shell.keyway("owner", "add", "a b", "--kind", "client").status == 2
    assert shell.keyway("owner", "configuration", "10001", 101, "--default").status == 0
    assert shell.keyway("owner", "configuration", "20001", 102).status == 1
    assert shell.keyway("owner", "price-list", "small", "360-MON-1M").status == 0
    assert shell.keyway("owner", "price-list", "Too Big", "360-MON-1M").status == 2
    nobody = shell.keyway("owner", "link", "partner", "20001")
    assert (nobody.status, "there is no account of that name" in nobody.err) == (1, True)
    assert shell.keyway("account", "add", "partner", "--role", "partner").status == 0
    assert shell.keyway("owner", "link", "partner", "20001", "--default-client", "20001").status == 1
    linked = shell.keyway(
        "owner", "link", "partner", "20001", "--default-client", "10001", "--price-list", "small", "--json"
    )
    assert linked.document["default_client"] == "10001"
    assert shell.keyway("owner", "suspend", "10001").status == 0
    told = shell.keyway("owner", "list", "--json").document
    assert told["accounts"] == [
        {"account": "partner", "owner": "20001", "default_client": "10001", "items": ["360-MON-1M"]}
    ]
    assert [(owner["owner"], owner["suspended"]) for owner in told["owners"]] == [("10001", True), ("20001", False)]
    assert "10001" in shell.keyway("owner", "list").out
    assert shell.keyway("owner", "resume", "10001").status == 0
    assert shell.keyway("owner", "unlink", "partner").status == 0
    assert shell.keyway("owner", "unlink", "partner").status == 1
