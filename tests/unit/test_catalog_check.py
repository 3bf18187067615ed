"""The rules of a catalog: what comes into force, and what each fault is told like."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog_file import read_catalog_file
from shared.contracts.commands import LicensingModel
from shared.domain.catalog import Catalog, Counter, CounterKind, Product, ProductKind, Provider, ProviderOffer
from shared.domain.catalog_check import check_catalog, shortest_cycle

EXAMPLE = Path(__file__).parents[2] / "deploy" / "catalog" / "example.yaml"
OFFER: Mapping[str, object] = {"order_function": "softexternal.order.param", "pricelist": 229}
UPWARD_FAMILIES = (
    ("Bronze", "Silver", "Gold"),
    ("ISPMGR5-LITE", "ISPMGR5-BUSINESS"),
    ("ISPMGR6-LITE", "ISPMGR6-PRO", "ISPMGR6-HOST", "ISPMGR6-BUSINESS"),
    ("BILLMGR", "BILLMGR-CORP"),
    ("PLESK12-WEB-ADMIN", "PLESK12-WEB-PRO", "PLESK12-WEB-HOST"),
    ("PLESK12-WEB-PRO-VPS", "PLESK12-WEB-HOST-VPS"),
    ("PLESK-12-WEB-ADMIN-1M", "PLESK-12-WEB-PRO-1M", "PLESK-12-WEB-HOST-1M"),
    ("PLESK-12-VPS-WEB-ADMIN-1M", "PLESK-12-VPS-WEB-PRO-1M", "PLESK-12-VPS-WEB-HOST-1M"),
)
"""Every product of a family becomes every later one; no other step exists."""
BASE = {"kind": "base", "family": "plesk"}
FEATURE = {"kind": "feature", "family": "plesk"}
ORDER_CODES: Mapping[str, Mapping[str, tuple[int, int | None]]] = {
    "softexternal.order.param": {
        "ISPMGR5-LITE": (229, None),
        "ISPMGR5-BUSINESS": (273, 274),
        "ISPMGR6-LITE": (546, None),
        "ISPMGR6-PRO": (547, None),
        "ISPMGR6-HOST": (548, None),
        "ISPMGR6-BUSINESS": (549, 550),
        "BILLMGR": (276, None),
        "BILLMGR-CORP": (277, None),
        "DNSMGR5": (166, None),
        "VMMGR-KVM": (170, 172),
        "VMMGR-OVZ": (195, 197),
    },
    "parallelslic.order.param": {
        "PLESK12-WEB-ADMIN": (250, None),
        "PLESK12-WEB-PRO-VPS": (322, None),
        "PLESK12-WEB-PRO": (264, None),
        "PLESK12-WEB-HOST-VPS": (243, None),
        "PLESK12-WEB-HOST": (236, None),
    },
    "addition.order.param": {
        "CLOUDLINUX-ISPMGR": (369, None),
        "VIRUSDIE-ISPMGR5-LITE": (354, None),
        "VIRUSDIE-ISPMGR5-BUSINESS": (367, None),
        "SOFTACULOUS-ISPMGR5": (356, None),
        "KERNELCARE-ISPMGR": (371, None),
        "DDOS-GUARD": (383, None),
        "REVISIUM": (397, None),
    },
}
"""docs/protocols/isplicense.md 6.1."""
SINGLE_ITEMS = ("FT-PLESK-5-LANGUAGE-PACKS-1M", "360-MON-1M", "360-MON-SITE-1M", "360-MON-SRV-1M")


def product(sku: object = "Gold", **members: object) -> dict[str, object]:
    return {"sku": sku, **members}


def document(*products: object) -> dict[str, object]:
    return {"products": list(products)}


def faults_of(*products: object) -> list[str]:
    outcome = check_catalog(document(*products), version=1)
    assert not isinstance(outcome, Catalog), "this catalog should not pass"
    return [str(fault) for fault in outcome]


def catalog_of(*products: object) -> Catalog:
    outcome = check_catalog(document(*products), version=7)
    assert isinstance(outcome, Catalog), [str(fault) for fault in outcome]
    return outcome


@pytest.fixture(scope="module")
def example() -> Catalog:
    outcome = check_catalog(read_catalog_file(EXAMPLE), version=1)
    assert isinstance(outcome, Catalog), [str(fault) for fault in outcome]
    return outcome


def test_example_catalog_holds_exactly_the_published_products(example: Catalog) -> None:
    provided = {sku for codes in ORDER_CODES.values() for sku in codes}
    families = {sku for family in UPWARD_FAMILIES for sku in family}
    assert set(example.products) == provided | families | {"CloudBackup", "CloudTransfer", *SINGLE_ITEMS}
    assert len(example.products) == 38


def test_example_catalog_upgrades_are_all_upward_pairs_of_its_families(example: Catalog) -> None:
    upward = {
        (lower, higher) for family in UPWARD_FAMILIES for at, lower in enumerate(family) for higher in family[at + 1 :]
    }
    assert {(sku, to) for sku, product in example.products.items() for to in product.upgrades_to} == upward


def test_example_catalog_orders_provider_products_by_the_published_codes(example: Catalog) -> None:
    offers = {sku: product.offer for sku, product in example.products.items() if product.offer is not None}
    assert offers == {
        sku: ProviderOffer(order_function=function, pricelist=pricelist, node_code=node_code)
        for function, codes in ORDER_CODES.items()
        for sku, (pricelist, node_code) in codes.items()
    }
    assert {sku for sku, product in example.products.items() if product.provider is Provider.ISPLICENSE} == set(offers)


def test_example_catalog_counters_and_key_items_are_the_published_ones(example: Catalog) -> None:
    reporting = {sku: product for sku, product in example.products.items() if product.counters}
    assert {
        sku: {(counter.name, counter.kind) for counter in product.counters} for sku, product in reporting.items()
    } == {
        "CloudBackup": {("storedGigabytes", CounterKind.LEVEL), ("protectedServers", CounterKind.LEVEL)},
        "CloudTransfer": {("sentGigabytes", CounterKind.INCREMENT), ("receivedGigabytes", CounterKind.INCREMENT)},
    }
    assert all(product.model is LicensingModel.REPORTING for product in reporting.values())
    items = {sku for sku, product in example.products.items() if product.kind is ProductKind.KEY_ITEM}
    assert items == {*UPWARD_FAMILIES[6], *UPWARD_FAMILIES[7], *SINGLE_ITEMS}


def test_document_with_every_member_becomes_the_product_it_describes() -> None:
    catalog = catalog_of(
        product(
            "Low",
            kind="isv",
            model="reporting",
            provider="isplicense",
            upgrades_to=["High"],
            counters=[{"name": "sites", "kind": "increment"}],
            period_months=12,
            offer={**OFFER, "node_code": 274, "periods_months": [12, 0]},
            provider_account="second",
            test_provider_account="for-tests",
        ),
        product(
            "High", model="reporting", provider="isplicense", counters=[{"name": "a", "kind": "level"}], offer=OFFER
        ),
    )
    assert catalog.version == 7
    assert catalog.products["Low"] == Product(
        sku="Low",
        model=LicensingModel.REPORTING,
        provider=Provider.ISPLICENSE,
        upgrades_to=("High",),
        counters=(Counter(name="sites", kind=CounterKind.INCREMENT),),
        period_months=12,
        provider_account="second",
        test_provider_account="for-tests",
        offer=ProviderOffer(
            order_function="softexternal.order.param", pricelist=229, node_code=274, periods_months=(12, 0)
        ),
    )


def test_left_out_members_take_their_defaults() -> None:
    assert catalog_of(product("Gold", upgrades_to=None)).products == {"Gold": Product(sku="Gold")}


FAULTY_PRODUCTS = [
    ({"upgrades_to": []}, "products[0].sku: missing"),
    (product(12), "products[0].sku: 12 is not text: put it in quotes"),
    (product(""), "products[0].sku: empty"),
    ("Gold", "products[0]: 'Gold' is not a mapping"),
    (product(upgrads_to=["A"]), "products[0] (Gold): unknown member 'upgrads_to': did you mean `upgrades_to`?"),
    (product(zzz=3), "products[0] (Gold): unknown member 'zzz': known here: body, counters, item, kind"),
    (product("S" * 27), "SKU of 27 characters: at most 26 for isv"),
    (product("I" * 65, kind="key_item"), "SKU of 65 characters: at most 64 for key_item"),
    (product("NFR-Gold"), "SKU begins with NFR-"),
    (product("My Gold"), "SKU 'My Gold' has other characters than printable ASCII"),
    (product("Gold\n"), "other characters than printable ASCII"),
    (product("Größe"), "other characters than printable ASCII"),
    (product(kind="key_item"), "kind key_item, but no item"),
    (product(kind="key_item", item=BASE, provider="isplicense"), "key items are fulfilled here"),
    (product(item=BASE), "an item, but it is sold on the ISV endpoint"),
    (product(kind="key_item", item={"kind": "whole", "family": "a"}), "item.kind: 'whole' is unknown"),
    (product(kind="key_item", item={"kind": "base"}), "item.family: missing"),
    (product(kind="key_item", item={**BASE, "lease": "no"}), "item.lease: 'no' is neither true nor false"),
    (product(kind="key_item", item={**BASE, "lease": False}), "item.lease is false, but period_months is not 0"),
    (product(kind="key_item", item={**BASE, "parents": ["b"]}), "item.parents, but the item is of kind base"),
    (product(kind="key_item", item={**FEATURE, "activatable": True}), "item.activatable, but the item is of kind"),
    (product(kind="key_item", item={**FEATURE, "edition": "web-pro"}), "item.edition, but the item is of kind"),
    (product(kind="thing"), "products[0] (Gold) kind: 'thing' is unknown: write isv or key_item"),
    (product(model=["standard"]), "products[0] (Gold) model: a list is unknown: write standard or reporting"),
    (product(provider="acme"), "provider: 'acme' is unknown: write local or isplicense"),
    (product(upgrades_to="Silver"), "upgrades_to: 'Silver' is not a list"),
    (product(upgrades_to=[3]), "upgrades_to[0]: 3 is not text"),
    (product(upgrades_to=["Silver"]), "upgrades to 'Silver', which is not in this catalog"),
    (product(upgrades_to=["NFR-Gold"]), "upgrades to 'NFR-Gold', which is not in this catalog"),
    (product(upgrades_to=["Gold"]), "upgrades to itself (Gold -> Gold)"),
    (product(upgrades_to=[str(n) for n in range(201)]), "upgrades_to: 201 entries: at most 200"),
    (product(model="reporting"), "model reporting, but no counters"),
    (product(counters=[{"name": "a", "kind": "level"}]), "counters, but the model is standard"),
    (product(counters={"a": "level"}), "counters: a mapping is not a list"),
    (product(counters=["a"]), "counters[0]: 'a' is not a mapping"),
    (product(model="reporting", counters=[{"name": "a"}]), "counters[0].kind: missing: write level or increment"),
    (product(model="reporting", counters=[{"kind": "level"}]), "counters[0].name: missing"),
    (product(model="reporting", counters=[{"name": "a", "kind": "sum"}]), "kind: 'sum' is unknown"),
    (product(model="reporting", counters=[{"name": "a", "kind": "level", "unit": "GB"}]), "unknown member 'unit'"),
    (product(model="reporting", counters=[{"name": "stored GB", "kind": "level"}]), "counter 'stored GB'"),
    (product(model="reporting", counters=[{"name": "Gb", "kind": "level"}]), "counter 'Gb'"),
    (product(model="reporting", counters=[{"name": "größe", "kind": "level"}]), "counter 'größe'"),
    (product(model="reporting", counters=[{"name": "a", "kind": "level"}] * 2), "counter a stands twice"),
    (product(kind="key_item", model="reporting", counters=[{"name": "a", "kind": "level"}]), "it is a key item"),
    (product(period_months=3), "period_months 3: write 1, 12 or 0"),
    (product(period_months=-1), "period_months: -1 is not a whole number of at least 0"),
    (product(period_months=True), "period_months: True is not a whole number"),
    (product(period_months=1.0), "period_months: 1.0 is not a whole number"),
    (product(offer=OFFER), "an offer, but the provider is local"),
    (product(provider="isplicense"), "provider isplicense, but no offer"),
    (product(provider="isplicense", offer=[OFFER]), "offer: a list is not a mapping"),
    (product(provider="isplicense", offer={"pricelist": 229}), "offer.order_function: missing"),
    (product(provider="isplicense", offer={**OFFER, "order_function": "soft.order"}), "'soft.order' is unknown"),
    (product(provider="isplicense", offer={"order_function": OFFER["order_function"]}), "offer.pricelist: missing"),
    (
        product(provider="isplicense", offer={**OFFER, "pricelist": 0}),
        "pricelist: 0 is not a whole number of at least 1",
    ),
    (product(provider="isplicense", offer={**OFFER, "node_code": "274"}), "node_code: '274' is not a whole number"),
    (product(provider="isplicense", offer={**OFFER, "node_code": 229}), "node_code and pricelist are both 229"),
    (
        product(provider="isplicense", offer={**OFFER, "order_function": "addition.order.param", "node_code": 5}),
        "node_code 5, but only softexternal.order.param counts nodes",
    ),
    (product(provider="isplicense", offer={**OFFER, "periods_months": []}), "periods_months is empty"),
    (product(provider="isplicense", offer={**OFFER, "periods_months": [1, 6]}), "periods_months has 6"),
    (product(provider="isplicense", offer={**OFFER, "periods_months": [1, 1]}), "periods_months has 1 twice"),
    (
        product(provider="isplicense", period_months=0, offer=OFFER),
        "period_months 0 is not among periods_months [1, 12]",
    ),
    (product(provider="isplicense", offer={**OFFER, "lang": "en"}), "unknown member 'lang'"),
    (product(provider="isplicense", offer=OFFER, provider_account="Second"), "provider_account 'Second'"),
    (product(provider="isplicense", offer=OFFER, provider_account="a" * 33), "1 to 32 small letters"),
    (product(provider="isplicense", offer=OFFER, provider_account=["second"]), "provider_account: a list is not text"),
    (product(provider="isplicense", offer=OFFER, provider_account=""), "provider_account: empty"),
    (product(provider_account="second"), "provider_account 'second', but the provider is local"),
    (product(provider="isplicense", offer=OFFER, test_provider_account="T"), "test_provider_account 'T'"),
    (product(test_provider_account="isplicense"), "test_provider_account 'isplicense', but the provider is local"),
    (
        product(
            provider="isplicense",
            test_provider_account="isplicense",
            offer={**OFFER, "order_function": "addition.order.param"},
        ),
        "test_provider_account 'isplicense', but a module is ordered where its parent's service is",
    ),
    (
        product(
            provider="isplicense",
            provider_account="second",
            offer={**OFFER, "order_function": "addition.order.param"},
        ),
        "a module is ordered where its parent's service is",
    ),
]


@pytest.mark.parametrize(("faulty", "told"), FAULTY_PRODUCTS, ids=[told for _, told in FAULTY_PRODUCTS])
def test_faulty_product_is_told_with_place_and_remedy(faulty: object, told: str) -> None:
    found = faults_of(faulty)
    assert any(told in line for line in found), found
    assert all(line.startswith("products[0]") for line in found)


@pytest.mark.parametrize(
    ("whole", "told"),
    [
        (None, "document: None is not a mapping"),
        ([], "document: a list is not a mapping"),
        ({}, "document: no products"),
        ({"products": []}, "document: no products"),
        ({"products": {}}, "document.products: a mapping is not a list"),
        ({"products": [{"sku": "A"}], "version": 2}, "document: unknown member 'version'"),
        ({"products": [{"sku": f"A{n}"} for n in range(2001)]}, "document.products: 2001 entries: at most 2000"),
    ],
)
def test_document_that_is_no_list_of_products_is_refused(whole: object, told: str) -> None:
    outcome = check_catalog(whole, version=1)
    assert not isinstance(outcome, Catalog)
    assert any(told in str(fault) for fault in outcome), outcome


def test_sku_of_exactly_the_longest_length_passes() -> None:
    assert len(catalog_of(product("S" * 26), product("I" * 64, kind="key_item", item=BASE)).products) == 2


def test_nfr_prefix_and_length_bind_isv_products_only() -> None:
    assert len(catalog_of(product("NFR-item-" + "x" * 30, kind="key_item", item=BASE)).products) == 1


def test_sku_that_stands_twice_is_told_with_both_places() -> None:
    assert faults_of(product("A"), product("A")) == [
        "products[1] (A): SKU stands twice, first at products[0] (A): remove one of them"
    ]


def test_step_that_stands_twice_is_told() -> None:
    assert faults_of(product("A", upgrades_to=["B", "B"]), product("B")) == [
        "products[0] (A): upgrades to B twice: remove one"
    ]


@pytest.mark.parametrize(
    ("lower", "higher", "told"),
    [
        ({}, {"kind": "key_item"}, "kind is isv here and key_item there"),
        (
            {},
            {"model": "reporting", "counters": [{"name": "a", "kind": "level"}]},
            "model is standard here and reporting there",
        ),
        ({}, {"provider": "isplicense", "offer": OFFER}, "provider is local here and isplicense there"),
        (
            {"provider": "isplicense", "offer": OFFER},
            {"provider": "isplicense", "offer": {"order_function": "addition.order.param", "pricelist": 1}},
            "order_function is softexternal.order.param here and addition.order.param there",
        ),
    ],
)
def test_step_between_unlike_products_is_refused(
    lower: dict[str, object], higher: dict[str, object], told: str
) -> None:
    found = faults_of(product("Low", upgrades_to=["High"], **lower), product("High", **higher))
    assert any(line.startswith("products[0] (Low): upgrades to High, but") and told in line for line in found), found


def test_all_faults_are_told_at_once() -> None:
    found = faults_of(product(1), product("A", kind="x", model="y"), product("B b", upgrades_to=["C"]), 5)
    assert len(found) == 6


def test_circle_is_told_by_its_shortest_round() -> None:
    steps = {"A": ["B"], "B": ["C", "E"], "C": ["D"], "D": ["A"], "E": ["B"]}
    found = faults_of(*(product(sku, upgrades_to=to) for sku, to in steps.items()))
    assert found == ["upgrades_to: upgrades lead in a circle: B -> E -> B; remove one of these steps"]


def test_long_chain_is_no_circle_and_everything_above_is_known() -> None:
    chain = [product(f"P{n}", upgrades_to=[f"P{n + 1}"] if n < 1999 else []) for n in range(2000)]
    assert len(catalog_of(*chain).above("P0")) == 1999


def test_long_chain_closed_to_a_circle_is_told() -> None:
    steps = {f"P{n}": [f"P{(n + 1) % 300}"] for n in range(300)}
    cycle = shortest_cycle(steps)
    assert cycle is not None
    assert len(cycle) == 301


graphs = st.integers(min_value=1, max_value=7).flatmap(
    lambda size: st.dictionaries(
        st.sampled_from([f"P{n}" for n in range(size)]),
        st.lists(st.sampled_from([f"P{n}" for n in range(size)]), unique=True, max_size=3),
        min_size=size,
        max_size=size,
    )
)


def shortest_round_by_search(graph: Mapping[str, list[str]]) -> int | None:
    """Return the number of steps of a shortest circle, found by walking from every product, step by step."""
    for steps in range(1, len(graph) + 1):
        for start in graph:
            reached = {start}
            for _ in range(steps):
                reached = {to for sku in reached for to in graph[sku]}
            if start in reached:
                return steps
    return None


@given(graphs)
def test_any_graph_is_accepted_exactly_when_it_has_no_circle(graph: Mapping[str, list[str]]) -> None:
    accepted = isinstance(
        check_catalog(document(*(product(sku, upgrades_to=to) for sku, to in graph.items())), version=1), Catalog
    )
    assert accepted == (shortest_round_by_search(graph) is None)


@given(graphs)
def test_shortest_cycle_is_a_real_and_a_shortest_one(graph: Mapping[str, list[str]]) -> None:
    cycle = shortest_cycle(graph)
    steps = shortest_round_by_search(graph)
    if cycle is None:
        assert steps is None
        return
    assert cycle[0] == cycle[-1]
    assert all(higher in graph[lower] for lower, higher in pairwise(cycle))
    assert len(cycle) - 1 == steps
