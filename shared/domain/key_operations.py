"""The ten operations: what each asks before it is carried out, and what it does (docs/protocols/partner-api.md 6).

Each takes a working copy and returns the next one, or the refusal that ends the whole request: all of them happen, or
none. A later operation sees what the earlier ones did.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from shared.contracts.identifiers import LicenseId
from shared.contracts.key_commands import KeyMember, KeyMembers, KeyReference
from shared.contracts.outcomes import RejectionCode
from shared.domain.case import Policy
from shared.domain.catalog import Catalog, ItemTerms, Listed
from shared.domain.decision import Rejected
from shared.domain.events import (
    KeyModified,
    KeyMoved,
    KeyUpgraded,
    LicenseEvent,
    LicenseResumed,
    LicenseSuspended,
    LicenseTerminated,
)
from shared.domain.key_details import KeyDetails, MonthlyActivations, ParentKey, key_number
from shared.domain.key_items import base_item, base_terms, changed_items, referenced_items
from shared.domain.key_modification import KeyOperation, canonical_address, names_key
from shared.domain.key_owners import Owner, OwnerBook, OwnerKind
from shared.domain.key_products import held_product, steps_towards, switched, wanted_product
from shared.domain.key_structure import remaining_activations
from shared.domain.license import License, LicenseStatus, evolve
from shared.domain.provisioning import Step, UpstreamService

NICKNAME_CHARACTERS_MAX = 255
NOT_WHILE_SUSPENDED = frozenset(
    {
        KeyOperation.UPGRADE,
        KeyOperation.ACTIVATE,
        KeyOperation.IPBIND,
        KeyOperation.CONFIG,
        KeyOperation.PARENT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an operation may look at beside the key."""

    catalog: Catalog
    owners: OwnerBook
    asked_by: str
    """Account of the caller."""
    related: Mapping[LicenseId, License]
    now: datetime
    policy: Policy = field(default_factory=Policy)
    provided: UpstreamService | None = None
    """The service that the provider confirmed for this very request, once it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """The working copy of a request: the key so far, and what has happened."""

    license: License
    key: KeyDetails
    """Its details so far; those in `license` lag behind until the end."""
    events: tuple[LicenseEvent, ...] = ()
    elsewhere: Mapping[LicenseId, tuple[LicenseEvent, ...]] = field(default_factory=dict)
    ends: bool = False
    """Whether it is terminated; told last, because nothing follows an end."""
    steps: tuple[Step, ...] = ()
    """What a provider must do first; until then none of this copy may take effect."""

    def after(self, event: LicenseEvent, key: KeyDetails) -> "Working":
        """Return the copy after an event of its own."""
        return replace(self, license=evolve(self.license, event), key=key, events=(*self.events, event))

    @property
    def number(self) -> str:
        """The full key number."""
        return key_number(self.key.key_id, self.license.key_version)

    def refused(self, code: RejectionCode) -> Rejected:
        """Return a refusal that names the key."""
        return Rejected(code, {"number": self.number})


Effect = Callable[[Working, KeyMembers, Surroundings], Working | Rejected]


def carry_out(
    operations: tuple[KeyOperation, ...], working: Working, members: KeyMembers, around: Surroundings
) -> Working | Rejected:
    """Return the working copy after all operations, or the first refusal."""
    for operation in operations:
        if operation in NOT_WHILE_SUSPENDED and working.license.suspended:
            return working.refused(RejectionCode.KEY_SUSPENDED)
        done = EFFECTS[operation](working, members, around)
        if isinstance(done, Rejected):
            return done
        working = done
    return working


def concluded(working: Working, operations: tuple[str, ...], now: datetime) -> Working:
    """Return the copy with the event that tells of the whole request, and of the end where there is one."""
    working = working.after(KeyModified(at=now, operations=operations, key=working.key), working.key)
    return working.after(LicenseTerminated(at=now), working.key) if working.ends else working


def suitable_owner(owner_id: str | None, around: Surroundings) -> Owner | Rejected:
    """Return the client that is to own a key, or why it cannot (partner-api 6.1)."""
    owner = around.owners.owners.get(owner_id or "")
    if (
        owner is None
        or owner.kind is OwnerKind.RESELLER
        or owner.suspended
        or not around.owners.reaches(around.asked_by, owner.owner_id)
    ):
        return Rejected(RejectionCode.KEY_OWNER_UNSUITABLE, {"owner": owner_id or ""})
    return owner


def live_children(license_id: LicenseId, related: Mapping[LicenseId, License]) -> Iterator[tuple[License, KeyDetails]]:
    """Yield the keys attached to a key that are not terminated."""
    for other in related.values():
        parent = None if other.key is None else other.key.parent
        attached = parent is not None and parent.license_id == license_id
        if other.key is not None and attached and other.status is not LicenseStatus.TERMINATED:
            yield other, other.key


def _move(working: Working, members: KeyMembers, around: Surroundings) -> Working | Rejected:
    owner = suitable_owner(members.owner_id, around)
    if isinstance(owner, Rejected):
        return owner
    parent = working.key.parent
    if parent is not None:
        return Rejected(RejectionCode.KEY_PARENT_UNSUITABLE, {"parent": str(parent.key_id)})
    key = _owned_by(working.key, owner)
    along: dict[LicenseId, tuple[LicenseEvent, ...]] = {
        child.license_id: (KeyMoved(at=around.now, key=replace(_owned_by(details, owner), modified_at=around.now)),)
        for child, details in live_children(working.license.license_id, around.related)
    }
    moved = working.after(KeyMoved(at=around.now, key=key), key)
    return replace(moved, elsewhere={**moved.elsewhere, **along})


def _owned_by(key: KeyDetails, owner: Owner) -> KeyDetails:
    return replace(key, owner=owner.owner_id, configuration=owner.default_configuration)


def _state(working: Working, members: KeyMembers, around: Surroundings) -> Working | Rejected:
    if KeyMember.TERMINATED in members.given and members.terminated:
        return end(working)
    terms = base_terms(working.key, around.catalog)
    if terms is not None and not terms.suspendable:
        return working.refused(RejectionCode.KEY_STATE_REFUSED)
    event = LicenseSuspended(at=around.now) if members.suspended else LicenseResumed(at=around.now)
    return working.after(event, working.key)


def end(working: Working) -> Working | Rejected:
    """Return the copy that ends; what is bought for good never does."""
    return working.refused(RejectionCode.KEY_STATE_REFUSED) if working.key.purchased else replace(working, ends=True)


def _upgrade(working: Working, members: KeyMembers, around: Surroundings) -> Working | Rejected:
    account = around.owners.accounts.get(around.asked_by)
    price_list = None if account is None else account.price_list
    if around.provided is not None:
        return _switch(working, members, around.provided, around)
    held = held_product(working.key, around.catalog)
    if held is not None:
        wanted = wanted_product(held, members.items or (), around.catalog, around.policy, price_list)
        return wanted if isinstance(wanted, Rejected) else _switch_to(wanted, working, members, around)
    items = changed_items(working.key.items, members.items or (), around.catalog, price_list)
    if isinstance(items, Rejected):
        return items
    key = replace(working.key, items=items)
    terms = base_terms(key, around.catalog)
    if terms is not None:
        key = with_terms(key, terms)
    product = base_item(items, around.catalog) or working.license.product
    return working.after(KeyUpgraded(at=around.now, product=product, key=key), key)


def _switch_to(target: Listed, working: Working, members: KeyMembers, around: Surroundings) -> Working | Rejected:
    """Switch to another product of the ISV endpoint, on paper while a provider has something to do first."""
    steps = steps_towards(working.license, target)
    if isinstance(steps, Rejected):
        return steps
    return replace(_switch(working, members, working.license.service, around), steps=steps)


def _switch(working: Working, members: KeyMembers, service: UpstreamService | None, around: Surroundings) -> Working:
    (wanted,) = members.items or ()
    event, key = switched(working.license, working.key, wanted, service=service, now=around.now)
    return working.after(event, key)


def with_terms(key: KeyDetails, terms: ItemTerms) -> KeyDetails:
    """Return the details with what follows from the base item."""
    return replace(key, family=terms.family, purchased=not terms.lease, activatable=terms.activatable)


def _activate(working: Working, members: KeyMembers, around: Surroundings) -> Working | Rejected:
    key, wanted = working.key, members.activation
    uid = "" if wanted is None or wanted.uid is None else wanted.uid
    left = remaining_activations(key, around.now)
    refused: str | None = None
    if wanted is None or wanted.activated is False:
        refused = "an activated key cannot be deactivated"
    elif not key.activatable:
        refused = "the product has no activation"
    elif not uid:
        refused = "the UID is empty"
    elif any(other.uid == uid for other in _family_of(working, around)):
        refused = "the UID is in use by another key of the product"
    elif left <= 0:
        refused = "no activation is left this month"
    if refused is not None:
        return Rejected(RejectionCode.KEY_ACTIVATION_REFUSED, {"uid": uid, "reason": refused})
    month = around.now.astimezone(UTC).date().replace(day=1)
    counted = MonthlyActivations(month=month, remaining=left - 1)
    return replace(working, key=replace(key, uid=uid, activations=counted))


def _bind(working: Working, members: KeyMembers, around: Surroundings) -> Working | Rejected:
    key, address = working.key, working.key.address
    if KeyMember.ADDRESS in members.given:
        address = None if members.address is None else canonical_address(members.address)
        if address is None and members.address is not None:
            return Rejected(RejectionCode.KEY_VALUE_INVALID, {"field": KeyMember.ADDRESS})
    restrict = key.restrict_address and address is not None
    if KeyMember.RESTRICT_ADDRESS in members.given:
        restrict = bool(members.restrict_address)
    if restrict and address is None:
        return Rejected(RejectionCode.KEY_VALUE_INVALID, {"field": KeyMember.RESTRICT_ADDRESS})
    if address is not None and any(other.address == address for other in _family_of(working, around)):
        return Rejected(RejectionCode.KEY_ADDRESS_TAKEN, {"address": address})
    return replace(working, key=replace(key, address=address, restrict_address=restrict))


def _family_of(working: Working, around: Surroundings) -> Iterator[KeyDetails]:
    """Yield the other live keys of the family, as far as they may stand in the way."""
    for other in around.related.values():
        if (
            other.license_id != working.license.license_id
            and other.status is not LicenseStatus.TERMINATED
            and other.key is not None
            and other.key.family == working.key.family
        ):
            yield other.key


def _configure(working: Working, members: KeyMembers, around: Surroundings) -> Working | Rejected:
    owner = around.owners.owners.get(working.key.owner)
    wanted = members.configuration_id
    if wanted is None:
        default = around.owners.default_configuration(working.key.owner)
        return replace(working, key=replace(working.key, configuration=default))
    if owner is None or wanted not in owner.configurations:
        return Rejected(RejectionCode.KEY_CONFIGURATION_UNSUITABLE, {"configuration": str(wanted)})
    return replace(working, key=replace(working.key, configuration=wanted))


def _relate(working: Working, members: KeyMembers, around: Surroundings) -> Working | Rejected:
    before = working.key.parent
    concerned = {} if before is None else {before.license_id: ()}
    if members.parent is None:
        return replace(working, key=replace(working.key, parent=None), elsewhere={**working.elsewhere, **concerned})
    found = _find(members.parent, around)
    if found is None or not _may_attach(working, *found, around):
        return Rejected(RejectionCode.KEY_PARENT_UNSUITABLE, {"parent": _shown(members.parent)})
    parent, details = found
    attached = ParentKey(license_id=parent.license_id, key_id=details.key_id, activation_code=details.activation_code)
    return replace(
        working,
        key=replace(working.key, parent=attached),
        elsewhere={**working.elsewhere, **concerned, parent.license_id: ()},
    )


def _find(reference: KeyReference, around: Surroundings) -> tuple[License, KeyDetails] | None:
    for other in around.related.values():
        if other.key is not None and names_key(reference, other.key.key_id, other.key.activation_code):
            return other, other.key
    return None


def _may_attach(working: Working, parent: License, details: KeyDetails, around: Surroundings) -> bool:
    """Whether the key may be attached to `parent` (partner-api 6.1)."""
    terms, own = base_terms(working.key, around.catalog), working.license.license_id
    siblings = (key for child, key in live_children(parent.license_id, around.related) if child.license_id != own)
    return (
        parent.license_id != own
        and parent.status is not LicenseStatus.TERMINATED
        and not parent.suspended
        and details.owner == working.key.owner
        and details.parent is None
        and terms is not None
        and details.family in terms.parents
        and all(sibling.family != working.key.family for sibling in siblings)
    )


def _shown(reference: KeyReference) -> str:
    return reference.key_number or reference.activation_code or str(reference.key_id or "")


def _rebuild(working: Working, members: KeyMembers, _: Surroundings) -> Working | Rejected:
    if members.items is None:
        return working  # the rows follow from what the key holds; every reference stays
    return replace(working, key=replace(working.key, items=referenced_items(working.key.items, members.items)))


def _name(working: Working, members: KeyMembers, _: Surroundings) -> Working | Rejected:
    nickname = members.nickname or ""
    if len(nickname) > NICKNAME_CHARACTERS_MAX:
        return Rejected(RejectionCode.KEY_VALUE_INVALID, {"field": KeyMember.NICKNAME})
    return replace(working, key=replace(working.key, nickname=nickname))


def _set_renewal(working: Working, members: KeyMembers, _: Surroundings) -> Working | Rejected:
    return replace(working, key=replace(working.key, auto_renew=bool(members.auto_renew)))


EFFECTS: Final[Mapping[KeyOperation, Effect]] = {
    KeyOperation.MOVE: _move,
    KeyOperation.STATE: _state,
    KeyOperation.UPGRADE: _upgrade,
    KeyOperation.ACTIVATE: _activate,
    KeyOperation.IPBIND: _bind,
    KeyOperation.CONFIG: _configure,
    KeyOperation.PARENT: _relate,
    KeyOperation.REBUILD: _rebuild,
    KeyOperation.NICKNAME: _name,
    KeyOperation.AUTORENEW: _set_renewal,
}
