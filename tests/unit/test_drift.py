"""Differences between our side and the provider's: a hundred planted, all found, none invented."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from ipaddress import ip_address
from uuid import UUID, uuid5

import pytest

from shared.contracts.identifiers import license_id
from shared.domain.catalog import Catalog, Product, Provider, ProviderOffer
from shared.domain.drift import (
    Difference,
    DriftKind,
    Holding,
    MadeService,
    OpenOrder,
    OurSide,
    TheirSide,
    compare,
    lasting,
)
from shared.domain.open_operation import AttentionKind
from shared.domain.provider_operation import Elid, ServiceKind, marker_of
from shared.domain.provider_order import OrderState
from shared.domain.provider_service import ChargeRow, ServiceForm, ServiceRow, ServiceStatus
from shared.domain.provider_sweep import attention_of, findings_of
from shared.domain.provisioning import ServerData, StepKind, UpstreamService

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SPACE = UUID("01a1f0d7-0000-7000-8000-000000000001")
KEY = b"k" * 32
PRODUCT = Product(
    sku="ISPMGR6-BUSINESS",
    provider=Provider.ISPLICENSE,
    offer=ProviderOffer(order_function="softexternal.order.param", pricelist=549, node_code=550),
)
CATALOG = Catalog(version=1, products={PRODUCT.sku: PRODUCT})
EXPIRY = date(2026, 12, 22)


class Sides:
    """Both sides, equal at first; services are numbered from 0."""

    def __init__(self, services: int) -> None:
        self.holdings: list[Holding] = []
        self.made: dict[Elid, MadeService] = {}
        self.open_orders: list[OpenOrder] = []
        self.rows: dict[Elid, ServiceRow] = {}
        self.charges: list[ChargeRow] = []
        self.forms: dict[Elid, ServiceForm | None] = {}
        for number in range(services):
            self.add(number)

    def add(self, number: int) -> None:
        elid, address = Elid(40_000 + number), f"203.0.113.{number % 250 + 1}"
        data = ServerData(address=address, label=f"host {number}", nodes=3)
        order_id = uuid5(SPACE, str(number))
        made = MadeService(
            elid=elid,
            order_id=order_id,
            license_id=license_id("ka", f"{number:08d}"),
            marker=marker_of(KEY, order_id, 1),
        )
        self.made[elid] = made
        service = UpstreamService(elid=elid, sku=PRODUCT.sku, data=data, expires_on=EXPIRY)
        self.holdings.append(Holding(license_id=made.license_id, service=service))
        self.rows[elid] = ServiceRow(
            elid=elid,
            kind=ServiceKind.SOFTWARE,
            status=ServiceStatus.ACTIVE,
            label=f"host {number} {made.marker}",
            address=ip_address(address),
            tariff="ISPmanager 6 business",
            expires_on=EXPIRY,
            autoprolong="null",
        )
        self.forms[elid] = ServiceForm(
            elid=elid, kind=ServiceKind.SOFTWARE, status=ServiceStatus.ACTIVE, nodes={550: 3}
        )
        self.charge(elid)

    def charge(self, elid: Elid | None) -> None:
        number = str(len(self.charges))
        self.charges.append(
            ChargeRow(charge_id=number, amount=Decimal("4.50"), name="ISPmanager", elid=elid, charged_on=NOW.date())
        )

    def with_row(self, elid: Elid, **changes: object) -> None:
        self.rows[elid] = replace(self.rows[elid], **changes)  # type: ignore[arg-type]  # members of many types by name

    def change_made(self, elid: Elid, **changes: object) -> None:
        self.made[elid] = replace(self.made[elid], **changes)  # type: ignore[arg-type]  # members of many types by name

    def open_order(self, elid: Elid, kind: StepKind, state: OrderState) -> None:
        order_id = uuid5(SPACE, f"{kind} {elid}")
        order = OpenOrder(
            order_id=order_id,
            license_id=self.made[elid].license_id,
            kind=kind,
            state=state,
            markers=frozenset({marker_of(KEY, order_id, 1)}),
            elid=elid,
        )
        self.open_orders.append(order)

    def found(self) -> tuple[Difference, ...]:
        ours = OurSide(
            holdings=self.holdings, made=[*self.made.values()], open_orders=self.open_orders, catalog=CATALOG
        )
        names = {"ISPmanager 6 business": 549, "BILLmanager": 276}
        return compare(
            ours, TheirSide(rows=[*self.rows.values()], charges=self.charges, tariff_codes=names, forms=self.forms)
        )


def foreign(sides: Sides, elid: Elid) -> None:
    sides.rows[Elid(elid + 900_000)] = replace(sides.rows[elid], elid=Elid(elid + 900_000), label="by hand")


def unheld(sides: Sides, elid: Elid) -> None:
    sides.holdings = [holding for holding in sides.holdings if holding.service.elid != elid]


def released(sides: Sides, elid: Elid) -> None:
    unheld(sides, elid)
    sides.change_made(elid, released=True)


def unordered(sides: Sides, elid: Elid) -> None:
    del sides.made[elid]


def uncharged(sides: Sides, elid: Elid) -> None:
    sides.charges = [charge for charge in sides.charges if charge.elid != elid]


def unnoded(sides: Sides, elid: Elid) -> None:
    sides.forms[elid] = ServiceForm(elid=elid, kind=ServiceKind.SOFTWARE, status=ServiceStatus.ACTIVE, nodes={550: 9})


Plant = Callable[[Sides, Elid], object]
PLANTS: dict[DriftKind, Plant] = {
    DriftKind.MISSING: lambda sides, elid: sides.rows.pop(elid),
    DriftKind.SURPLUS: unheld,
    DriftKind.NOT_RELEASED: released,
    DriftKind.FOREIGN: foreign,
    DriftKind.NOT_ORDERED: unordered,
    DriftKind.EXPIRY: lambda sides, elid: sides.with_row(elid, expires_on=date(2027, 1, 22)),
    DriftKind.PRODUCT: lambda sides, elid: sides.with_row(elid, tariff="BILLmanager"),
    DriftKind.ADDRESS: lambda sides, elid: sides.with_row(elid, address=ip_address("198.51.100.1")),
    DriftKind.LABEL: lambda sides, elid: sides.with_row(elid, label="somebody else's"),
    DriftKind.NODES: unnoded,
    DriftKind.SUSPENDED: lambda sides, elid: sides.with_row(elid, status=ServiceStatus.SUSPENDED),
    DriftKind.AUTOPROLONG: lambda sides, elid: sides.with_row(elid, autoprolong="1"),
    DriftKind.CHARGED: lambda sides, elid: sides.charge(elid),
    DriftKind.NOT_CHARGED: uncharged,
    DriftKind.UNEXPLAINED_CHARGE: lambda sides, elid: sides.charge(Elid(elid + 800_000)),
    DriftKind.UNDECIDED: lambda sides, elid: sides.open_order(elid, StepKind.PROLONG, OrderState.MANUAL),
}


def test_equal_sides_differ_in_nothing() -> None:
    assert Sides(50).found() == ()


@pytest.mark.parametrize("kind", PLANTS)
def test_each_kind_of_difference_is_found_once_and_nothing_else(kind: DriftKind) -> None:
    sides = Sides(5)
    PLANTS[kind](sides, Elid(40_002))

    assert [each.kind for each in sides.found()] == [kind]


def test_a_hundred_planted_differences_are_all_found_and_none_is_invented() -> None:
    sides = Sides(150)
    planted = []
    for number in range(100):
        kind = list(PLANTS)[number % len(PLANTS)]
        PLANTS[kind](sides, Elid(40_000 + number))
        planted.append(kind)

    assert sorted(each.kind for each in sides.found()) == sorted(planted)


def test_what_differs_is_told_with_what_was_charged_for_it() -> None:
    sides = Sides(3)
    unheld(sides, Elid(40_000))
    sides.charge(Elid(40_001))
    foreign(sides, Elid(40_002))

    costs = {each.kind: each.cost for each in sides.found()}

    assert costs == {
        DriftKind.SURPLUS: Decimal("4.50"),
        DriftKind.CHARGED: Decimal("4.50"),
        DriftKind.FOREIGN: None,
    }


def test_a_service_shared_by_two_licenses_is_told() -> None:
    sides = Sides(2)
    sides.holdings.append(replace(sides.holdings[0], license_id="ka:99999999"))

    assert [each.kind for each in sides.found()] == [DriftKind.SHARED]


def test_an_order_of_unknown_outcome_explains_the_service_that_carries_its_marker() -> None:
    sides = Sides(1)
    made = sides.made.pop(Elid(40_000))
    sides.open_orders = [
        OpenOrder(
            order_id=made.order_id,
            license_id=made.license_id,
            kind=StepKind.ORDER,
            state=OrderState.UNKNOWN,
            markers=frozenset({made.marker}),
        )
    ]
    sides.holdings, sides.charges = [], []

    assert [each.kind for each in sides.found()] == [DriftKind.UNDECIDED]


@pytest.mark.parametrize("state", [OrderState.INTENDED, OrderState.CONFIRMED])
def test_a_release_under_way_is_no_difference(state: OrderState) -> None:
    """Neither before the service is gone nor after it, until the license has taken the outcome in."""
    before = Sides(1)
    unheld(before, Elid(40_000))
    before.open_order(Elid(40_000), StepKind.END, state)
    after = Sides(1)
    del after.rows[Elid(40_000)]
    after.open_order(Elid(40_000), StepKind.END, state)

    assert (before.found(), after.found()) == ((), ())


def test_a_service_whose_license_has_not_taken_it_in_yet_is_no_difference() -> None:
    sides = Sides(1)
    unheld(sides, Elid(40_000))
    sides.open_order(Elid(40_000), StepKind.ORDER, OrderState.CONFIRMED)

    assert sides.found() == ()


def test_renewals_and_nodes_explain_their_charges_also_of_services_long_gone() -> None:
    sides = Sides(1)
    sides.charge(Elid(40_000))
    sides.change_made(Elid(40_000), orders_paid=2, released=True)
    unheld(sides, Elid(40_000))
    del sides.rows[Elid(40_000)]

    assert sides.found() == ()


def test_a_module_is_compared_with_the_service_that_it_was_ordered_for() -> None:
    sides = Sides(2)
    for elid in sides.made:
        sides.change_made(elid, is_module=True, parent=Elid(7))
    sides.with_row(Elid(40_000), parent=Elid(7))
    sides.with_row(Elid(40_001), parent=Elid(8))

    assert [(each.kind, each.ours, each.theirs) for each in sides.found()] == [(DriftKind.PARENT, "7", "8")]


def test_only_what_differs_twice_is_told() -> None:
    gone = Difference(kind=DriftKind.MISSING, elid=Elid(1))
    stays = Difference(kind=DriftKind.EXPIRY, elid=Elid(2), theirs="2026-12-01")
    now = replace(stays, theirs="2026-12-02")

    assert lasting([gone, stays], [now, Difference(kind=DriftKind.FOREIGN, elid=Elid(3))]) == (now,)


def test_every_difference_is_a_finding_but_an_order_that_is_still_looked_for() -> None:
    assert [kind for kind in DriftKind if attention_of(kind) is None] == [DriftKind.UNDECIDED]


def test_findings_are_told_once_each_without_the_words_of_callers() -> None:
    label = Difference(kind=DriftKind.LABEL, elid=Elid(1), license_id="ka:1", ours="my words", theirs="other words")
    surplus = Difference(kind=DriftKind.SURPLUS, elid=Elid(2), theirs="549 my words", cost=Decimal("4.50"))
    undecided = Difference(kind=DriftKind.UNDECIDED, order=str(SPACE))

    label_told, surplus_told = findings_of((label, surplus, replace(surplus, cost=Decimal(9)), undecided), "isplicense")

    assert label_told.text == "label: service 1, license ka:1 (provider account isplicense)"
    assert (surplus_told.attention, surplus_told.text) == (
        AttentionKind.SURPLUS_SERVICE,
        "surplus: service 2, charged 4.50 (provider account isplicense)",
    )
