"""Form of the catalog document: nested plain values, as YAML or JSON gives them -> products, with every fault of form.

A document is `{"products": [product, …]}`; the members of a product are those of `catalog.Product`, `counters` hold
`name` and `kind`, an `offer` holds the members of `catalog.ProviderOffer`, an `item` those of `catalog.ItemTerms`.
What is left out has the default written there. Reading goes on after a fault, so that one look tells all of them; the
rules follow in `catalog_check`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeVar

from shared.contracts.commands import LicensingModel
from shared.domain.catalog import (
    FIRST_PROVIDER_ACCOUNT,
    BodySource,
    Counter,
    CounterKind,
    ItemKind,
    ItemTerms,
    Product,
    ProductKind,
    Provider,
    ProviderOffer,
)

PRODUCTS_MAX = 2000
LIST_MEMBERS_MAX = 200
SHOWN_LENGTH_MAX = 60

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a catalog document."""

    where: str
    """Path into the document, with the SKU: `products[3] (Gold) offer.pricelist`."""
    text: str
    """What is wrong, with which value, and how to mend it."""

    def __str__(self) -> str:
        """Return the line that people read."""
        return f"{self.where}: {self.text}"


@dataclass(frozen=True, slots=True)
class ReadProduct:
    """A product that could be read, and where it stands."""

    where: str
    product: Product


def read_document(document: object) -> tuple[list[ReadProduct], list[Fault]]:
    """Return the products of `document` that have an SKU, and all faults of form."""
    faults: list[Fault] = []
    if not isinstance(document, Mapping):
        return [], [Fault("document", f"{_shown(document)} is not a mapping: write `products:` and a list below it")]
    top = _Members("document", document, faults)
    entries = top.list_of("products", limit=PRODUCTS_MAX)
    top.finish()
    if not entries and not faults:
        faults.append(Fault("document", "no products: list at least one below `products:`"))
    read = (_product(f"products[{index}]", entry, faults) for index, entry in enumerate(entries))
    return [product for product in read if product is not None], faults


def _product(where: str, entry: object, faults: list[Fault]) -> ReadProduct | None:
    if not isinstance(entry, Mapping):
        faults.append(Fault(where, f"{_shown(entry)} is not a mapping: write `- sku: …` with the members below it"))
        return None
    named = entry.get("sku")
    if isinstance(named, str) and named:
        where = f"{where} ({named[:SHOWN_LENGTH_MAX]})"
    members = _Members(where, entry, faults)
    product = Product(
        sku=members.text("sku"),
        kind=members.choice("kind", ProductKind, ProductKind.ISV),
        model=members.choice("model", LicensingModel, LicensingModel.STANDARD),
        provider=members.choice("provider", Provider, Provider.LOCAL),
        upgrades_to=members.texts("upgrades_to"),
        counters=tuple(_counter(member) for member in members.nested_list("counters")),
        period_months=members.number("period_months", default=1, minimum=0),
        offer=_offer(members.nested("offer")),
        provider_account=members.text_or("provider_account", FIRST_PROVIDER_ACCOUNT),
        test_provider_account=members.text_or("test_provider_account", ""),
        item=_item(members.nested("item")),
        body=members.choice("body", BodySource, BodySource.SIGNED),
        wind_down_days=members.number("wind_down_days", default=30, minimum=0),
    )
    members.finish()
    return ReadProduct(where, product) if product.sku else None


def _counter(members: "_Members") -> Counter:
    counter = Counter(name=members.text("name"), kind=members.required_choice("kind", CounterKind, CounterKind.LEVEL))
    members.finish()
    return counter


def _offer(members: "_Members | None") -> ProviderOffer | None:
    if members is None:
        return None
    offer = ProviderOffer(
        order_function=members.text("order_function"),
        pricelist=members.number("pricelist", default=None, minimum=1),
        node_code=members.number("node_code", default=None, minimum=1) if members.has("node_code") else None,
        periods_months=members.numbers("periods_months", default=(1, 12)),
    )
    members.finish()
    return offer


def _item(members: "_Members | None") -> ItemTerms | None:
    if members is None:
        return None
    terms = ItemTerms(
        kind=members.required_choice("kind", ItemKind, ItemKind.BASE),
        family=members.text("family"),
        lease=members.flag("lease", default=True),
        activatable=members.flag("activatable", default=False),
        suspendable=members.flag("suspendable", default=True),
        downgradable=members.flag("downgradable", default=False),
        parents=members.texts("parents"),
        edition=members.text("edition") if members.has("edition") else None,
    )
    members.taken.add("edition")
    members.finish()
    return terms


