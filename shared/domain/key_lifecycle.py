"""The commands around "modify": make, end, renew, update subscription, conversion, activations (partner-api 3).

Each returns the working copy it leaves, or the refusal. What a copy without events means: there was nothing to do.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from shared.contracts.key_commands import (
    ConvertToEdition,
    CreateKey,
    KeyMember,
    KeyMembers,
    ReinstateSus,
    SetRemainingActivations,
    WantedItem,
)
from shared.contracts.outcomes import RejectionCode
from shared.domain.catalog import Catalog, ItemKind, ItemTerms, Product
from shared.domain.decision import Rejected
from shared.domain.events import KeyIssued, KeyRenewed, KeyUpgraded, LicenseTerminated
from shared.domain.key_details import KeyDetails, KeyItem, MonthlyActivations
from shared.domain.key_items import base_item, base_terms, changed_items, new_items
from shared.domain.key_modification import KeyOperation, in_order, wanted_operations
from shared.domain.key_operations import (
    Surroundings,
    Working,
    carry_out,
    concluded,
    end,
    suitable_owner,
    with_terms,
)
from shared.domain.key_structure import KeyView, sus_status
from shared.domain.license import License, LicenseStatus, evolve
from shared.domain.term import is_due, months_later

GRACE_DAYS = 10
"""Between renewal day and expiry (partner-api 4.5)."""
SAME_RENEWAL = timedelta(hours=24)
"""A renewal asked again within this time is the same one (partner-api 3.2)."""
MONTHS_A_YEAR = 12
ON_CREATE = frozenset(
    {
        KeyOperation.ACTIVATE,
        KeyOperation.IPBIND,
        KeyOperation.CONFIG,
        KeyOperation.PARENT,
        KeyOperation.NICKNAME,
        KeyOperation.AUTORENEW,
    }
)
"""Operations that members of a create lead to; they act as in a modification (partner-api 3)."""


def create(command: CreateKey, activation_code: str, around: Surroundings) -> Working | Rejected:
    """Return the new key: its items, then what the other members ask, all or nothing."""
    members = command.members
    for member in (KeyMember.TERMINATED, KeyMember.SUSPENDED):
        if member in members.given and getattr(members, member.value):
            return Rejected(RejectionCode.KEY_VALUE_INVALID, {"field": member})
    account = around.owners.accounts.get(around.asked_by)
    named = members.owner_id if KeyMember.OWNER in members.given else _own_client(around)
    owner = suitable_owner(named, around)
    if isinstance(owner, Rejected):
        return owner
    items = new_items(members.items or (), around.catalog, None if account is None else account.price_list)
    if isinstance(items, Rejected):
        return items
    product, terms = _base(items, around.catalog)
    key = _fresh(command, activation_code, items, product, terms, around.now)
    key = replace(key, owner=owner.owner_id, configuration=owner.default_configuration)
    issued = KeyIssued(
        at=around.now,
        account=command.account,
        number=command.number,
        product=product.sku,
        expires_on=_expiry(key.update_on),
        key=key,
    )
    return _with_members(Working(license=evolve(None, issued), key=key), issued, members, around)


def _own_client(around: Surroundings) -> str | None:
    account = around.owners.accounts.get(around.asked_by)
    return None if account is None else account.default_client or account.owner


def _base(items: tuple[KeyItem, ...], catalog: Catalog) -> tuple[Product, ItemTerms]:
    found = catalog.find_item(base_item(items, catalog) or "")
    assert found is not None, "new_items lets no set pass without a base item"  # noqa: S101 - its own guarantee
    return found


def _fresh(
    command: CreateKey,
    activation_code: str,
    items: tuple[KeyItem, ...],
    product: Product,
    terms: ItemTerms,
    now: datetime,
) -> KeyDetails:
    today = now.astimezone(UTC).date()
    has_renewal = terms.lease and product.period_months > 0
    update_on = months_later(today, product.period_months) if has_renewal else None
    key = KeyDetails(
        key_id=int(command.number),
        activation_code=activation_code,
        owner="",
        configuration=None,
        items=items,
        family=terms.family,
        created_at=now,
        modified_at=now,
        update_on=update_on,
        sus_expires_on=_expiry(update_on) if update_on is not None and terms.kind is ItemKind.BASE else None,
    )
    return with_terms(key, terms)


def _expiry(update_on: date | None) -> date:
    """Return the last day that belongs to a renewal day; the last day of all for a key without renewal."""
    if update_on is None or update_on > date.max - timedelta(days=GRACE_DAYS):
        return date.max
    return update_on + timedelta(days=GRACE_DAYS)


def _with_members(working: Working, issued: KeyIssued, members: KeyMembers, around: Surroundings) -> Working | Rejected:
    """Carry out what the members ask beside items and owner; the key is issued with all of it."""
    default = around.owners.default_configuration(working.key.owner)
    view = KeyView(details=working.key, key_version=0, expires_on=issued.expires_on, terminated=False, suspended=False)
    wanted = wanted_operations(view, members, default_configuration=default) & ON_CREATE
    done = carry_out(in_order(wanted), working, members, around)
    if isinstance(done, Rejected):
        return done
    issued = replace(issued, key=done.key)
    return replace(done, license=evolve(None, issued), events=(issued,))


def terminate(working: Working, around: Surroundings) -> Working | Rejected:
    """End the key for good; a terminated one stays as it is. Children stay attached and alive."""
    if working.license.status is LicenseStatus.TERMINATED:
        return working
    done = end(working)
    if isinstance(done, Rejected):
        return done
    return done.after(LicenseTerminated(at=around.now), replace(done.key, modified_at=around.now))


def renew(working: Working, around: Surroundings) -> Working | Rejected:
    """Move renewal and expiry on by one period, unless an earlier renewal just did."""
    key, license = working.key, working.license
    if _is_terminated(license):
        return working.refused(RejectionCode.KEY_TERMINATED)
    if key.renewed_at is not None and around.now - key.renewed_at < SAME_RENEWAL:
        return working
    months = _period_months(key, around.catalog)
    if key.update_on is None or license.expires_on is None or months <= 0 or license.service is not None:
        return working.refused(RejectionCode.KEY_STATE_REFUSED)
    update_on = months_later(key.update_on, months)
    expires_on = update_on if base_terms(key, around.catalog) is None else _expiry(update_on)
    expires_on = max(expires_on, license.expires_on)
    sus = key.sus_expires_on
    renewed = replace(
        key,
        update_on=update_on,
        sus_expires_on=None if sus is None else max(sus, expires_on),
        modified_at=around.now,
        renewed_at=around.now,
    )
    active = not is_due(expires_on, around.now)
    event = KeyRenewed(at=around.now, active=active, expires_on=expires_on, key=renewed)
    return working.after(event, renewed)


def _period_months(key: KeyDetails, catalog: Catalog) -> int:
    """Return the length of a period; of a license that was bought elsewhere, that of its product."""
    for item in key.items:
        product = catalog.products.get(item.item)
        if product is not None and (product.item is None or product.item.is_base):
            return product.period_months
    return 0


def renew_sus(working: Working, around: Surroundings) -> Working | Rejected:
    """Move an active update subscription on by one year."""
    sus = working.key.sus_expires_on
    if _is_terminated(working.license):
        return working.refused(RejectionCode.KEY_TERMINATED)
    if sus is None or sus_status(sus, around.now) != "ACTIVE":
        return working.refused(RejectionCode.KEY_SUS_STATE)
    return _changed(working, replace(working.key, sus_expires_on=months_later(sus, MONTHS_A_YEAR)), "RENEW_SUS", around)


def reinstate_sus(command: ReinstateSus, working: Working, around: Surroundings) -> Working | Rejected:
    """Begin an expired update subscription again, for one year from today."""
    key, sus = working.key, working.key.sus_expires_on
    if _is_terminated(working.license):
        return working.refused(RejectionCode.KEY_TERMINATED)
    if sus is None or sus_status(sus, around.now) == "ACTIVE":
        return working.refused(RejectionCode.KEY_SUS_STATE)
    if command.external_id is not None:
        base = base_item(key.items, around.catalog)
        key = replace(
            key,
            items=tuple(
                replace(item, external_id=command.external_id) if item.item == base else item for item in key.items
            ),
        )
    today = around.now.astimezone(UTC).date()
    key = replace(key, sus_expires_on=months_later(today, MONTHS_A_YEAR))
    return _changed(working, key, "REINSTATE_SUS", around)


def convert(command: ConvertToEdition, working: Working, around: Surroundings) -> Working | Rejected:
    """Replace the items of the key by the single one of an edition."""
    key = working.key
    if _is_terminated(working.license):
        return working.refused(RejectionCode.KEY_TERMINATED)
    if working.license.suspended:
        return working.refused(RejectionCode.KEY_SUSPENDED)
    before = base_item(key.items, around.catalog)
    target = _edition_item(before, command.edition, around.catalog)
    if target is None:
        details = {"item": command.edition.value, "reason": "the key cannot be converted to this edition"}
        return Rejected(RejectionCode.KEY_ITEMS_REFUSED, details)
    if [item.item for item in key.items] == [target]:
        return working
    account = around.owners.accounts.get(around.asked_by)
    price_list = None if account is None else account.price_list
    items = changed_items(key.items, (WantedItem(item=target),), around.catalog, price_list)
    if isinstance(items, Rejected):
        return items
    key = replace(key, items=items, modified_at=around.now)
    return working.after(KeyUpgraded(at=around.now, product=target, key=key), key)


def _edition_item(before: str | None, edition: str, catalog: Catalog) -> str | None:
    """Return the base item of an edition that a key of `before` may hold: the same one, or one above or below it."""
    if before is None:
        return None
    for sku, product in catalog.products.items():
        is_edition = product.item is not None and product.item.edition == edition
        if is_edition and (sku == before or sku in catalog.above(before) or before in catalog.above(sku)):
            return sku
    return None


def set_activations(command: SetRemainingActivations, working: Working, around: Surroundings) -> Working | Rejected:
    """Set how often the key may still be activated this month."""
    if _is_terminated(working.license):
        return working.refused(RejectionCode.KEY_TERMINATED)
    if command.remaining < 0:
        return Rejected(RejectionCode.KEY_VALUE_INVALID, {"field": "remaining-activations"})
    month = around.now.astimezone(UTC).date().replace(day=1)
    counted = MonthlyActivations(month=month, remaining=command.remaining)
    if working.key.activations == counted:
        return working
    return _changed(working, replace(working.key, activations=counted), "ACTIVATIONS", around)


def _changed(working: Working, key: KeyDetails, operation: str, around: Surroundings) -> Working:
    changed = replace(working, key=replace(key, modified_at=around.now))
    return concluded(changed, (operation,), around.now)


def _is_terminated(license: License) -> bool:
    return license.status is LicenseStatus.TERMINATED
