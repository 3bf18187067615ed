"""Markers, labels, slots and ids: what an order is recognized by, and what the catalog's offer must agree with."""

import re
from datetime import date
from ipaddress import ip_address
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.catalog import ProviderOffer
from shared.domain.provider_operation import (
    ChangeService,
    Elid,
    EndService,
    OrderModule,
    OrderPlesk,
    OrderSoftware,
    ProviderOperation,
    RenewService,
    SetNodes,
    address_of,
    elid_of,
    is_money,
    marked_label,
    marker_in,
    marker_of,
    objection_to,
    slot_of,
)

ORDER = UUID("018f3e5a-7b1c-7000-8000-000000000001")
KEY = b"service key of the tests"
HOST = ip_address("203.0.113.10")

SOFTWARE = OrderSoftware(pricelist=546, address=HOST, label="web-01", period_months=1)
PLESK = OrderPlesk(pricelist=264, address=HOST, period_months=12)
MODULE = OrderModule(pricelist=356, parent=Elid(40117), period_months=1)
CHANGE = ChangeService(elid=Elid(40117), label="web-02", address=HOST)
NODES = SetNodes(elid=Elid(40200), label="cluster", address=HOST, node_code=550, count=3)
RENEW = RenewService(elid=Elid(40117), period_months=1, expires_before=date(2025, 12, 22))
END = EndService(elid=Elid(40117))

OFFER_SOFTWARE = ProviderOffer(order_function="softexternal.order.param", pricelist=546)
OFFER_BUSINESS = ProviderOffer(order_function="softexternal.order.param", pricelist=549, node_code=550)
OFFER_PLESK = ProviderOffer(order_function="parallelslic.order.param", pricelist=264)
OFFER_MODULE = ProviderOffer(order_function="addition.order.param", pricelist=356)


def test_marker_is_the_same_for_ever() -> None:
    """Golden: an order of today must be found by the code of any later day."""
    assert marker_of(KEY, ORDER, 1) == "lb-267u6dpgfmglnxsthngracllqe"
    assert marker_of(KEY, ORDER, 2) == "lb-h5sigh2vsz3zr6hpy3hpbxchvi"


@given(st.binary(min_size=1, max_size=64), st.uuids(), st.integers(1, 9))
def test_marker_has_its_form_and_is_found_in_any_label(key: bytes, order_id: UUID, number: int) -> None:
    marker = marker_of(key, order_id, number)

    assert re.fullmatch(r"lb-[a-z2-7]{26}", marker)
    assert marker_in(marked_label("Über web  01", marker)) == marker


@given(st.text(max_size=600))
def test_label_fits_holds_no_control_character_and_ends_with_the_marker(label: str) -> None:
    marker = marker_of(KEY, ORDER, 1)
    sent = marked_label(label, marker)

    assert len(sent) <= 255
    assert sent.isprintable()
    assert sent.split()[-1] == marker


def test_label_cannot_claim_another_order() -> None:
    foreign = marker_of(KEY, ORDER, 7)

    assert marker_in(marked_label(f"mine {foreign}", None)) is None
    assert foreign not in marked_label(f"{foreign} {foreign.upper()} x", marker_of(KEY, ORDER, 1))


def test_marker_counts_as_the_last_word_only() -> None:
    marker = marker_of(KEY, ORDER, 1)

    assert marker_in(f"{marker} renamed by hand") is None
    assert marker_in(f"web {marker}x") is None
    assert marker_in("") is None


SLOTS = [
    (SOFTWARE, "softexternal.order.param|546|203.0.113.10"),
    (PLESK, "parallelslic.order.param|264|203.0.113.10"),
    (MODULE, "addition.order.param|356|40117"),
    (OrderModule(pricelist=356, parent=None, period_months=1), "addition.order.param|356|-"),
    (NODES, "elid|40200"),
    (RENEW, "elid|40117"),
    (CHANGE, "elid|40117"),
    (END, "elid|40117"),
]


