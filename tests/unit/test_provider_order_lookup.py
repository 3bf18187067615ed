"""Look-ups: which listed service is the order's, and which charges nobody can explain."""

from dataclasses import replace
from datetime import date
from ipaddress import ip_address
from uuid import UUID

import pytest

from shared.domain.provider_operation import (
    Elid,
    OrderModule,
    OrderPlesk,
    OrderSoftware,
    RenewService,
    ServiceKind,
    SetNodes,
    marked_label,
    marker_of,
)
from shared.domain.provider_service import (
    ChargeRow,
    Finding,
    Found,
    ServiceForm,
    ServiceList,
    ServiceRow,
    ServiceStatus,
    Sought,
    completed,
    is_odd_advance,
    look_at_nodes,
    look_at_renewal,
    look_for,
    snapshot_of,
    unexplained_charges,
)

OURS, OTHER = (marker_of(b"key", UUID(int=number), 1) for number in (1, 2))
HOST, ELSEWHERE = ip_address("203.0.113.20"), ip_address("203.0.113.21")
SENT_ON = date(2025, 11, 22)
PLESK = ServiceRow(
    elid=Elid(5),
    kind=ServiceKind.PLESK,
    status=ServiceStatus.PROCESSING,
    address=HOST,
    tariff="264",
    created_on=SENT_ON,
)
SOUGHT = Sought(
    operation=OrderPlesk(pricelist=264, address=HOST, period_months=1),
    marker=OURS,
    sent_on=SENT_ON,
    snapshot=frozenset({Elid(1)}),
    linked=frozenset({Elid(2)}),
)
SOUGHT_SOFTWARE = replace(SOUGHT, operation=OrderSoftware(pricelist=546, address=HOST, label="web", period_months=1))


def found(*rows: ServiceRow, sought: Sought = SOUGHT, doubts: tuple[str, ...] = ()) -> Finding:
    return look_for(ServiceList(rows=rows, doubts=doubts), sought)


@pytest.mark.parametrize("place", ["label", "remote_id"])
@pytest.mark.parametrize("sought", [SOUGHT, SOUGHT_SOFTWARE], ids=["plesk", "software"])
def test_marker_finds_its_service_wherever_it_stands(place: str, sought: Sought) -> None:
    row = ServiceRow(elid=Elid(9), kind=ServiceKind.ISPSYSTEM, status=ServiceStatus.ACTIVE)
    words = marked_label("web 01", OURS)
    row = replace(row, label=words) if place == "label" else replace(row, remote_id=words)

    assert found(PLESK, row, sought=sought) == Finding(elids=(Elid(9),), how=Found.MARKER, conclusive=True)


def test_deleted_namesake_is_not_the_service() -> None:
    row = replace(PLESK, label=OURS, status=ServiceStatus.DELETED)

    assert found(row) == Finding(elids=(), how=Found.DIFFERENCE, conclusive=True)


def test_marker_twice_names_both() -> None:
    rows = [replace(PLESK, elid=Elid(number), label=f"x {OURS}") for number in (8, 7)]

    assert found(*rows).elids == (Elid(7), Elid(8))


def test_labelled_product_is_found_by_its_marker_only_but_one_that_lost_its_label_is_no_absence() -> None:
    row = replace(PLESK, kind=ServiceKind.SOFTWARE, tariff="546")

    assert found(row, sought=SOUGHT_SOFTWARE) == Finding(
        elids=(), how=Found.MARKER, conclusive=False, possible=(Elid(5),)
    )


@pytest.mark.parametrize(
    "row",
    [
        replace(PLESK, tariff="546", created_on=date(2025, 11, 20)),
        replace(PLESK, tariff="546", address=ELSEWHERE),
        replace(PLESK, tariff="547"),
        replace(PLESK, tariff="546", label=f"web {OTHER}"),
    ],
    ids=["older", "elsewhere", "another tariff", "another order's"],
)
def test_what_cannot_be_the_labelled_product_does_not_hinder_its_absence(row: ServiceRow) -> None:
    assert found(row, sought=SOUGHT_SOFTWARE) == Finding(elids=(), how=Found.MARKER, conclusive=True)


def test_a_marker_in_the_form_makes_up_for_a_label_that_the_list_cuts_off() -> None:
    row = replace(PLESK, tariff="546", label="web-01 lb-")
    form = ServiceForm(elid=row.elid, kind=row.kind, status=row.status, label=marked_label("web-01", OURS))

    assert found(completed(row, form), sought=SOUGHT_SOFTWARE).elids == (Elid(5),)


def test_unlabelled_product_is_found_by_the_difference() -> None:
    assert found(PLESK) == Finding(elids=(Elid(5),), how=Found.DIFFERENCE, conclusive=True)


@pytest.mark.parametrize(
    "row",
    [
        replace(PLESK, elid=Elid(1)),
        replace(PLESK, elid=Elid(2)),
        replace(PLESK, remote_id=OTHER),
        replace(PLESK, tariff="250"),
        replace(PLESK, address=ELSEWHERE),
        replace(PLESK, status=ServiceStatus.DELETED),
        replace(PLESK, address=None, tariff="250"),
    ],
    ids=["stood there", "linked", "marked", "tariff", "address", "deleted", "half shown, other tariff"],
)
def test_service_that_cannot_be_the_one_is_no_candidate(row: ServiceRow) -> None:
    assert found(row) == Finding(elids=(), how=Found.DIFFERENCE, conclusive=True)


