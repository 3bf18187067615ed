"""Every fault mode against every operation that charges, many at once: one charge each, and nothing silent.

Each order has a fault of its own, matched by its address, parent or service; the runner, the database and the panel
are real. An order ends confirmed with exactly one charge, refused with none, or with people (`manual`).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from shared.database.catalogs import PostgresCatalogs
from shared.database.provider_sweeps import PostgresProviderSweeps
from shared.database.provider_writes import encode_service
from shared.domain.catalog import Product
from shared.domain.drift import DriftKind
from shared.domain.provider_operation import Elid
from shared.domain.provider_order import OrderState
from shared.domain.provider_record import ClaimLimits, ProviderOrder
from shared.domain.provider_sweep import SweepAsker, SweepState
from shared.domain.provisioning import StepKind, UpstreamService
from tests.integration.provider_rig import (
    ACCOUNT,
    BUSINESS,
    LITE,
    MODULE,
    PLESK,
    RULES,
    ProviderRig,
    a_runner,
    provider_rig,
)
from tests.integration.sweep_rig import CATALOG, LICENSE, a_sweeper

pytestmark = [pytest.mark.asyncio, pytest.mark.services, pytest.mark.timeout(180)]

CONFIRMED, REFUSED, MANUAL = OrderState.CONFIRMED, OrderState.REFUSED, OrderState.MANUAL
ORDER_FUNCTION = "softexternal.order.param"
WIDE = ClaimLimits(money_in_flight_max=16, unresolved_max=200, send_window_seconds=1.0)


@dataclass(frozen=True, slots=True)
class Case:
    """A fault and how its order ends."""

    mode: str
    phase: str | None = None
    args: tuple[tuple[str, Any], ...] = ()
    end: OrderState = CONFIRMED

    @property
    def name(self) -> str:
        return "-".join([self.mode, self.phase or "", *(f"{value}" for _, value in self.args)])


def args(**given: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(given.items())


CASES = (
    Case("slow", "before", args(ms=300)),
    Case("slow", "after", args(ms=300)),
    Case("hang", "after", args(max_ms=4000)),
    Case("hang", "before", args(max_ms=60_000)),
    Case("drop", "before"),
    Case("drop", "after"),
    Case("reset", "before"),
    Case("reset", "after"),
    Case("http_status", "before", args(status=502)),
    Case("http_status", "after", args(status=502)),
    Case("http_status", "before", args(status=429)),
    Case("http_status", "before", args(status=404), REFUSED),
    Case("error_doc", "before", args(type="xml")),
    Case("error_doc", "after", args(type="xml")),
    Case("error_doc", "before", args(type="value", object="ip"), REFUSED),
    Case("drip", None, args(ms=1)),
    Case("truncate"),
    Case("malformed_xml", None, args(kind="unclosed")),
    Case("malformed_xml", None, args(kind="two_roots")),
    Case("wrong_root", None, args(root="html")),
    Case("empty_body", "before"),
    Case("empty_body", "after"),
    Case("bad_encoding", None, args(kind="utf-16")),
    Case("xxe"),
    Case("xxe_param"),
    Case("billion_laughs"),
    Case("quadratic"),
    Case("huge_body", None, args(mebibytes=4)),
    Case("deep"),
    Case("html_login"),
    Case("redirect", None, args(to="login")),
    Case("captcha", None, (), REFUSED),
    Case("long_page", None, args(kind="pages", hops=2)),
    Case("long_page", None, args(kind="foreign")),
    Case("no_id"),
    Case("bad_id"),
    Case("late_visible", None, args(ms=1000)),
    Case("sticky_filter"),
    Case("short_page"),
    Case("namesake"),
    Case("localized_status"),
    Case("type_switch"),
    Case("balance_exhausted", None, args(money="payment_required"), REFUSED),
    Case("balance_exhausted", None, args(money="error_money"), REFUSED),
)


@pytest_asyncio.fixture
async def rig(database_url: str, tmp_path: Path) -> AsyncIterator[ProviderRig]:
    async with provider_rig(database_url, tmp_path) as made:
        made.runner = made.another_runner(limits=WIDE)
        yield made


async def fault(rig: ProviderRig, case: Case, func: str, **matched: str) -> None:
    body = {
        "match": {"func": func, "parameters": matched},
        "mode": case.mode,
        "phase": case.phase,
        "args": dict(case.args),
    }
    await rig.sandbox.control("POST", "faults", body)


def judged(orders: list[ProviderOrder], cases: tuple[Case, ...] = CASES) -> list[str]:
    """Return where an order did not end as its case says."""
    return [
        f"{case.name}: {order.state} {order.refusal or ''} after {order.attempt} attempts, not {case.end}"
        for case, order in zip(cases, orders, strict=True)
        if order.state is not case.end
    ]


async def charged_wrongly(rig: ProviderRig, orders: list[ProviderOrder], spared: set[int]) -> list[str]:
    """Return every service whose charges are not exactly one for the order that is confirmed with it."""
    confirmed = {int(order.elid): order for order in orders if order.state is CONFIRMED and order.elid is not None}
    charges = {elid: count for elid, count in (await rig.charges_per_service()).items() if elid not in spared}
    wrong = [f"service {elid}: {charges.get(elid, 0)} charges" for elid in confirmed if charges.get(elid, 0) != 1]
    return wrong + [
        f"service {elid}: {count} charges, no order" for elid, count in charges.items() if elid not in confirmed
    ]


async def submitted_too_often(rig: ProviderRig, orders: list[ProviderOrder]) -> list[str]:
    """Return the orders with more requests on the wire than attempts that passed their fence."""
    rows = {}
    async with rig.pool.acquire() as connection:
        for row in await connection.fetch(
            "SELECT order_id, count(*) AS open FROM provider_attempt WHERE closed_at IS NULL GROUP BY 1"
        ):
            rows[row["order_id"]] = row["open"]
    return [
        f"{order.order_id}: an attempt is still open" for order in orders if order.is_decided and order.order_id in rows
    ]


async def test_software_orders_survive_every_fault(rig: ProviderRig) -> None:
    canary = await rig.canary()
    ids: list[UUID] = []
    for number, case in enumerate(CASES):
        address = f"198.51.100.{number + 1}"
        await fault(rig, case, "softexternal.order.param", ip=address)
        ids.append(await rig.store(LITE, address=address))
    orders = await rig.settled(*ids, seconds=120)
    assert judged(orders) == []
    assert canary.elid is not None
    assert await charged_wrongly(rig, [canary, *orders], set()) == []
    assert await submitted_too_often(rig, orders) == []


async def test_plesk_orders_are_recognized_without_a_label(rig: ProviderRig) -> None:
    canary = await rig.canary(PLESK, address="192.0.2.250")
    ids: list[UUID] = []
    for number, case in enumerate(CASES):
        address = f"198.51.100.{number + 1}"
        await fault(rig, case, "parallelslic.order.param", pa_ip=address)
        ids.append(await rig.store(PLESK, address=address))
    orders = await rig.settled(*ids, seconds=120)
    assert judged(orders) == []
    assert await charged_wrongly(rig, [canary, *orders], set()) == []


async def test_modules_are_recognized_by_their_parent(rig: ProviderRig) -> None:
    parents = [await rig.canary(LITE, address=f"192.0.2.{number + 1}") for number in range(len(CASES))]
    first = await rig.canary(MODULE, parent=parents[0].elid)
    ids: list[UUID] = []
    for case, parent in zip(CASES, parents, strict=True):
        await fault(rig, case, "addition.order.param", item=str(parent.elid))
        ids.append(await rig.store(MODULE, parent=parent.elid))
    orders = await rig.settled(*ids, seconds=120)
    assert judged(orders) == []
    assert await charged_wrongly(rig, [first, *parents, *orders], set()) == []


async def test_renewals_charge_one_period(rig: ProviderRig) -> None:
    services = [await rig.canary(LITE, address=f"192.0.2.{number + 1}") for number in range(len(CASES))]
    ids: list[UUID] = []
    for case, service in zip(CASES, services, strict=True):
        assert service.elid is not None
        assert service.service_expires_on is not None
        await fault(rig, case, "service.prolong", elid=str(service.elid))
        ids.append(await _renewal(rig, service.elid, service.service_expires_on))
    orders = await rig.settled(*ids, seconds=120)
    assert judged(orders) == []
    charges = await rig.charges_per_service()
    wrong = [
        f"{case.name}: {charges[int(service.elid or 0)]} charges"
        for case, service, order in zip(CASES, services, orders, strict=True)
        if charges[int(service.elid or 0)] != (2 if order.state is CONFIRMED else 1)
    ]
    assert wrong == []
    later = [order for order in orders if order.state is CONFIRMED]
    assert all(order.service_expires_on is not None for order in later)


async def _renewal(rig: ProviderRig, elid: Elid, expires_before: date) -> UUID:
    return await rig.store(LITE, kind=StepKind.PROLONG, elid=elid, expires_before=expires_before)


async def test_nodes_are_set_once_to_the_target(rig: ProviderRig) -> None:
    services = [await rig.canary(BUSINESS, address=f"192.0.2.{number + 1}") for number in range(6)]
    modes = (
        *(Case("drop", "before"), Case("drop", "after"), Case("http_status", "before", args(status=502))),
        *(Case("truncate"), Case("no_id"), Case("malformed_xml")),
    )
    ids = []
    for case, service in zip(modes, services, strict=True):
        await fault(rig, case, "*.edit", elid=str(service.elid), sok="ok")
        address = str(service.step.data.address)
        ids.append(await rig.store(BUSINESS, kind=StepKind.NODES, elid=service.elid, address=address, nodes=3))
    orders = await rig.settled(*ids, seconds=120)
    assert judged(orders, modes) == []
    charges = await rig.charges_per_service()
    assert {charges[int(service.elid or 0)] for service in services} == {2}


async def test_changes_and_releases_are_sent_again_until_done(rig: ProviderRig) -> None:
    services = [await rig.canary(LITE, address=f"192.0.2.{number + 1}") for number in range(8)]
    modes = (Case("drop", "before"), Case("drop", "after"), Case("http_status", "before"), Case("truncate")) * 2
    ids = []
    for number, (case, service) in enumerate(zip(modes, services, strict=True)):
        kind, func = (StepKind.CHANGE, "softexternal.edit") if number < 4 else (StepKind.END, "softexternal.delete")
        matched = {"elid": str(service.elid)} | ({"sok": "ok"} if kind is StepKind.CHANGE else {})
        await fault(rig, case, func, **matched)
        ids.append(await rig.store(LITE, kind=kind, elid=service.elid, address=f"198.51.100.{number + 1}"))
    orders = await rig.settled(*ids, seconds=120)
    assert judged(orders, modes) == []
    licenses = {license["id"]: license for license in await rig.sandbox.licenses()}
    for number, service in enumerate(services[:4]):
        assert licenses[int(service.elid or 0)]["ip"] == f"198.51.100.{number + 1}"
        assert service.marker in licenses[int(service.elid or 0)]["licname"], "a rename keeps the marker"
    assert set((await rig.charges_per_service()).values()) == {1}


async def test_two_ids_and_an_unlisted_charge_are_for_people(rig: ProviderRig) -> None:
    await rig.canary()
    await fault(rig, Case("many_ids"), "softexternal.order.param", ip="198.51.100.1")
    (several,) = await rig.settled(await rig.store(LITE, address="198.51.100.1"))
    assert several.state is MANUAL
    assert len(several.quarantined) == 2
    await fault(rig, Case("invisible"), "softexternal.order.param", ip="198.51.100.2")
    await fault(rig, Case("drop", "after"), "softexternal.order.param", ip="198.51.100.2")
    (unlisted,) = await rig.settled(await rig.store(LITE, address="198.51.100.2"), seconds=30)
    assert unlisted.state is MANUAL
    assert unlisted.marker_number == 1, "never ordered again"
    told = await rig.value("SELECT count(*) FROM outbox WHERE type = 'keyway.provider.attention'")
    assert told == 2


@pytest.mark.parametrize("product", [LITE, PLESK])
async def test_a_charge_for_a_service_that_died_at_birth_is_never_followed_by_another(
    rig: ProviderRig, product: Product
) -> None:
    """Charged, the answer lost, and the row stands in the list as deleted: it is nobody's, but it is no absence."""
    await rig.canary(product, address="192.0.2.250")
    await rig.sandbox.control("POST", "profile", {"activation": {"mode": "fails"}})
    offer = product.offer
    assert offer is not None
    await fault(rig, Case("drop", "after"), offer.order_function)
    (order,) = await rig.settled(await rig.store(product, address="198.51.100.1"), seconds=40)
    assert (order.state, order.marker_number) == (MANUAL, 1)
    assert sorted((await rig.charges_per_service()).values()) == [1, 1]


