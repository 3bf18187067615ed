"""A license of the other protocol as a key: its one item is the product that it holds, and may become another one.

docs/protocols/partner-api.md 4.4, 5.7, 6.1. What may become what, and what has to be asked of a provider before, the
ISV endpoint knows already (docs/protocols/isv-endpoint.md 5.3); here it is only said in the words of items.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from shared.contracts.key_commands import WantedItem
from shared.contracts.outcomes import RejectionCode
from shared.domain.case import Policy
from shared.domain.catalog import Catalog, Listed
from shared.domain.decision import Rejected
from shared.domain.events import LicenseUpgraded
from shared.domain.key_details import KeyDetails
from shared.domain.key_items import PriceList
from shared.domain.license import License, LicenseStatus, seen_by_owner
from shared.domain.provisioning import Step, UpstreamService, fault_of, is_module, plan_change, plan_order


def held_product(key: KeyDetails, catalog: Catalog) -> Listed | None:
    """Return the product that is all a key holds; None for a key of items, and for a product that is sold no more."""
    if len(key.items) != 1 or not key.items[0].unmatched:
        return None
    return catalog.find(key.items[0].item)


def wanted_product(
    held: Listed, wanted: Sequence[WantedItem], catalog: Catalog, policy: Policy, price_list: PriceList
) -> Listed | Rejected:
    """Return the product that a request names in the place of `held`, or why it cannot be that."""
    for each in wanted:
        if each.item not in catalog.products and catalog.find(each.item) is None:
            return Rejected(RejectionCode.KEY_ITEM_UNKNOWN, {"item": each.item})
    target = catalog.find(wanted[0].item) if len(wanted) == 1 else None
    if target is None:
        return _refused(held.product_id, "a license holds exactly one product, and no items")
    fault = _fault_of_change(held, target, catalog, policy, price_list)
    if fault is None and wanted[0].quantity != 1:
        fault = "it has no quantity"
    return target if fault is None else _refused(target.product_id, fault)


def _fault_of_change(
    held: Listed, target: Listed, catalog: Catalog, policy: Policy, price_list: PriceList
) -> str | None:
    if target == held:
        return None
    if price_list is not None and target.product_id not in price_list:
        return "it is not in the price list"
    allowed = catalog.can_upgrade(held, target, nfr_to_regular_allowed=policy.nfr_to_regular_allowed)
    return None if allowed else f"{held.product_id} cannot become it"


def steps_towards(license: License, target: Listed) -> tuple[Step, ...] | Rejected:
    """Return what has to be asked upstream before the license can hold `target`, or why it is not asked."""
    if license.status is LicenseStatus.LAPSED:
        return _refused(target.product_id, "the license has lapsed: renew it first")
    if license.service is None:
        return ()
    fault = fault_of(license.service.data, target.product)
    if fault is not None:
        return _refused(target.product_id, fault)
    if target.product.sku == license.service.sku:
        return plan_change(target.product, license.service, license.service.data)
    if is_module(target.product):
        return _refused(target.product_id, "a module is changed where it was bought")
    return plan_order(target.product, license.service.data, None, test=license.test)


def switched(
    license: License, key: KeyDetails, wanted: WantedItem, *, service: UpstreamService | None, now: datetime
) -> tuple[LicenseUpgraded, KeyDetails]:
    """Return what happens to the license, the very event of the ISV endpoint, and what its owner then sees."""
    assert license.expires_on is not None  # noqa: S101 - only a tombstone has none, and it is no key
    event = LicenseUpgraded(
        at=now,
        product=wanted.item,
        expires_on=license.expires_on,
        purchase_on=now.astimezone(UTC).date(),
        activation_data=license.activation_data,
        service=service,
    )
    seen = seen_by_owner(key, event)
    if wanted.external_id_given:
        seen = replace(seen, items=(replace(seen.items[0], external_id=wanted.external_id),))
    return event, seen


def _refused(item: str, reason: str) -> Rejected:
    return Rejected(RejectionCode.KEY_ITEMS_REFUSED, {"item": item, "reason": reason})
