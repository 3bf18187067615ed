"""Rules of a catalog: a document is either a `Catalog`, or all that is wrong with it at once.

Only what passes here may come into force: upgrades lead upward, between products of one kind, model and provider, and
never in a circle (docs/protocols/isv-endpoint.md 5.3); our SKUs leave room for the `NFR-` prefix (4.1); what is
ordered upstream says how (docs/protocols/isplicense.md 6.1, 6.3). A circle is told by its shortest round.
"""

import re
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

from shared.contracts.commands import LicensingModel
from shared.domain.catalog import (
    FIRST_PROVIDER_ACCOUNT,
    NFR_PREFIX,
    BodySource,
    Catalog,
    ItemKind,
    ItemTerms,
    Product,
    ProductKind,
    Provider,
    ProviderOffer,
)
from shared.domain.catalog_document import Fault, ReadProduct, read_document

SKU_LENGTH_MAX = 26
"""Of an ISV product: 30 characters on the wire less the prefix."""
ITEM_LENGTH_MAX = 64
COUNTER_NAME = re.compile(r"[a-z][A-Za-z0-9]{0,63}", re.ASCII)
PRINTABLE_WITHOUT_SPACE = re.compile(r"[!-~]+")
PERIODS_MONTHS = (0, 1, 12)
"""Lifetime, month, year: all that is ever ordered."""
WIND_DOWN_DAYS_MAX = 366
ACCOUNT_NAME = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
LICENSE_ORDER = "softexternal.order.param"
MODULE_ORDER = "addition.order.param"
ORDER_FUNCTIONS = (LICENSE_ORDER, "parallelslic.order.param", MODULE_ORDER)

Upgrades = Mapping[str, Collection[str]]

_Value = TypeVar("_Value", int, str)


def check_catalog(document: object, *, version: int) -> Catalog | tuple[Fault, ...]:
    """Return `document` as the catalog of `version`, or every fault in it: those of form, then the rules."""
    read, faults = read_document(document)
    products: dict[str, ReadProduct] = {}
    for entry in read:
        first = products.setdefault(entry.product.sku, entry)
        if first is not entry:
            faults.append(Fault(entry.where, f"SKU stands twice, first at {first.where}: remove one of them"))
    for entry in products.values():
        faults += (Fault(entry.where, text) for text in _product_faults(entry.product))
        faults += (Fault(entry.where, text) for text in _edge_faults(entry.product, products))
    cycle = shortest_cycle(_edges_between(products))
    if cycle is not None:
        faults.append(
            Fault("upgrades_to", f"upgrades lead in a circle: {' -> '.join(cycle)}; remove one of these steps")
        )
    if faults:
        return tuple(faults)
    return Catalog(version=version, products={sku: entry.product for sku, entry in products.items()})


def shortest_cycle(upgrades: Upgrades) -> tuple[str, ...] | None:
    """Return a shortest circle in `upgrades` as `(A, B, …, A)`, None when there is none.

    Among equally short ones it is the first in the order of `upgrades`. Targets that are no key lead nowhere.
    """
    circular = _on_circles(upgrades)
    best: tuple[str, ...] | None = None
    for start in circular:
        found = _way_back(start, circular, steps_max=len(best) - 2 if best else len(circular))
        best = found or best
    return best


def _on_circles(upgrades: Upgrades) -> dict[str, list[str]]:
    """Return the part of the graph that remains when dead ends are taken away again and again."""
    remaining = {sku: [target for target in targets if target in upgrades] for sku, targets in upgrades.items()}
    arriving: dict[str, list[str]] = {sku: [] for sku in remaining}
    for sku, targets in remaining.items():
        for target in targets:
            arriving[target].append(sku)
    leaving = {sku: len(targets) for sku, targets in remaining.items()}
    dead_ends = deque(sku for sku, count in leaving.items() if count == 0)
    while dead_ends:
        gone = dead_ends.popleft()
        del remaining[gone]
        for sku in arriving[gone]:
            leaving[sku] -= 1
            if leaving[sku] == 0:
                dead_ends.append(sku)
    return {sku: [target for target in targets if target in remaining] for sku, targets in remaining.items()}


