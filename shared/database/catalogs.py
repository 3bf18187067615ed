"""Catalogs: every version that was ever loaded; the newest is in force."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from shared.contracts.identifiers import LicenseId
from shared.database.pool import Pool, borrowed
from shared.domain.catalog import Catalog
from shared.domain.catalog_check import check_catalog
from shared.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCatalog:
    """One version as it was loaded."""

    version: int
    document: object
    """Plain values, as `shared.domain.catalog_document` describes them."""


class PostgresCatalogs:
    """The catalogs. Every method raises `UnavailableError` when the database does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def newest(self) -> StoredCatalog | None:
        """Return the newest version, None before the first."""
        return await self._newest_above(0)

    async def newer_than(self, version: int) -> Catalog | None:
        """Return the newest catalog if its version is above `version`, else None.

        Raises `ConfigurationError` when this program cannot read it.
        """
        stored = await self._newest_above(version)
        if stored is None:
            return None
        catalog = check_catalog(stored.document, version=stored.version)
        if not isinstance(catalog, Catalog):
            raise ConfigurationError(f"catalog version {stored.version} cannot be read here: {catalog[0]}")
        return catalog

    async def add(self, document: object, *, version: int) -> None:
        """Store a checked `document` of plain values as `version`, which must be the one after the newest.

        Raises `ConflictError` when somebody else has stored that version: check again against it.
        """
        async with borrowed(self._pool, "store catalog") as connection:
            await connection.execute(
                "INSERT INTO catalog_version (version, document) VALUES ($1, $2)",
                version,
                orjson.dumps(document).decode(),
            )

    async def held_products(self) -> Mapping[str, int]:
        """Return how many licenses that are not terminated hold each product id (`NFR-` ids apart)."""
        async with borrowed(self._pool, "count held products") as connection:
            rows = await connection.fetch(
                "SELECT product, count(*) AS held FROM license WHERE status <> 'terminated' GROUP BY product ORDER BY 1"
            )
        return {row["product"]: row["held"] for row in rows}

    async def holders(self, products: Sequence[str], *, limit: int) -> Sequence[LicenseId]:
        """Return the first `limit` ids of licenses that are not terminated and hold one of these product ids."""
        async with borrowed(self._pool, "look for holders of products") as connection:
            rows = await connection.fetch(
                "SELECT license_id FROM license WHERE product = ANY($1::text[]) AND status <> 'terminated'"
                " ORDER BY license_id LIMIT $2",
                list(products),
                limit,
            )
        return [LicenseId(row["license_id"]) for row in rows]

    async def _newest_above(self, version: int) -> StoredCatalog | None:
        async with borrowed(self._pool, "look for a catalog") as connection:
            row = await connection.fetchrow(
                "SELECT version, document FROM catalog_version WHERE version > $1 ORDER BY version DESC LIMIT 1",
                version,
            )
        if row is None:
            return None
        return StoredCatalog(version=row["version"], document=orjson.loads(row["document"]))
