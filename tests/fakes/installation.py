"""What operators keep, in memory: accounts, catalogs, public keys. Held by `tests/conformance/test_installation.py`."""

import asyncio
from collections.abc import Sequence

from shared.domain.catalog import Catalog
from shared.domain.catalog_check import check_catalog
from shared.errors import ConfigurationError, ConflictError, KeywayError, UnavailableError
from shared.security.accounts import Role, StoredAccount
from shared.security.signing_keys import PublicKey


class InMemoryAccounts:
    """Accounts in a dict; counts the readings, can be down, and holds readers back while `open` is not set."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredAccount] = {}
        self.readings = 0
        self.down = False
        self.open = asyncio.Event()
        self.open.set()

    async def find(self, name: str) -> StoredAccount | None:
        self.readings += 1
        await self.open.wait()
        if self.down:
            raise UnavailableError("the accounts do not answer")
        return self.stored.get(name)

    async def add(self, name: str, role: Role, secret_hash: str) -> bool:
        if name in self.stored:
            return False
        self.stored[name] = StoredAccount(name=name, role=role, secret_hash=secret_hash, disabled=False)
        return True


class InMemoryCatalogs:
    """Catalog documents in a list; raises `failure` while one is set."""

    def __init__(self) -> None:
        self.documents: list[object] = []
        self.failure: KeywayError | None = None

    async def add(self, document: object, *, version: int) -> None:
        if version != len(self.documents) + 1:
            raise ConflictError(f"catalog version {version} is not the next")
        self.documents.append(document)

    async def newer_than(self, version: int) -> Catalog | None:
        if self.failure is not None:
            raise self.failure
        newest = len(self.documents)
        if newest <= version:
            return None
        catalog = check_catalog(self.documents[-1], version=newest)
        if not isinstance(catalog, Catalog):
            raise ConfigurationError(f"catalog version {newest} cannot be read here: {catalog[0]}")
        return catalog


class InMemoryPublicKeys:
    """Published keys in order; counts the calls, can be down."""

    def __init__(self) -> None:
        self.published: list[PublicKey] = []
        self.publications = 0
        self.down = False

    async def publish(self, keys: Sequence[PublicKey]) -> None:
        self.publications += 1
        if self.down:
            raise UnavailableError("the registry does not answer")
        self.published += (key for key in keys if key not in self.published)

    async def all(self) -> Sequence[dict[str, str]]:
        return [key.jwk for key in self.published]
