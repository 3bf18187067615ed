"""Public signing keys, for ever: whoever holds an old license body must be able to check it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from shared.database.pool import Pool, borrowed
from shared.security.signing_keys import PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """A public key and since when it is known."""

    kid: str
    published_at: datetime
    jwk: dict[str, str]


class PostgresSigningKeys:
    """The public keys. Every method raises `UnavailableError` when the database does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def publish(self, keys: Sequence[PublicKey]) -> None:
        """Make `keys` known; those already known stay as they are."""
        async with borrowed(self._pool, "publish signing keys") as connection:
            await connection.execute(
                "INSERT INTO signing_key (kid, jwk) SELECT * FROM unnest($1::text[], $2::jsonb[])"
                " ON CONFLICT (kid) DO NOTHING",
                [key.kid for key in keys],
                [orjson.dumps(key.jwk).decode() for key in keys],
            )

    async def all(self) -> Sequence[dict[str, str]]:
        """Return every public key as a JWK, oldest first."""
        return [key.jwk for key in await self.published()]

    async def published(self) -> Sequence[PublishedKey]:
        """Return every public key, oldest first."""
        async with borrowed(self._pool, "read signing keys") as connection:
            rows = await connection.fetch("SELECT kid, jwk, published_at FROM signing_key ORDER BY published_at, kid")
        return [
            PublishedKey(kid=row["kid"], published_at=row["published_at"], jwk=orjson.loads(row["jwk"])) for row in rows
        ]