@dataclass(slots=True)
class _Members:
    """One mapping of the document: hands out members by name and type, notes what does not fit, then what is left."""

    where: str
    members: Mapping[object, object]
    faults: list[Fault]
    taken: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        return self.members.get(name) is not None

    def _take(self, name: str) -> object:
        self.taken.add(name)
        return self.members.get(name)

    def _fault(self, name: str, text: str) -> None:
        separator = " " if self.where.endswith(")") else "."
        self.faults.append(Fault(f"{self.where}{separator}{name}", text))

    def text(self, name: str) -> str:
        """Return a required text, empty with a fault when it is none."""
        value = self._take(name)
        if value is None:
            self._fault(name, f"missing: every entry here needs `{name}`")
            return ""
        return self._as_text(name, value)

    def text_or(self, name: str, default: str) -> str:
        """Return a text, `default` when it is left out."""
        if self.has(name):
            return self.text(name)
        self.taken.add(name)
        return default

    def _as_text(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            self._fault(name, f"{_shown(value)} is not text: put it in quotes")
            return ""
        if not value:
            self._fault(name, "empty: give it a value or leave the member out")
        return value

    def choice(self, name: str, kinds: type[_Choice], default: _Choice) -> _Choice:
        """Return one of `kinds`, `default` when it is left out."""
        return self.required_choice(name, kinds, default) if self.has(name) else self._left_out(name, default)

    def _left_out(self, name: str, default: _Choice) -> _Choice:
        self.taken.add(name)
        return default

    def required_choice(self, name: str, kinds: type[_Choice], stand_in: _Choice) -> _Choice:
        """Return one of `kinds`; `stand_in` with a fault when it is none of them."""
        value = self._take(name)
        if isinstance(value, str) and value in kinds.__members__.values():
            return kinds(value)
        given = "missing" if value is None else f"{_shown(value)} is unknown"
        self._fault(name, f"{given}: write {' or '.join(kinds)}")
        return stand_in

    def flag(self, name: str, *, default: bool) -> bool:
        """Return true or false, `default` when it is left out."""
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._fault(name, f"{_shown(value)} is neither true nor false")
            return default
        return value

    def number(self, name: str, *, default: int | None, minimum: int) -> int:
        """Return a whole number of at least `minimum`; without `default` it is required."""
        value = self._take(name)
        if value is None:
            if default is None:
                self._fault(name, f"missing: every entry here needs `{name}`, a whole number")
            return default or minimum
        return self._as_number(name, value, minimum)

    def _as_number(self, name: str, value: object, minimum: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            self._fault(name, f"{_shown(value)} is not a whole number of at least {minimum}")
            return minimum
        return value

    def numbers(self, name: str, *, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return a list of whole numbers from 0."""
        if not self.has(name):
            self.taken.add(name)
            return default
        entries = self.list_of(name, limit=LIST_MEMBERS_MAX)
        return tuple(self._as_number(f"{name}[{index}]", entry, 0) for index, entry in enumerate(entries))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        entries = self.list_of(name, limit=LIST_MEMBERS_MAX)
        read = (self._as_text(f"{name}[{index}]", entry) for index, entry in enumerate(entries))
        return tuple(text for text in read if text)

    def list_of(self, name: str, *, limit: int) -> Collection[object]:
        """Return the entries of a list, none when it is left out."""
        value = self._take(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            self._fault(name, f"{_shown(value)} is not a list")
            return ()
        if len(value) > limit:
            self._fault(name, f"{len(value)} entries: at most {limit}")
            return ()
        return value

    def nested(self, name: str) -> "_Members | None":
        """Return the mapping below `name`, None when it is left out or no mapping."""
        value = self._take(name)
        if value is None:
            return None
        return self._below(name, value)

    def nested_list(self, name: str) -> list["_Members"]:
        """Return the mappings in the list `name`."""
        entries = self.list_of(name, limit=LIST_MEMBERS_MAX)
        below = (self._below(f"{name}[{index}]", entry) for index, entry in enumerate(entries))
        return [members for members in below if members is not None]

    def _below(self, name: str, value: object) -> "_Members | None":
        if not isinstance(value, Mapping):
            self._fault(name, f"{_shown(value)} is not a mapping")
            return None
        separator = " " if self.where.endswith(")") else "."
        return _Members(f"{self.where}{separator}{name}", value, self.faults)

    def finish(self) -> None:
        """Note the members that nobody asked for."""
        for name in self.members:
            if name not in self.taken:
                near = get_close_matches(str(name), sorted(self.taken), n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(sorted(self.taken))}"
                self.faults.append(Fault(self.where, f"unknown member {_shown(name)}: {hint}"))


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= SHOWN_LENGTH_MAX else text[:SHOWN_LENGTH_MAX] + "…"
