"""The items of a key: which sets of them there can be, and which changes of the set.

docs/protocols/partner-api.md 4.4, 6.1. A request names the wanted set; whether that is an upgrade or a downgrade
follows from it.
"""

from collections.abc import Sequence

from shared.contracts.key_commands import WantedItem
from shared.contracts.outcomes import RejectionCode
from shared.domain.catalog import Catalog, ItemKind, ItemTerms
from shared.domain.decision import Rejected
from shared.domain.key_details import KeyDetails, KeyItem

PriceList = frozenset[str] | None
"""Constants that an account may use; None: all of the catalog."""


def base_terms(key: KeyDetails, catalog: Catalog) -> ItemTerms | None:
    """Return the terms of the base item that a key holds; None when the catalog does not know it."""
    for held in key.items:
        found = catalog.find_item(held.item)
        if found is not None and found[1].is_base:
            return found[1]
    return None


def base_item(items: Sequence[KeyItem], catalog: Catalog) -> str | None:
    """Return the constant of the base item among `items`."""
    return next((each.item for each in items if _is_base(each.item, catalog)), None)


def new_items(wanted: Sequence[WantedItem], catalog: Catalog, price_list: PriceList) -> tuple[KeyItem, ...] | Rejected:
    """Return the items of a key that is to be made, or why there is no such key."""
    return _set_fault(wanted, (), catalog, price_list) or tuple(_fresh(each) for each in wanted)


def changed_items(
    stored: Sequence[KeyItem], wanted: Sequence[WantedItem], catalog: Catalog, price_list: PriceList
) -> tuple[KeyItem, ...] | Rejected:
    """Return the items after an upgrade, or why it is refused: kept ones in their order, then the new ones.

    References of kept items stay; changing them is another operation.
    """
    refused = (
        _set_fault(wanted, stored, catalog, price_list)
        or _unmatched_fault(stored, wanted)
        or _step_fault(stored, wanted, catalog)
    )
    if refused is not None:
        return refused
    by_constant = {each.item: each for each in wanted}
    kept = tuple(
        KeyItem(
            item=held.item,
            external_id=held.external_id,
            quantity=by_constant[held.item].quantity,
            unmatched=held.unmatched,
        )
        for held in stored
        if held.item in by_constant
    )
    names = {held.item for held in kept}
    return (*kept, *(_fresh(each) for each in wanted if each.item not in names))


def referenced_items(stored: Sequence[KeyItem], wanted: Sequence[WantedItem]) -> tuple[KeyItem, ...]:
    """Return the stored items with the references that a request gives to some of them."""
    given = {each.item: each.external_id for each in wanted if each.external_id_given}
    return tuple(
        KeyItem(
            item=held.item,
            external_id=given.get(held.item, held.external_id),
            quantity=held.quantity,
            unmatched=held.unmatched,
        )
        for held in stored
    )


def _fresh(wanted: WantedItem) -> KeyItem:
    return KeyItem(item=wanted.item, external_id=wanted.external_id, quantity=wanted.quantity)


def _is_base(constant: str, catalog: Catalog) -> bool:
    found = catalog.find_item(constant)
    return found is not None and found[1].is_base


def _refused(item: str, reason: str) -> Rejected:
    return Rejected(RejectionCode.KEY_ITEMS_REFUSED, {"item": item, "reason": reason})


def _set_fault(
    wanted: Sequence[WantedItem], stored: Sequence[KeyItem], catalog: Catalog, price_list: PriceList
) -> Rejected | None:
    """Return what is wrong with the wanted set as such."""
    held = {each.item for each in stored}
    foreign = {each.item for each in stored if each.unmatched}
    for each in wanted:
        if each.item not in foreign and catalog.find_item(each.item) is None:
            return Rejected(RejectionCode.KEY_ITEM_UNKNOWN, {"item": each.item})
    constants = [each.item for each in wanted]
    for constant in constants:
        if constants.count(constant) > 1:
            return _refused(constant, "it stands there twice")
        if price_list is not None and constant not in held and constant not in price_list:
            return _refused(constant, "it is not in the price list")
    bases = [constant for constant in constants if _is_base(constant, catalog)]
    if len(bases) != 1:
        return _refused(bases[1] if bases else "", "a key has exactly one base item")
    return _fit_fault(wanted, bases[0], catalog)


def _fit_fault(wanted: Sequence[WantedItem], base: str, catalog: Catalog) -> Rejected | None:
    """Return the first item that does not go with the base item, or that has a quantity and must not."""
    whole = catalog.find_item(base)
    for each in wanted:
        found = catalog.find_item(each.item)
        if found is None or whole is None:
            continue
        if found[1].family != whole[1].family:
            return _refused(each.item, f"it does not go with {base}")
        if each.quantity != 1 and found[1].kind is not ItemKind.METERED:
            return _refused(each.item, "it has no quantity")
    return None


def _unmatched_fault(stored: Sequence[KeyItem], wanted: Sequence[WantedItem]) -> Rejected | None:
    sent_back = {(each.item, each.quantity) for each in wanted}
    for held in stored:
        if held.unmatched and (held.item, held.quantity) not in sent_back:
            return _refused(held.item, "it cannot be changed here and must come back unchanged")
    return None


def _step_fault(stored: Sequence[KeyItem], wanted: Sequence[WantedItem], catalog: Catalog) -> Rejected | None:
    """Return why the base item may not become the wanted one: up along the catalog, down only where it says so."""
    before = base_item(stored, catalog)
    after = next((each.item for each in wanted if _is_base(each.item, catalog)), None)
    if before == after or after is None:
        return None
    if before is None:
        return _refused(after, "the key holds no base item that could become it")
    if after in catalog.above(before):
        return None
    found = catalog.find_item(before)
    if before in catalog.above(after) and found is not None and found[1].downgradable:
        return None
    return _refused(after, f"{before} cannot become it")
