"""Accounts, catalogs, signing keys and reply slots on the real database."""

import asyncio
from collections.abc import AsyncIterator
from typing import Self

import asyncpg
import pytest
import pytest_asyncio

from shared.contracts.envelope import new_id
from shared.database.accounts import PostgresAccounts
from shared.database.catalogs import PostgresCatalogs
from shared.database.license_store import PostgresLicenseStore
from shared.database.pool import Pool, open_pool, ping
from shared.database.reply_slots import PostgresReplySlots
from shared.database.signing_keys import PostgresSigningKeys
from shared.domain.catalog import Catalog
from shared.domain.license import LicenseStatus
from shared.errors import ConfigurationError, ConflictError, StoreRefusedError, UnavailableError
from shared.security.accounts import Role, StoredAccount
from shared.security.signing_keys import SigningKey
from tests.builders import a_license
from tests.conformance.test_license_store import HANDLED_AT, a_change, an_issue

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

HASH_1 = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$one"
HASH_2 = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$two"
DOCUMENT = {"products": [{"sku": "Bronze", "upgrades_to": ["Gold"]}, {"sku": "Gold"}]}


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url) as pool:
        yield pool


async def test_an_account_is_found_by_its_name_alone(pool: Pool) -> None:
    accounts = PostgresAccounts(pool)
    assert await accounts.add("ka", Role.KA, HASH_1)

    assert await accounts.find("ka") == StoredAccount(name="ka", role=Role.KA, secret_hash=HASH_1, disabled=False)
    assert await accounts.find("KA") is None
    assert await accounts.find("ka\0") is None


async def test_a_taken_name_keeps_its_secret_also_when_it_is_disabled(pool: Pool) -> None:
    accounts = PostgresAccounts(pool)
    await accounts.add("ka", Role.KA, HASH_1)
    assert await accounts.disable("ka")

    assert not await accounts.add("ka", Role.OPERATOR, HASH_2)

    found = await accounts.find("ka")
    assert found == StoredAccount(name="ka", role=Role.KA, secret_hash=HASH_1, disabled=True)


async def test_a_rotation_counts_and_changes_the_hash(pool: Pool) -> None:
    accounts = PostgresAccounts(pool)
    await accounts.add("partner-1", Role.PARTNER, HASH_1)
    await accounts.add("ka", Role.KA, HASH_1)

    assert await accounts.rotate("partner-1", HASH_2)

    found = await accounts.find("partner-1")
    assert found is not None
    assert found.secret_hash == HASH_2
    listed = await accounts.all()
    assert [(each.name, each.role, each.credential_version) for each in listed] == [
        ("ka", Role.KA, 1),
        ("partner-1", Role.PARTNER, 2),
    ]


async def test_what_is_done_to_an_unknown_account_is_told(pool: Pool) -> None:
    accounts = PostgresAccounts(pool)
    assert not await accounts.rotate("nobody", HASH_1)
    assert not await accounts.disable("nobody")


@pytest.mark.parametrize(("name", "secret_hash"), [("Ka", HASH_1), ("", HASH_1), ("ka", "plain secret")])
async def test_an_impossible_name_or_a_plain_secret_is_refused(pool: Pool, name: str, secret_hash: str) -> None:
    with pytest.raises(StoreRefusedError) as caught:
        await PostgresAccounts(pool).add(name, Role.KA, secret_hash)
    assert "plain secret" not in str(caught.value)


