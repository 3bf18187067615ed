"""Owners of keys: resellers, their clients, and what an account reaches (docs/protocols/partner-api.md 2, 4.1, 6.1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class OwnerKind(StrEnum):
    """Keys belong to clients; a reseller only has clients."""

    RESELLER = "reseller"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One reseller or client."""

    owner_id: str
    kind: OwnerKind
    reseller_id: str | None = None
    name: str = ""
    suspended: bool = False
    configurations: frozenset[int] = frozenset()
    default_configuration: int | None = None
    items: frozenset[str] | None = None
    """Item constants of the price list in force for this owner; None: everything in the catalog."""

    def sells(self, item: str) -> bool:
        """Whether the price list has `item`."""
        return self.items is None or item in self.items


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLink:
    """For whom an account speaks."""

    owner_id: str
    default_client: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """All owners and links as of one moment."""

    owners: Mapping[str, Owner]
    links: Mapping[str, AccountLink]
    """By account."""

    def find(self, owner_id: str) -> Owner | None:
        """Return an owner, None for an unknown id."""
        return self.owners.get(owner_id)

    def reached(self, account: str, owner_id: str) -> Owner | None:
        """Return the owner `owner_id` when `account` may see its keys: its own, or a client of its own reseller."""
        link, owner = self.links.get(account), self.owners.get(owner_id)
        if link is None or owner is None:
            return None
        return owner if link.owner_id in (owner.owner_id, owner.reseller_id) else None

    def owner_of_licenses(self, account: str) -> str | None:
        """Return to whom licenses of the ISV account `account` belong; None when it is not linked."""
        link = self.links.get(account)
        return None if link is None else link.default_client or link.owner_id

    def default_client(self, account: str) -> str | None:
        """Return the client that keys of `account` belong to when a create names none."""
        link = self.links.get(account)
        if link is None:
            return None
        if link.default_client is not None:
            return link.default_client
        owner = self.owners.get(link.owner_id)
        return owner.owner_id if owner is not None and owner.kind is OwnerKind.CLIENT else None


NO_OWNERS = Owners(owners={}, links={})
