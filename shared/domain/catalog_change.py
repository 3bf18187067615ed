"""What a new catalog changes, product by product, and which changes strand licenses that live under the old one.

A license is stranded when something it was sold with is gone: its product, a step it could still go, a counter it
reports, or the model, kind or provider it runs under. Its holder finds out at the next request, so people should know
before the catalog comes into force.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum

from shared.domain.catalog import Catalog, Product


class ChangeKind(StrEnum):
    """What happens to a product."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductChange:
    """The difference for one SKU."""

    sku: str
    kind: ChangeKind
    details: tuple[str, ...] = ()
    """Each changed member with its old and new value."""
    strands: tuple[str, ...] = ()
    """Why live licenses of this product, and of its NFR twin, would be stranded; empty when they would not."""


def changes_between(old: Catalog | None, new: Catalog) -> tuple[ProductChange, ...]:
    """Return what differs, by SKU. `old` is None before the first catalog."""
    before = {} if old is None else old.products
    found: list[ProductChange] = []
    for sku in sorted(before.keys() | new.products.keys()):
        was, becomes = before.get(sku), new.products.get(sku)
        if was is None:
            found.append(ProductChange(sku=sku, kind=ChangeKind.ADDED))
        elif becomes is None:
            found.append(ProductChange(sku=sku, kind=ChangeKind.REMOVED, strands=("the product is gone",)))
        elif details := tuple(_details(was, becomes)):
            strands = tuple(_strands(was, becomes))
            found.append(ProductChange(sku=sku, kind=ChangeKind.CHANGED, details=details, strands=strands))
    return tuple(found)


def _details(was: Product, becomes: Product) -> Iterator[str]:
    if set(was.upgrades_to) != set(becomes.upgrades_to):
        yield f"upgrades_to: {_listed(was.upgrades_to)} -> {_listed(becomes.upgrades_to)}"
    if set(was.counters) != set(becomes.counters):
        yield f"counters: {_listed(_counters(was))} -> {_listed(_counters(becomes))}"
    for name in (
        *("kind", "model", "provider", "provider_account", "test_provider_account"),
        *("period_months", "body", "wind_down_days"),
    ):
        if getattr(was, name) != getattr(becomes, name):
            yield f"{name}: {getattr(was, name) or 'none'} -> {getattr(becomes, name) or 'none'}"
    if was.item != becomes.item:
        yield f"item: {_item(was)} -> {_item(becomes)}"
    if was.offer != becomes.offer:
        yield f"offer: {_offer(was)} -> {_offer(becomes)}"


def _strands(was: Product, becomes: Product) -> Iterator[str]:
    for name in ("kind", "model", "provider"):
        if getattr(was, name) != getattr(becomes, name):
            yield f"{name} changes from {getattr(was, name)} to {getattr(becomes, name)}"
    for target in was.upgrades_to:
        if target not in becomes.upgrades_to:
            yield f"the step to {target} is gone"
    remaining = {counter.name: counter.kind for counter in becomes.counters}
    for counter in was.counters:
        kind = remaining.get(counter.name)
        if kind is None:
            yield f"the counter {counter.name} is gone"
        elif kind is not counter.kind:
            yield f"the counter {counter.name} becomes {kind}, was {counter.kind}"


def _counters(product: Product) -> tuple[str, ...]:
    return tuple(f"{counter.name} ({counter.kind})" for counter in product.counters)


def _offer(product: Product) -> str:
    offer = product.offer
    if offer is None:
        return "none"
    return ", ".join(f"{member.name} {getattr(offer, member.name)}" for member in fields(offer))


def _item(product: Product) -> str:
    item = product.item
    if item is None:
        return "none"
    return ", ".join(f"{member.name} {getattr(item, member.name)}" for member in fields(item))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
