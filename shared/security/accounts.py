"""Accounts as the login sees them: one caller, one role, one secret of which only the hash is kept."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Role(StrEnum):
    """Which paths an account reaches; each account has exactly one."""

    KA = "ka"
    """The ISV endpoint."""
    PARTNER = "partner"
    """The Partner API."""
    OPERATOR = "operator"
    """No path so far: what operators do, the `keyway` command does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAccount:
    """An account as it is stored."""

    name: str
    """Matches `identifiers.ACCOUNT_NAME`."""
    role: Role
    secret_hash: str
    """argon2id, encoded with its parameters and salt."""
    disabled: bool


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a verified request comes from."""

    account: str
    role: Role


class AccountDirectory(Protocol):
    """Where accounts are looked up."""

    async def find(self, name: str) -> StoredAccount | None:
        """Return the account `name`, None when there is none. Raises `UnavailableError` when nobody can tell now."""
        ...