async def test_a_dead_service_of_another_order_does_not_keep_an_absent_one_from_being_ordered_again(
    rig: ProviderRig,
) -> None:
    await rig.canary()
    await fault(rig, Case("error_doc", "after", args(type="value", object="ip")), ORDER_FUNCTION, ip="198.51.100.1")
    (refused,) = await rig.settled(await rig.store(LITE, address="198.51.100.1"))
    (surplus,) = [each["id"] for each in await rig.sandbox.licenses() if refused.marker in each["licname"]]
    await rig.sandbox.control("POST", "licenses", {"id": surplus, "status": 4})
    await fault(rig, Case("drop", "before"), ORDER_FUNCTION, ip="198.51.100.2")
    (order,) = await rig.settled(await rig.store(LITE, address="198.51.100.2"), seconds=40)
    assert (order.state, order.marker_number) == (CONFIRMED, 2)


async def test_a_panel_whose_clock_is_days_behind_does_not_make_us_order_again(rig: ProviderRig) -> None:
    """The service is new, but its day is not, nor is that of its charge: neither the one sought for sure nor absent."""
    await rig.canary(PLESK, address="192.0.2.250")
    await rig.sandbox.control("POST", "profile", {"list_remoteid": False})
    patience = replace(RULES, give_up_after_seconds=5.0)
    rig.runner = a_runner(rig.book, rig.client, rig.announcer, limits=WIDE, rules=patience)
    await fault(rig, Case("clock_jump", None, args(days=-3)), "parallelslic.order.param", pa_ip="198.51.100.1")
    await fault(rig, Case("drop", "after"), "parallelslic.order.param", pa_ip="198.51.100.1")
    (order,) = await rig.settled(await rig.store(PLESK, address="198.51.100.1"), seconds=40)
    assert (order.state, order.marker_number) == (MANUAL, 1)
    assert sorted((await rig.charges_per_service()).values()) == [1, 1]