@pytest.mark.parametrize(("operation", "slot"), SLOTS, ids=lambda value: type(value).__name__)
def test_slot_names_what_could_be_confused(operation: ProviderOperation, slot: str) -> None:
    assert slot_of(operation) == slot


def test_slot_does_not_depend_on_how_an_address_is_written() -> None:
    long, short = (address_of(text) for text in ("2001:DB8:0:0::1", "2001:db8::1"))
    assert long is not None
    assert short is not None

    assert slot_of(OrderPlesk(pricelist=1, address=long, period_months=1)) == slot_of(
        OrderPlesk(pricelist=1, address=short, period_months=1)
    )


@pytest.mark.parametrize(
    "text", ["0", "-5", "12abc", "1, 2", "1,2", "9" * 19, "", " 1", "1\n", "+1", "1.0", "0x1", "\u0661", "012"]
)
def test_anything_but_one_positive_number_is_no_id(text: str) -> None:
    assert elid_of(text) is None


def test_id_of_eighteen_digits_is_the_largest() -> None:
    assert elid_of("9" * 18) == 10**18 - 1


@pytest.mark.parametrize(
    "text", ["999.1.1.1", "1.2.3", "fe80::1%eth0", "", "a", "203.0.113.10/24", "2130706433", "01.2.3.4"]
)
def test_anything_but_one_address_is_no_address(text: str) -> None:
    assert address_of(text) is None


def test_operations_that_charge_are_known() -> None:
    money = [is_money(operation) for operation in (SOFTWARE, PLESK, MODULE, NODES, RENEW, CHANGE, END)]

    assert money == [True, True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("operation", "offer"),
    [
        (SOFTWARE, OFFER_SOFTWARE),
        (PLESK, OFFER_PLESK),
        (MODULE, OFFER_MODULE),
        (NODES, OFFER_BUSINESS),
        (RENEW, OFFER_SOFTWARE),
        (CHANGE, None),
        (END, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_fitting_offer_meets_no_objection(operation: ProviderOperation, offer: ProviderOffer | None) -> None:
    assert objection_to(operation, offer) is None


@pytest.mark.parametrize(
    ("operation", "offer", "word"),
    [
        (SOFTWARE, OFFER_PLESK, "order function"),
        (PLESK, OFFER_SOFTWARE, "order function"),
        (MODULE, OFFER_PLESK, "order function"),
        (SOFTWARE, None, "order function"),
        (SOFTWARE, OFFER_BUSINESS, "pricelist 546"),
        (OrderSoftware(pricelist=546, address=HOST, label="", period_months=0), OFFER_SOFTWARE, "period 0"),
        (OrderSoftware(pricelist=546, address=HOST, label="", period_months=-100), OFFER_SOFTWARE, "period -100"),
        (
            OrderSoftware(pricelist=546, address=HOST, label="", period_months=3),
            ProviderOffer(order_function="softexternal.order.param", pricelist=546, periods_months=(1, 3)),
            "period 3",
        ),
        (
            RenewService(elid=Elid(1), period_months=0, expires_before=date(2025, 1, 1)),
            ProviderOffer(order_function="softexternal.order.param", pricelist=546, periods_months=(0, 1)),
            "lifetime",
        ),
        (RENEW, None, "period 1"),
        (NODES, OFFER_SOFTWARE, "addon_550"),
        (NODES, None, "addon_550"),
        (SetNodes(elid=Elid(1), label="", address=HOST, node_code=550, count=0), OFFER_BUSINESS, "0 nodes"),
    ],
)
def test_misfit_is_objected_to_before_anything_is_sent(
    operation: ProviderOperation, offer: ProviderOffer | None, word: str
) -> None:
    objection = objection_to(operation, offer)

    assert objection is not None
    assert word in objection


def test_lifetime_is_ordered_where_the_catalog_allows_it() -> None:
    offer = ProviderOffer(order_function="softexternal.order.param", pricelist=546, periods_months=(0,))

    assert objection_to(OrderSoftware(pricelist=546, address=HOST, label="", period_months=0), offer) is None