def _way_back(start: str, upgrades: Upgrades, *, steps_max: int) -> tuple[str, ...] | None:
    """Return the shortest way of at most `steps_max` steps from `start` to itself, searched breadth first."""
    came_from: dict[str, str] = {}
    reached = [start]
    for _ in range(steps_max):
        following: list[str] = []
        for sku in reached:
            for target in upgrades[sku]:
                if target == start:
                    return _retraced(start, sku, came_from)
                if target not in came_from:
                    came_from[target] = sku
                    following.append(target)
        reached = following
    return None


def _retraced(start: str, last: str, came_from: Mapping[str, str]) -> tuple[str, ...]:
    way = [start]
    while last != start:
        way.append(last)
        last = came_from[last]
    return (start, *reversed(way[1:]), start)


def _edges_between(products: Mapping[str, ReadProduct]) -> dict[str, list[str]]:
    """Return the known upgrades; a step to itself is told with its product, not again as a circle."""
    return {
        sku: [target for target in entry.product.upgrades_to if target != sku and target in products]
        for sku, entry in products.items()
    }


def _product_faults(product: Product) -> Iterator[str]:
    yield from _sku_faults(product)
    yield from _counter_faults(product)
    yield from _item_faults(product)
    yield from _account_faults(product)
    if product.period_months not in PERIODS_MONTHS:
        yield f"period_months {product.period_months}: write 1, 12 or 0 (lifetime)"
    if product.body is BodySource.PROVIDER_KEY and product.provider is Provider.LOCAL:
        yield "body provider_key, but the provider is local: there is nobody else's key; remove the member"
    if product.wind_down_days > WIND_DOWN_DAYS_MAX:
        yield f"wind_down_days {product.wind_down_days}: at most {WIND_DOWN_DAYS_MAX}"
    match product.provider, product.offer:
        case Provider.LOCAL, None:
            pass
        case Provider.LOCAL, _:
            yield "an offer, but the provider is local: remove the offer or name the provider"
        case _, None:
            yield f"provider {product.provider}, but no offer: say how it is ordered (order_function, pricelist)"
        case _, ProviderOffer() as offer:
            yield from _offer_faults(product, offer)


def _sku_faults(product: Product) -> Iterator[str]:
    sku = product.sku
    if not PRINTABLE_WITHOUT_SPACE.fullmatch(sku):
        yield f"SKU {sku[:80]!r} has other characters than printable ASCII without spaces: rename it"
    longest = SKU_LENGTH_MAX if product.kind is ProductKind.ISV else ITEM_LENGTH_MAX
    if len(sku) > longest:
        yield f"SKU of {len(sku)} characters: at most {longest} for {product.kind}"
    if product.kind is ProductKind.ISV and sku.startswith(NFR_PREFIX):
        yield f"SKU begins with {NFR_PREFIX}: remove the entry, such twins follow by rule"


def _account_faults(product: Product) -> Iterator[str]:
    named = {"provider_account": product.provider_account, "test_provider_account": product.test_provider_account}
    for member, account in named.items():
        if not account or (member, account) == ("provider_account", FIRST_PROVIDER_ACCOUNT):
            continue
        if not ACCOUNT_NAME.fullmatch(account):
            yield f"{member} {account[:80]!r}: a name is 1 to 32 small letters, digits and hyphens"
        if product.provider is Provider.LOCAL:
            yield f"{member} {account[:80]!r}, but the provider is local: remove it or name the provider"
        if product.offer is not None and product.offer.order_function == MODULE_ORDER:
            yield f"{member} {account[:80]!r}, but a module is ordered where its parent's service is: remove the member"


def _item_faults(product: Product) -> Iterator[str]:
    match product.kind, product.item:
        case ProductKind.ISV, None:
            pass
        case ProductKind.ISV, _:
            yield "an item, but it is sold on the ISV endpoint: remove the item or write `kind: key_item`"
        case _, None:
            yield "kind key_item, but no item: say what it is to a key (kind, family)"
        case _, ItemTerms() as item:
            if product.provider is not Provider.LOCAL:
                yield f"kind key_item, but provider {product.provider}: key items are fulfilled here, remove it"
            yield from _terms_faults(product, item)


