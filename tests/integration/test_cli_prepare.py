"""The world of the local stack: made once, found ever after, and the user's own changes respected."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from keyway.cli import prepare
from keyway.cli.catalog import apply_document, checked_document
from keyway.cli.prepare import World, prepare_database, prepare_world
from shared.clock import MachineClock, read_offset
from shared.contracts.topics import LICENSE_COMMANDS
from shared.database.accounts import PostgresAccounts
from shared.database.catalogs import PostgresCatalogs
from shared.database.pool import Pool, open_pool
from shared.database.signing_keys import PostgresSigningKeys
from shared.errors import ConfigurationError
from shared.security.account_secrets import hash_secret
from shared.security.accounts import Principal, Role
from shared.security.basic import basic_header
from shared.security.credentials import open_authenticator
from shared.security.signing_keys import require_key_file
from shared.settings import Settings, load_settings

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

SMALL = "products:\n  - {sku: Bronze}\n"


@pytest.fixture
def settings(database_url: str) -> Settings:
    return load_settings({"KEYWAY_DATABASE_URL": database_url})


@pytest.fixture
def all_settings(settings: Settings, kafka_server: str, topic_prefix: str) -> Settings:
    return settings.model_copy(update={"kafka_bootstrap": kafka_server, "topic_prefix": topic_prefix})


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url) as pool:
        yield pool


async def principals(pool: Pool, world: World) -> list[object]:
    async with open_authenticator(PostgresAccounts(pool), MachineClock(), trust_seconds=0) as authenticator:
        return [await authenticator.authenticate(basic_header(*pair)) for pair in world.accounts.values()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


ALL_PRINCIPALS = [
    Principal("ka", Role.KA),
    Principal("partner", Role.PARTNER),
    Principal("operator", Role.OPERATOR),
]


async def test_first_preparation_makes_everything_that_processes_need(
    all_settings: Settings, pool: Pool, tmp_path: Path
) -> None:
    world = await prepare_world(all_settings, tmp_path)
    assert list(world.accounts) == ["ka", "partner", "operator"]
    assert await principals(pool, world) == ALL_PRINCIPALS
    catalog = await PostgresCatalogs(pool).newer_than(0)
    assert catalog is not None
    assert (catalog.version, len(catalog.products)) == (1, 38)
    ring = require_key_file(world.signing_keys_file)
    assert await PostgresSigningKeys(pool).all() == [ring.active.public.jwk]
    assert world.clock_offset_file.read_text() == "0\n"
    client = AIOKafkaAdminClient(bootstrap_servers=all_settings.kafka_bootstrap)
    await client.start()
    try:
        assert all_settings.topic_prefix + LICENSE_COMMANDS in await client.list_topics()
    finally:
        await client.close()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "secrets.json", world.signing_keys_file)}
    assert set(modes.values()) == {0o600}


async def test_second_preparation_changes_nothing(all_settings: Settings, pool: Pool, tmp_path: Path) -> None:
    first = await prepare_world(all_settings, tmp_path)
    before = contents(tmp_path)
    stored = [await PostgresAccounts(pool).find(name) for name in first.accounts]
    assert await prepare_world(all_settings, tmp_path) == first
    assert contents(tmp_path) == before
    assert [await PostgresAccounts(pool).find(name) for name in first.accounts] == stored
    newest = await PostgresCatalogs(pool).newest()
    assert newest is not None
    assert newest.version == 1


async def test_secrets_and_keys_survive_a_new_database(
    settings: Settings, pool: Pool, tmp_path: Path, postgres_server: str, database_template: str
) -> None:
    import secrets

    import asyncpg

    from tests.stack import with_database

    first = await prepare_database(settings, tmp_path)
    name = f"test_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(postgres_server)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {database_template}")
        url = with_database(postgres_server, name)
        fresh = settings.model_copy(update={"database_url": type(settings.database_url)(url)})
        assert await prepare_database(fresh, tmp_path) == first
        async with open_pool(url) as other:
            assert await principals(other, first) == ALL_PRINCIPALS
            assert await PostgresSigningKeys(other).all() == await PostgresSigningKeys(pool).all()
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()


async def test_lost_or_rotated_secrets_are_set_again_so_that_what_is_told_works(
    settings: Settings, pool: Pool, tmp_path: Path
) -> None:
    first = await prepare_database(settings, tmp_path)
    await PostgresAccounts(pool).rotate("ka", hash_secret("somebody rotated it"))
    assert await prepare_database(settings, tmp_path) == first
    assert await principals(pool, first) == ALL_PRINCIPALS
    (tmp_path / "secrets.json").unlink()
    second = await prepare_database(settings, tmp_path)
    assert second.accounts["ka"] != first.accounts["ka"]
    assert await principals(pool, second) == ALL_PRINCIPALS


async def test_accounts_and_secrets_of_the_users_own_stay(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    await prepare_database(settings, tmp_path)
    await PostgresAccounts(pool).add("acme", Role.KA, hash_secret("x"))
    acme = await PostgresAccounts(pool).find("acme")
    await prepare_database(settings, tmp_path)
    assert await PostgresAccounts(pool).find("acme") == acme


async def test_account_of_another_role_is_told_and_not_changed(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    await PostgresAccounts(pool).add("ka", Role.OPERATOR, hash_secret("x"))
    with pytest.raises(ConfigurationError, match="account ka has the role operator"):
        await prepare_database(settings, tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"ka": 5}', b'{"ka": ""}'])
async def test_spoiled_secrets_file_is_told(settings: Settings, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secrets.json"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="remove it, and new ones are made"):
        await prepare_database(settings, tmp_path)


async def test_users_catalog_stays_in_force(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    await prepare_database(settings, tmp_path)
    own = tmp_path / "own.yaml"
    own.write_text(SMALL)
    assert await apply_document(PostgresCatalogs(pool), checked_document(own)) == (2, True)
    await prepare_database(settings, tmp_path)
    catalog = await PostgresCatalogs(pool).newer_than(0)
    assert catalog is not None
    assert (catalog.version, set(catalog.products)) == (2, {"Bronze"})


async def test_changed_example_replaces_the_example_loaded_before(
    settings: Settings, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepare_database(settings, tmp_path)
    changed = tmp_path / "changed.yaml"
    changed.write_text(SMALL)
    monkeypatch.setattr(prepare, "EXAMPLE_CATALOG", changed)
    await prepare_database(settings, tmp_path)
    catalog = await PostgresCatalogs(pool).newer_than(0)
    assert catalog is not None
    assert (catalog.version, set(catalog.products)) == (2, {"Bronze"})
    await prepare_database(settings, tmp_path)
    assert await PostgresCatalogs(pool).newer_than(2) is None


async def test_rotated_keys_and_a_moved_clock_stay(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    from shared.security.signing_keys import rotated, write_key_file

    world = await prepare_database(settings, tmp_path)
    ring = rotated(require_key_file(world.signing_keys_file))
    write_key_file(world.signing_keys_file, ring)
    world.clock_offset_file.write_text("86400")
    await prepare_database(settings, tmp_path)
    assert require_key_file(world.signing_keys_file).active.public == ring.active.public
    assert await PostgresSigningKeys(pool).all() == [key.jwk for key in ring.public_keys]
    assert read_offset(world.clock_offset_file).days == 1


async def test_key_file_named_by_the_user_is_used(settings: Settings, tmp_path: Path) -> None:
    named = tmp_path / "mine.json"
    world = await prepare_database(settings.model_copy(update={"signing_keys_file": named}), tmp_path)
    assert world.signing_keys_file == named
    assert require_key_file(named).retired == ()
    assert not (tmp_path / "signing-keys.json").exists()


async def test_secrets_are_in_no_other_file(settings: Settings, tmp_path: Path) -> None:
    world = await prepare_database(settings, tmp_path)
    files = contents(tmp_path)
    assert json.loads(files.pop("secrets.json")) == dict(world.accounts.values())
    assert files
    assert not [
        name for name, text in files.items() for _, secret in world.accounts.values() if secret.encode() in text
    ]