@pytest.mark.parametrize(
    "row",
    [
        replace(PLESK, address=None),
        replace(PLESK, tariff=""),
        replace(PLESK, tariff="Plesk Web Pro"),
        replace(PLESK, created_on=date(2025, 11, 20)),
    ],
    ids=["no address", "no tariff", "tariff in unknown words", "new in the list, of an earlier day: whose clock?"],
)
def test_service_that_shows_too_little_makes_absence_inconclusive(row: ServiceRow) -> None:
    assert found(row) == Finding(elids=(), how=Found.DIFFERENCE, conclusive=False, possible=(Elid(5),))


def test_known_tariff_name_tells_the_tariff() -> None:
    sought = replace(SOUGHT, tariff_names=frozenset({"Plesk Web Pro"}))

    assert found(replace(PLESK, tariff="Plesk Web Pro"), sought=sought).elids == (Elid(5),)
    assert found(replace(PLESK, tariff="Plesk Web Host"), sought=sought).possible == ()


def test_day_before_is_still_the_day_of_the_order_in_some_time_zone() -> None:
    assert found(replace(PLESK, created_on=date(2025, 11, 21))).elids == (Elid(5),)


def test_form_completes_what_a_row_leaves_out() -> None:
    sought = replace(SOUGHT, operation=OrderModule(pricelist=356, parent=Elid(40117), period_months=1))
    row = ServiceRow(elid=Elid(6), kind=ServiceKind.MODULE, status=ServiceStatus.ACTIVE, tariff="Softaculous")
    form = ServiceForm(
        elid=Elid(6), kind=ServiceKind.MODULE, status=ServiceStatus.ACTIVE, pricelist=356, parent=Elid(40117)
    )

    assert found(row, sought=sought).possible == (Elid(6),)
    assert found(completed(row, form), sought=sought).elids == (Elid(6),)
    assert found(completed(row, replace(form, parent=Elid(1))), sought=sought).elids == ()


def test_doubtful_list_is_inconclusive_whatever_it_holds() -> None:
    assert not found(PLESK, doubts=("canary 39001 is missing",)).conclusive


def test_snapshot_holds_every_listed_id() -> None:
    rows = (PLESK, replace(PLESK, elid=Elid(6), status=ServiceStatus.DELETED))

    assert snapshot_of(ServiceList(rows=rows)) == {Elid(5), Elid(6)}


def charge(charge_id: str, elid: int | None, day: date | None = SENT_ON) -> ChargeRow:
    return ChargeRow(
        charge_id=charge_id, amount=None, name="x", elid=None if elid is None else Elid(elid), charged_on=day
    )


def test_charge_is_explained_by_a_service_a_known_row_or_its_age() -> None:
    explained = [charge("1", 5), charge("2", 99), charge("3", 99, date(2025, 11, 20))]

    assert unexplained_charges(explained, explained={Elid(5)}, known_charges={"2"}, sent_on=SENT_ON) == ()


@pytest.mark.parametrize(
    "row",
    [charge("7", 99), charge("7", None), charge("", 99), charge("7", 99, None), charge("7", 99, date(2025, 11, 21))],
)
def test_new_charge_without_a_service_is_unexplained(row: ChargeRow) -> None:
    assert unexplained_charges([row], explained={Elid(5)}, known_charges={"2", ""}, sent_on=SENT_ON) == (row,)


RENEW = RenewService(elid=Elid(5), period_months=1, expires_before=date(2025, 12, 22))
FORM = ServiceForm(elid=Elid(5), kind=ServiceKind.SOFTWARE, status=ServiceStatus.ACTIVE, nodes={550: 3})


@pytest.mark.parametrize(
    ("form", "elids", "conclusive"),
    [
        (replace(FORM, expires_on=date(2026, 1, 22)), (5,), True),
        (replace(FORM, expires_on=date(2025, 12, 22)), (), True),
        (replace(FORM, expires_on=date(2025, 12, 1)), (), True),
        (FORM, (), False),
        (None, (), False),
        (replace(FORM, expires_on=date(2026, 1, 22), status=ServiceStatus.DELETED), (), False),
    ],
    ids=["later", "the same", "earlier", "no date", "no service", "deleted"],
)
def test_renewal_is_proven_by_a_later_day_only(
    form: ServiceForm | None,
    elids: tuple[int, ...],
    conclusive: bool,  # noqa: FBT001 - a parametrized value
) -> None:
    assert look_at_renewal(form, RENEW) == Finding(
        elids=tuple(map(Elid, elids)), how=Found.EXPIRY, conclusive=conclusive
    )


@pytest.mark.parametrize(("count", "done", "conclusive"), [(3, True, True), (2, False, True)])
def test_nodes_are_proven_by_the_target_value(
    count: int,
    done: bool,  # noqa: FBT001 - a parametrized value
    conclusive: bool,  # noqa: FBT001 - a parametrized value
) -> None:
    operation = SetNodes(elid=Elid(5), label="", address=HOST, node_code=550, count=count)

    finding = look_at_nodes(FORM, operation)
    assert (bool(finding.elids), finding.conclusive) == (done, conclusive)
    assert not look_at_nodes(replace(FORM, nodes={}), operation).conclusive
    assert not look_at_nodes(None, operation).conclusive


@pytest.mark.parametrize(
    ("after", "months", "odd"),
    [
        (date(2026, 1, 22), 1, False),
        (date(2026, 1, 18), 1, False),
        (date(2026, 1, 17), 1, True),
        (date(2026, 1, 24), 1, True),
        (date(2026, 12, 22), 12, False),
        (date(2026, 1, 22), 12, True),
    ],
)
def test_advance_that_is_not_the_period_is_odd(after: date, months: int, odd: bool) -> None:  # noqa: FBT001 - a parametrized value
    assert is_odd_advance(date(2025, 12, 22), after, months) is odd