async def test_a_changed_account_is_told_to_listeners(pool: Pool, database_url: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(database_url)
    await listener.add_listener("account_changed", lambda *told: heard.put_nowait(str(told[2])))
    accounts = PostgresAccounts(pool)
    await accounts.add("ka", Role.KA, HASH_1)
    await accounts.disable("ka")
    async with asyncio.timeout(30):
        assert [await heard.get(), await heard.get()] == ["account_changed"] * 2
    await listener.close()


async def test_the_newest_catalog_is_in_force(pool: Pool) -> None:
    catalogs = PostgresCatalogs(pool)
    assert await catalogs.newest() is None
    assert await catalogs.newer_than(0) is None
    await catalogs.add(DOCUMENT, version=1)
    await catalogs.add({"products": [{"sku": "Bronze"}]}, version=2)

    newest = await catalogs.newer_than(1)

    assert isinstance(newest, Catalog)
    assert (newest.version, list(newest.products)) == (2, ["Bronze"])
    assert await catalogs.newer_than(2) is None
    stored = await catalogs.newest()
    assert stored is not None
    assert stored.document == {"products": [{"sku": "Bronze"}]}


async def test_a_version_is_stored_once(pool: Pool) -> None:
    catalogs = PostgresCatalogs(pool)
    await catalogs.add(DOCUMENT, version=1)
    with pytest.raises(ConflictError):
        await catalogs.add({"products": []}, version=1)


async def test_a_catalog_that_this_program_cannot_read_is_told_with_its_fault(pool: Pool) -> None:
    catalogs = PostgresCatalogs(pool)
    await catalogs.add({"products": [{"sku": "Bronze", "model": "telepathic"}]}, version=1)
    with pytest.raises(ConfigurationError, match=r"version 1.*telepathic"):
        await catalogs.newer_than(0)


async def test_products_of_live_licenses_are_counted(pool: Pool, database_url: str) -> None:
    store = PostgresLicenseStore(database_url)
    await store.store(
        [an_issue(a_license(number=str(n), product=product)) for n, product in enumerate(("Gold", "Gold", "NFR-Gold"))]
    )
    ended = a_license(number="0", product="Gold", status=LicenseStatus.TERMINATED, terminated_at=HANDLED_AT)
    await store.store([a_change(ended, 1)])
    await store.close()

    assert await PostgresCatalogs(pool).held_products() == {"Gold": 1, "NFR-Gold": 1}


async def test_published_keys_stay_and_come_back_oldest_first(pool: Pool) -> None:
    registry = PostgresSigningKeys(pool)
    first, second = SigningKey.generate().public, SigningKey.generate().public
    await registry.publish([first])
    await registry.publish([first, second])

    assert list(await registry.all()) == [first.jwk, second.jwk]
    assert [key.kid for key in await registry.published()] == [first.kid, second.kid]


async def test_a_private_key_is_refused(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.CheckViolationError, match="jwk_is_public"):
            await connection.execute(
                """INSERT INTO signing_key (kid, jwk) VALUES ('k', '{"kid": "k", "d": "secret"}')"""
            )
    finally:
        await connection.close()


async def test_gateways_that_start_at_once_lease_slots_apart(pool: Pool) -> None:
    slots = PostgresReplySlots(pool)
    leased = await asyncio.gather(*(slots.lease(new_id()) for _ in range(64)))

    assert sorted(leased) == list(range(64))
    with pytest.raises(UnavailableError, match="all reply slots"):
        await slots.lease(new_id())


async def test_a_lease_can_be_renewed_until_somebody_else_has_the_slot(pool: Pool) -> None:
    slots = PostgresReplySlots(pool)
    first, second = new_id(), new_id()
    mine = await slots.lease(first, seconds=0)
    assert await slots.renew(first, mine, seconds=0)
    for _ in range(63):
        await slots.lease(new_id())

    assert await slots.lease(second) == mine
    assert not await slots.renew(first, mine)
    await slots.release(first, mine)
    assert await slots.renew(second, mine)


async def test_a_released_slot_is_free(pool: Pool) -> None:
    slots = PostgresReplySlots(pool)
    owners = [new_id() for _ in range(64)]
    leased = {await slots.lease(owner): owner for owner in owners}
    await slots.release(leased[17], 17)
    assert await slots.lease(new_id()) == 17


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM license",
        "TRUNCATE license",
        "UPDATE revision SET body = 'x'",
        "DELETE FROM revision",
        "TRUNCATE revision",
        "UPDATE operation SET revision = 9",
        "UPDATE audit SET entry = 'x'",
        "DELETE FROM audit",
        "UPDATE outbox SET value = 'x'",
        "DELETE FROM outbox",
        "UPDATE command_result SET meta = 'x'",
        "DELETE FROM command_result",
        "DELETE FROM account",
        "DELETE FROM catalog_version",
        "DELETE FROM signing_key",
        "UPDATE license SET key_id = 1",
        "UPDATE license SET activation_code = 'x'",
        "UPDATE license SET version = 0",
    ],
)
async def test_history_is_refused_to_everybody(database_url: str, statement: str) -> None:
    store = PostgresLicenseStore(database_url)
    await store.store([an_issue()])
    await store.close()
    connection = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute(statement)
        await connection.execute("UPDATE outbox SET published_at = now()")
        await connection.execute("UPDATE license SET published_sequence = 1")
    finally:
        await connection.close()


async def test_key_ids_count_from_ten_million_and_one(database_url: str) -> None:
    store = PostgresLicenseStore(database_url)
    await store.store([an_issue(a_license(number=str(n))) for n in range(3)])
    await store.close()
    connection = await asyncpg.connect(database_url)
    try:
        key_ids = await connection.fetch("SELECT key_id FROM license ORDER BY license_id")
    finally:
        await connection.close()
    assert [row["key_id"] for row in key_ids] == [10_000_001, 10_000_002, 10_000_003]


async def test_a_server_that_falls_silent_is_told_within_the_asker_s_own_time(database_url: str) -> None:
    async with SilentProxy(database_url) as proxy, open_pool(proxy.url) as pool:
        await ping(pool)
        proxy.silent = True
        async with asyncio.timeout(30):  # nobody waits for what the server will never say
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await ping(pool)


class SilentProxy:
    """Stands before the database and, once told so, passes nothing on."""

    def __init__(self, database_url: str) -> None:
        login, place = database_url.split("@")
        address, self._database = place.split("/")
        self._host, port = address.split(":")
        self._port = int(port)
        self._login = login
        self.silent = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"{self._login}@127.0.0.1:{self._server.sockets[0].getsockname()[1]}/{self._database}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(self._host, self._port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pass_on(reader, upstream_writer))
            tasks.create_task(self._pass_on(upstream_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self.silent:
                writer.write(data)
        writer.close()
