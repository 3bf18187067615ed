"""Accounts: who may call. Only hashes of secrets come here; `shared.security` makes and checks them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.database.pool import Pool, borrowed
from shared.security.accounts import Role, StoredAccount


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAccount:
    """An account as operators see it: nothing to log in with."""

    name: str
    role: Role
    credential_version: int
    """Counts the secrets it has had."""
    created_at: datetime
    disabled_at: datetime | None


class PostgresAccounts:
    """The accounts. Every method raises `UnavailableError` when the database does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, name: str) -> StoredAccount | None:
        """Return the account `name`, None when there is none."""
        if "\0" in name:  # no text of the database holds one, so no account has it in its name
            return None
        async with borrowed(self._pool, "find account") as connection:
            row = await connection.fetchrow(
                "SELECT name, role, secret_hash, disabled_at IS NOT NULL AS disabled FROM account WHERE name = $1", name
            )
        if row is None:
            return None
        return StoredAccount(
            name=row["name"], role=Role(row["role"]), secret_hash=row["secret_hash"], disabled=row["disabled"]
        )

    async def add(self, name: str, role: Role, secret_hash: str) -> bool:
        """Add an account; return False, changing nothing, when the name is taken (disabled accounts keep theirs).

        Raises `StoreRefusedError` for an impossible name or a secret that is not hashed.
        """
        async with borrowed(self._pool, "add account") as connection:
            added = await connection.fetchval(
                "INSERT INTO account (name, role, secret_hash) VALUES ($1, $2, $3)"
                " ON CONFLICT (name) DO NOTHING RETURNING true",
                name,
                role.value,
                secret_hash,
            )
        return added is not None

    async def rotate(self, name: str, secret_hash: str) -> bool:
        """Replace the secret; return False when there is no such account. A disabled account stays disabled."""
        async with borrowed(self._pool, "rotate account") as connection:
            rotated = await connection.fetchval(
                "UPDATE account SET secret_hash = $2, credential_version = credential_version + 1"
                " WHERE name = $1 RETURNING true",
                name,
                secret_hash,
            )
        return rotated is not None

    async def disable(self, name: str) -> bool:
        """Let nobody in under this name any more; return False when there is no such account. Twice is once."""
        async with borrowed(self._pool, "disable account") as connection:
            disabled = await connection.fetchval(
                "UPDATE account SET disabled_at = coalesce(disabled_at, now()) WHERE name = $1 RETURNING true", name
            )
        return disabled is not None

    async def enable(self, name: str) -> bool:
        """Let the account in again with the secret it has; return False when there is no such account."""
        async with borrowed(self._pool, "enable account") as connection:
            enabled = await connection.fetchval(
                "UPDATE account SET disabled_at = NULL WHERE name = $1 RETURNING true", name
            )
        return enabled is not None

    async def all(self) -> Sequence[ListedAccount]:
        """Return every account, by name."""
        async with borrowed(self._pool, "list accounts") as connection:
            rows = await connection.fetch(
                "SELECT name, role, credential_version, created_at, disabled_at FROM account ORDER BY name"
            )
        return [
            ListedAccount(
                name=row["name"],
                role=Role(row["role"]),
                credential_version=row["credential_version"],
                created_at=row["created_at"],
                disabled_at=row["disabled_at"],
            )
            for row in rows
        ]
