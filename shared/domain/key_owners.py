"""Who owns keys: customers and resellers, their configurations, and which of them an account can reach.

Partner accounts belong to one customer or one reseller (docs/protocols/partner-api.md 2). A reseller reaches its own
customers; nobody owns a key in a reseller's name. An account of another protocol that is linked to an owner shows its
licenses there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class OwnerKind(StrEnum):
    """Kinds of owners."""

    CLIENT = "client"
    RESELLER = "reseller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A customer or a reseller."""

    owner_id: str
    kind: OwnerKind = OwnerKind.CLIENT
    reseller: str | None = None
    """The reseller whose customer it is."""
    suspended: bool = False
    default_configuration: int | None = None
    configurations: frozenset[int] = frozenset()
    """All of its product configurations, the default one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedAccount:
    """An account and the owner to which it belongs."""

    account: str
    owner: str
    default_client: str | None = None
    """For a reseller's account: who gets the keys that are made without naming an owner."""
    price_list: frozenset[str] | None = None
    """Constants that it may use; None: all of the catalog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerBook:
    """The owners and accounts that a case may ask for."""

    owners: Mapping[str, Owner] = field(default_factory=dict)
    accounts: Mapping[str, LinkedAccount] = field(default_factory=dict)

    def reaches(self, account: str, owner_id: str) -> bool:
        """Whether keys of `owner_id` are visible to `account`."""
        link = self.accounts.get(account)
        owner = self.owners.get(owner_id)
        return link is not None and owner is not None and link.owner in (owner_id, owner.reseller)

    def default_configuration(self, owner_id: str) -> int | None:
        """Return the configuration that keys of the owner get."""
        owner = self.owners.get(owner_id)
        return None if owner is None else owner.default_configuration