def _terms_faults(product: Product, item: ItemTerms) -> Iterator[str]:
    if item.parents and item.kind is not ItemKind.ADDITIONAL:
        yield f"item.parents, but the item is of kind {item.kind}: only additional keys are attached"
    if item.kind in (ItemKind.FEATURE, ItemKind.METERED):
        for name in ("activatable", "downgradable"):
            if getattr(item, name):
                yield f"item.{name}, but the item is of kind {item.kind}: only base items say so"
        if item.edition is not None:
            yield f"item.edition, but the item is of kind {item.kind}: only base items are editions"
    if not item.lease and product.period_months != 0:
        yield "item.lease is false, but period_months is not 0: what is bought for good has no period"
    yield from (f"item.parents has {family} twice: remove one" for family in _doubles(item.parents))


def _counter_faults(product: Product) -> Iterator[str]:
    reporting = product.model is LicensingModel.REPORTING
    if reporting and product.kind is ProductKind.KEY_ITEM:
        yield "model reporting, but it is a key item: usage is reported for ISV products only"
    if reporting and not product.counters:
        yield "model reporting, but no counters: name at least one"
    if not reporting and product.counters:
        yield "counters, but the model is standard: write `model: reporting` or remove the counters"
    names = [counter.name for counter in product.counters if counter.name]
    for name in names:
        if not COUNTER_NAME.fullmatch(name):
            yield f"counter {name[:80]!r}: a name is 1 to 64 letters and digits and begins with a small letter"
    yield from (f"counter {name} stands twice: remove one" for name in _doubles(names))


def _offer_faults(product: Product, offer: ProviderOffer) -> Iterator[str]:
    if offer.order_function and offer.order_function not in ORDER_FUNCTIONS:
        yield f"order_function {offer.order_function[:80]!r} is unknown: write {', '.join(ORDER_FUNCTIONS)}"
    if offer.node_code is not None and offer.order_function != LICENSE_ORDER:
        yield f"node_code {offer.node_code}, but only {LICENSE_ORDER} counts nodes: remove it or change order_function"
    if offer.node_code == offer.pricelist:
        yield f"node_code and pricelist are both {offer.pricelist}: the price list has a code of its own for nodes"
    if not offer.periods_months:
        yield "periods_months is empty: leave it out for 1 and 12, or list some"
    for months in offer.periods_months:
        if months not in PERIODS_MONTHS:
            yield f"periods_months has {months}: only 1, 12 and 0 (lifetime) are ordered"
    yield from (f"periods_months has {months} twice: remove one" for months in _doubles(offer.periods_months))
    if offer.periods_months and product.period_months not in offer.periods_months:
        yield f"period_months {product.period_months} is not among periods_months {list(offer.periods_months)}"


def _edge_faults(product: Product, products: Mapping[str, ReadProduct]) -> Iterator[str]:
    for target in dict.fromkeys(product.upgrades_to):
        entry = products.get(target)
        if target == product.sku:
            yield f"upgrades to itself ({target} -> {target}): remove the step"
        elif entry is None:
            yield f"upgrades to {target[:80]!r}, which is not in this catalog: add it or remove the step"
        else:
            yield from _unlike_faults(product, entry.product)
    yield from (f"upgrades to {target} twice: remove one" for target in _doubles(product.upgrades_to))


def _unlike_faults(product: Product, target: Product) -> Iterator[str]:
    compared = (
        ("kind", product.kind, target.kind),
        ("model", product.model, target.model),
        ("provider", product.provider, target.provider),
        ("order_function", _order_function(product), _order_function(target)),
        ("item.kind", _item_member(product, "kind"), _item_member(target, "kind")),
        ("item.family", _item_member(product, "family"), _item_member(target, "family")),
    )
    for name, here, there in compared:
        if here and there and here != there:
            yield f"upgrades to {target.sku}, but {name} is {here} here and {there} there: remove the step"


def _order_function(product: Product) -> str:
    return "none" if product.offer is None else product.offer.order_function


def _item_member(product: Product, name: str) -> str:
    return "" if product.item is None else str(getattr(product.item, name))


def _doubles(values: Collection[_Value]) -> list[_Value]:
    return [value for value, count in Counter(values).items() if count > 1]
