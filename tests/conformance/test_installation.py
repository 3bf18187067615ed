"""What accounts, catalogs and public keys promise: the same suite for those in memory and those in PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import pytest
import pytest_asyncio

from shared.database.accounts import PostgresAccounts
from shared.database.catalogs import PostgresCatalogs
from shared.database.pool import open_pool
from shared.database.signing_keys import PostgresSigningKeys
from shared.errors import ConfigurationError, ConflictError, UnavailableError
from shared.security.accounts import AccountDirectory, Role, StoredAccount
from shared.security.signing_keys import SigningKey
from shared.security.watched_keys import PublicKeyRegistry
from tests.fakes.installation import InMemoryAccounts, InMemoryCatalogs, InMemoryPublicKeys
from workers.license.rules_source import CatalogShelf

pytestmark = pytest.mark.asyncio

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$one"
NOWHERE = "postgresql://keyway:x@127.0.0.1:1/keyway"


class Accounts(AccountDirectory, Protocol):
    """The port with what fills it."""

    async def add(self, name: str, role: Role, secret_hash: str) -> bool: ...


class Catalogs(CatalogShelf, Protocol):
    """The port with what fills it."""

    async def add(self, document: object, *, version: int) -> None: ...


class PublicKeys(PublicKeyRegistry, Protocol):
    """The port with what reads it."""

    async def all(self) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One kind of all three, and the same with nobody answering."""

    accounts: Accounts
    catalogs: Catalogs
    keys: PublicKeys
    accounts_down: AccountDirectory
    catalogs_down: CatalogShelf
    keys_down: PublicKeyRegistry


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.services)])
def address(request: pytest.FixtureRequest) -> str | None:
    """Where the real ones are; None for those in memory."""
    return None if request.param == "memory" else str(request.getfixturevalue("database_url"))


@pytest_asyncio.fixture
async def installation(address: str | None) -> AsyncIterator[Installation]:
    if address is None:
        yield in_memory()
        return
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(address))
        nowhere = await stack.enter_async_context(open_pool(NOWHERE))
        yield Installation(
            accounts=PostgresAccounts(pool),
            catalogs=PostgresCatalogs(pool),
            keys=PostgresSigningKeys(pool),
            accounts_down=PostgresAccounts(nowhere),
            catalogs_down=PostgresCatalogs(nowhere),
            keys_down=PostgresSigningKeys(nowhere),
        )


def in_memory() -> Installation:
    accounts_down, catalogs_down, keys_down = InMemoryAccounts(), InMemoryCatalogs(), InMemoryPublicKeys()
    accounts_down.down = keys_down.down = True
    catalogs_down.failure = UnavailableError("the catalogs do not answer")
    return Installation(
        accounts=InMemoryAccounts(),
        catalogs=InMemoryCatalogs(),
        keys=InMemoryPublicKeys(),
        accounts_down=accounts_down,
        catalogs_down=catalogs_down,
        keys_down=keys_down,
    )


async def test_account_is_found_as_it_was_added(installation: Installation) -> None:
    assert await installation.accounts.add("ka", Role.KA, HASH)
    assert await installation.accounts.find("ka") == StoredAccount(
        name="ka", role=Role.KA, secret_hash=HASH, disabled=False
    )
    assert await installation.accounts.find("Ka") is None
    assert not await installation.accounts.add("ka", Role.OPERATOR, HASH)


async def test_newest_catalog_is_given_only_to_those_who_know_an_older_one(installation: Installation) -> None:
    assert await installation.catalogs.newer_than(0) is None
    await installation.catalogs.add({"products": [{"sku": "A"}]}, version=1)
    await installation.catalogs.add({"products": [{"sku": "B"}]}, version=2)
    newest = await installation.catalogs.newer_than(0)
    assert newest is not None
    assert (newest.version, set(newest.products)) == (2, {"B"})
    assert await installation.catalogs.newer_than(1) == newest
    assert await installation.catalogs.newer_than(2) is None


async def test_catalog_version_is_taken_once(installation: Installation) -> None:
    await installation.catalogs.add({"products": [{"sku": "A"}]}, version=1)
    with pytest.raises(ConflictError):
        await installation.catalogs.add({"products": [{"sku": "B"}]}, version=1)


async def test_catalog_that_cannot_be_read_here_is_told(installation: Installation) -> None:
    await installation.catalogs.add({"products": [{"sku": "A", "color": "red"}]}, version=1)
    with pytest.raises(ConfigurationError, match=r"version 1 .*unknown member 'color'"):
        await installation.catalogs.newer_than(0)


async def test_published_keys_stay_in_their_order_and_once(installation: Installation) -> None:
    first, second = SigningKey.generate().public, SigningKey.generate().public
    await installation.keys.publish([first])
    await installation.keys.publish([first, second])
    await installation.keys.publish([second])
    assert await installation.keys.all() == [first.jwk, second.jwk]


async def test_silence_is_unavailable_never_an_answer(installation: Installation) -> None:
    with pytest.raises(UnavailableError):
        await installation.accounts_down.find("ka")
    with pytest.raises(UnavailableError):
        await installation.catalogs_down.newer_than(0)
    with pytest.raises(UnavailableError):
        await installation.keys_down.publish([SigningKey.generate().public])