async def differences(rig: ProviderRig, orders: list[ProviderOrder]) -> list[tuple[DriftKind, int | None]]:
    """Return what a sweep tells, with the licenses that the orders would have made."""
    for order in orders:
        if order.state is CONFIRMED and order.elid is not None:
            service = UpstreamService(
                elid=order.elid,
                sku=order.step.product.sku,
                data=order.step.data,
                expires_on=order.service_expires_on,
            )
            await rig.execute(LICENSE, order.number, order.step.product.sku, encode_service(service))
    sweeps = PostgresProviderSweeps(rig.pool)
    sweep_id = await sweeps.ask(ACCOUNT, SweepAsker.OPERATOR)
    await a_sweeper(rig, sweeps).carry(sweep_id)
    sweep = await sweeps.load(sweep_id)
    assert sweep is not None
    assert sweep.state is SweepState.DONE, sweep.failure
    return [(each.kind, each.elid) for each in sweep.differences]


async def test_what_no_client_can_notice_is_found_by_comparing_both_sides(rig: ProviderRig) -> None:
    """An effect behind a definite no, and one made twice: nothing silent, each told with its charge."""
    canary = await rig.canary()
    await fault(rig, Case("error_doc", "after", args(type="value", object="ip")), ORDER_FUNCTION, ip="198.51.100.1")
    (refused,) = await rig.settled(await rig.store(LITE, address="198.51.100.1"))
    await fault(rig, Case("double_effect"), ORDER_FUNCTION, ip="198.51.100.2")
    (doubled,) = await rig.settled(await rig.store(LITE, address="198.51.100.2"))
    assert (refused.state, doubled.state) == (REFUSED, CONFIRMED)
    await PostgresCatalogs(rig.pool).add(CATALOG, version=1)
    told = await differences(rig, [canary, refused, doubled])
    charged = await rig.charges_per_service()
    surplus = charged.keys() - {int(canary.elid or 0), int(doubled.elid or 0)}
    assert len(surplus) == 2
    assert {elid for kind, elid in told if kind in (DriftKind.SURPLUS, DriftKind.FOREIGN)} == surplus
    assert await differences(rig, []) == told, "a comparison changes nothing"
