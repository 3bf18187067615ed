"""What is asked about keys without changing them, and what is told (docs/protocols/partner-api.md 3, 3.1)."""

from dataclasses import dataclass
from enum import StrEnum


class KeyType(StrEnum):
    """Values of the search filter `type`."""

    MASTER = "master"
    TRIAL = "trial"
    PURCHASED = "purchased"
    LEASE = "lease"
    LEASE_1M = "lease1m"
    LEASE_3M = "lease3m"
    LEASE_6M = "lease6m"
    LEASE_1Y = "lease1y"
    LEASE_2Y = "lease2y"
    LEASE_3Y = "lease3y"
    BUNDLED = "bundled"


class FraudKind(StrEnum):
    """Values of the search filter `fraud`. No key is suspected so far."""

    CONFIRMED_MULTIUSE = "confirmed_multiuse"
    POTENTIAL_MULTIUSE = "potential_multiuse"
    MULTIUSE = "multiuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundKey:
    """Where a key is: the license that it is."""

    account: str
    number: str
    key_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFilter:
    """Which keys to list; None leaves a member open."""

    address: str | None = None
    """Canonical where it is an address."""
    nickname: str | None = None
    uid: str | None = None
    product: str | None = None
    """Constant of an item that the key holds, in any case."""
    status: str | None = None
    """A shown status, upper case."""
    type: KeyType | None = None
    fraud: FraudKind | None = None
    restrict_address: bool | None = None
    is_els: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """The document that a server installs."""

    key_number: str
    revision: int
    body: bytes
    """The license body in force, as it was issued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationsLeft:
    """How often a key may still be activated this month."""

    key_id: int
    remaining: int
