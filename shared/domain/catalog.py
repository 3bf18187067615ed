"""The catalog as the rules see it: products, and which may become which.

A catalog is data with a version (`deploy/catalog/example.yaml`; read by `shared.domain.catalog_check`). NFR twins
(`NFR-…`) are never written down: they follow by rule (docs/protocols/isv-endpoint.md 5.3):
for every edge A -> B also NFR-A -> NFR-B; A -> NFR-A; and A -> NFR-B for every B above A.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shared.contracts.commands import LicensingModel

NFR_PREFIX = "NFR-"
FIRST_PROVIDER_ACCOUNT = "isplicense"
"""The provider account that every installation has; more of them are a setting."""


class Provider(StrEnum):
    """Who fulfils a product."""

    LOCAL = "local"
    """We sign the license body ourselves."""
    ISPLICENSE = "isplicense"
    """Ordered upstream from an ISPlicense panel."""


class CounterKind(StrEnum):
    """How usage events of a counter add up."""

    LEVEL = "level"
    INCREMENT = "increment"


class BodySource(StrEnum):
    """Whose bytes the license body is."""

    SIGNED = "signed"
    """Our own signed body."""
    PROVIDER_KEY = "provider_key"
    """The key that the provider gave for the service."""


class ProductKind(StrEnum):
    """Through which protocol a product is sold."""

    ISV = "isv"
    KEY_ITEM = "key_item"
    """An item of a Partner API key; unknown to the ISV endpoint."""


class ItemKind(StrEnum):
    """What an item is to the key that holds it. Every key has exactly one item of the first two kinds."""

    BASE = "base"
    """Makes a main key."""
    ADDITIONAL = "additional"
    """Makes a key that may be attached to a main one."""
    FEATURE = "feature"
    METERED = "metered"
    """Counted: the only kind with a quantity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTerms:
    """What the Partner API must know of a key item (docs/protocols/partner-api.md 4.4)."""

    kind: ItemKind
    family: str
    """Keys of a family hold its items; addresses and UIDs are unique within it, and a parent has one child of it."""
    lease: bool = True
    """False: bought for good."""
    activatable: bool = False
    suspendable: bool = True
    downgradable: bool = False
    """Whether a key of this base item may go back to a lower one."""
    parents: tuple[str, ...] = ()
    """Families of the keys to which a key of this base item may be attached."""
    edition: str | None = None
    """The edition that this base item is (partner-api 3)."""

    @property
    def is_base(self) -> bool:
        """Whether the item makes a key."""
        return self.kind in (ItemKind.BASE, ItemKind.ADDITIONAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """One usage counter of a reporting product."""

    name: str
    kind: CounterKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderOffer:
    """How a product is ordered upstream (docs/protocols/isplicense.md 6)."""

    order_function: str
    pricelist: int
    node_code: int | None = None
    periods_months: tuple[int, ...] = (1, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One SKU."""

    sku: str
    kind: ProductKind = ProductKind.ISV
    model: LicensingModel = LicensingModel.STANDARD
    provider: Provider = Provider.LOCAL
    upgrades_to: tuple[str, ...] = ()
    counters: tuple[Counter, ...] = ()
    period_months: int = 1
    """Length of one period ordered upstream; 0 is lifetime."""
    offer: ProviderOffer | None = None
    provider_account: str = FIRST_PROVIDER_ACCOUNT
    """Which of our accounts at the provider orders it. A module is ordered in the account of its parent's service."""
    test_provider_account: str = ""
    """Which one serves its test orders instead, such as the provider's own sandbox; empty where there is none: a test
    order needs a working license and is then ordered, and charged, like a real one (isv-endpoint 6)."""
    body: BodySource = BodySource.SIGNED
    wind_down_days: int = 30
    """After TERMINATE the upstream service is released only so many days later (isv-endpoint 5.4)."""
    item: ItemTerms | None = None
    """Set if and only if it is a key item."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A product id found in the catalog: the product, and whether the NFR twin was named."""

    product: Product
    nfr: bool

    @property
    def product_id(self) -> str:
        """The id as requests write it."""
        return NFR_PREFIX + self.product.sku if self.nfr else self.product.sku


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """One version of the catalog, already checked: acyclic, every edge between known products of one kind and model."""

    version: int
    products: Mapping[str, Product]
    _above: dict[str, frozenset[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def find(self, product_id: str) -> Listed | None:
        """Return what `product_id` names on the ISV endpoint, None for an unknown id or a key item."""
        nfr = product_id.startswith(NFR_PREFIX)
        product = self.products.get(product_id.removeprefix(NFR_PREFIX) if nfr else product_id)
        if product is None or product.kind is not ProductKind.ISV:
            return None
        return Listed(product, nfr)

    def find_item(self, constant: str) -> tuple[Product, ItemTerms] | None:
        """Return the key item `constant` and its terms, None for everything else."""
        product = self.products.get(constant)
        if product is None or product.item is None:
            return None
        return product, product.item

    def above(self, sku: str) -> frozenset[str]:
        """Return every SKU that `sku` can become by one or more declared upgrades."""
        known = self._above.get(sku)
        if known is None:
            reached: set[str] = set()
            ahead = [sku]
            while ahead:
                product = self.products.get(ahead.pop())
                higher = set(product.upgrades_to if product is not None else ()) - reached
                reached |= higher
                ahead += higher
            known = self._above[sku] = frozenset(reached)
        return known

    def can_upgrade(self, current: Listed, target: Listed, *, nfr_to_regular_allowed: bool) -> bool:
        """Whether a license may go from `current` to another product `target` (isv-endpoint 5.3)."""
        from_sku, to_sku = current.product.sku, target.product.sku
        declared = to_sku in current.product.upgrades_to
        match current.nfr, target.nfr:
            case (True, True) | (False, False):
                return declared
            case (False, True):
                return to_sku == from_sku or to_sku in self.above(from_sku)
            case _:
                return nfr_to_regular_allowed and (to_sku == from_sku or declared)
