"""What is to be provided upstream: server data as callers give it, and the plan of orders that an operation needs.

docs/protocols/isv-endpoint.md 4.5 (server data) and docs/protocols/isplicense.md 5, 9 (operations). A plan is a row of
steps, carried out one after the other; only the first ones of a PURCHASE or an UPGRADE order a new service.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum

from shared.domain.catalog import FIRST_PROVIDER_ACCOUNT, Product
from shared.domain.provider_operation import (
    LABEL_CHARACTERS_MAX,
    NODES_MAX,
    ChangeService,
    Elid,
    EndService,
    OrderFunction,
    OrderModule,
    OrderPlesk,
    OrderSoftware,
    ProviderOperation,
    RenewService,
    ServiceKind,
    SetNodes,
    address_of,
)
from shared.domain.term import months_later

RENEWAL_MARGIN_DAYS = 10
"""The ten days of grace inside `EXPIRY_DATE`: a service must only reach the renewal day before them."""
PERIODS_AT_ONCE_MAX = 12
"""More periods than this in one RENEW are no renewal but a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerData:
    """The customer's server."""

    address: str | None = None
    """Canonical IPv4 or IPv6; None for a module that names none."""
    label: str = ""
    nodes: int | None = None
    parent_number: str | None = None
    """For a module: number of the license it belongs to, of the same account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamService:
    """What we hold upstream for a license."""

    elid: Elid
    sku: str
    """The product ordered, without NFR prefix."""
    data: ServerData
    expires_on: date | None
    """Last day upstream as last read; None for a lifetime service."""
    key: str | None = None
    """The provider's own key, for products that hand it through."""
    account: str = FIRST_PROVIDER_ACCOUNT
    """The provider account that ordered it, and that everything else about it is asked in."""


class StepKind(StrEnum):
    """What one step of a plan does."""

    ORDER = "order"
    NODES = "nodes"
    PROLONG = "prolong"
    CHANGE = "change"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One order of a plan, before the id of the service is known."""

    kind: StepKind
    product: Product
    data: ServerData
    elid: Elid | None = None
    """The service concerned; None: the one that this plan orders."""
    parent: Elid | None = None
    expires_before: date | None = None
    """For PROLONG: the last day upstream before it."""
    account: str = FIRST_PROVIDER_ACCOUNT
    """The provider account that it is asked in."""


def is_module(product: Product) -> bool:
    """Whether the product is ordered for another license."""
    return product.offer is not None and product.offer.order_function == OrderFunction.MODULE


def fault_of(data: ServerData, product: Product) -> str | None:
    """Return what the data of `product` lacks or has too much, as a clause for people; None when they fit."""
    sold_by_nodes = product.offer is not None and product.offer.node_code is not None
    if data.address is not None and address_of(data.address) is None:
        return "ACTIVATION_DATA holds no valid server address"
    if is_module(product) and data.parent_number is None:
        return "ACTIVATION_DATA names no parent license"
    if not is_module(product) and data.address is None:
        return "ACTIVATION_DATA names no server address"
    if not is_module(product) and data.parent_number is not None:
        return "ACTIVATION_DATA names a parent, but the product is no module"
    if data.nodes is not None and not (sold_by_nodes and 1 <= data.nodes <= NODES_MAX):
        return f"ACTIVATION_DATA asks for {data.nodes} nodes, which the product does not offer"
    return None


def merged(held: ServerData, wanted: ServerData) -> ServerData:
    """Return the data in force after a later request: what it does not name stays as it was."""
    return replace(
        held,
        address=wanted.address or held.address,
        label=wanted.label or held.label,
        nodes=held.nodes if wanted.nodes is None else wanted.nodes,
    )


def plan_order(product: Product, data: ServerData, parent: UpstreamService | None, *, test: bool) -> tuple[Step, ...]:
    """Return the steps that order `product`: the service, then its nodes.

    In the account that the catalog names, for a `test` license in that for tests where there is one; a module can only
    be ordered where the service `parent` is.
    """
    account = (product.test_provider_account if test else "") or product.provider_account
    order = Step(
        kind=StepKind.ORDER,
        product=product,
        data=data,
        parent=None if parent is None else parent.elid,
        account=account if parent is None else parent.account,
    )
    return (order, replace(order, kind=StepKind.NODES)) if data.nodes is not None else (order,)


def plan_renewal(product: Product, service: UpstreamService, data: ServerData, until: date) -> tuple[Step, ...]:
    """Return the steps that make `service` last until the renewal day of `until` and carry `data`.

    Prolong only while the upstream day is before the requested one less its ten days of grace, so that a period is
    never paid twice (docs/protocols/isplicense.md 9.5). Empty when nothing has to be asked upstream.
    """
    return (*plan_periods(product, service, data, until), *plan_change(product, service, data))


def plan_periods(product: Product, service: UpstreamService, data: ServerData, until: date) -> tuple[Step, ...]:
    """Return one step for each period that `service` lacks to last until the renewal day of `until`."""
    steps: list[Step] = []
    reached = service.expires_on
    while reached is not None and product.period_months and len(steps) < PERIODS_AT_ONCE_MAX:
        if reaches(reached, until):
            break
        prolong = _about(service, StepKind.PROLONG, product, data)
        steps.append(replace(prolong, expires_before=reached))
        reached = months_later(reached, product.period_months)
    return tuple(steps)


def reaches(last_day: date, until: date) -> bool:
    """Whether a service with that last day lasts until the renewal day of a license that ends on `until`."""
    return last_day >= until - timedelta(days=RENEWAL_MARGIN_DAYS)


def plan_change(product: Product, service: UpstreamService, data: ServerData) -> tuple[Step, ...]:
    """Return the steps that give `service` another address, label or number of nodes."""
    change = _about(service, StepKind.CHANGE, product, data)
    steps: list[Step] = []
    if (data.address, data.label) != (service.data.address, service.data.label):
        steps.append(change)
    if data.nodes is not None and data.nodes != service.data.nodes:
        steps.append(replace(change, kind=StepKind.NODES))
    return tuple(steps)


def plan_end(product: Product, service: UpstreamService) -> Step:
    """Return the step that releases `service`."""
    return _about(service, StepKind.END, product, service.data)


def _about(service: UpstreamService, kind: StepKind, product: Product, data: ServerData) -> Step:
    """Return a step about a service: it stays with the account that ordered it, whatever the catalog says today."""
    return Step(kind=kind, product=product, data=data, elid=service.elid, account=service.account)


def operation_of(step: Step, ordered: Elid | None) -> ProviderOperation:
    """Return what is asked of the panel for `step`; `ordered` is the service that the plan ordered before it.

    Total for steps made by the planners here: they were checked by `fault_of` and name their service.
    """
    elid = step.elid or ordered
    address = address_of(step.data.address or "")
    match step.kind:
        case StepKind.ORDER:
            return _order(step)
        case StepKind.NODES:
            assert elid is not None  # noqa: S101 - the order before it was confirmed
            assert address is not None  # noqa: S101 - checked by `fault_of`
            offer = step.product.offer
            assert offer is not None  # noqa: S101 - the catalog check demands it of provider products
            return SetNodes(
                elid=elid,
                label=step.data.label,
                address=address,
                node_code=offer.node_code or 0,
                count=step.data.nodes or 0,
            )
        case StepKind.PROLONG:
            assert elid is not None  # noqa: S101 - as above
            assert step.expires_before is not None  # noqa: S101 - as above
            return RenewService(elid=elid, period_months=step.product.period_months, expires_before=step.expires_before)
        case StepKind.CHANGE:
            assert elid is not None  # noqa: S101 - as above
            assert address is not None  # noqa: S101 - as above
            return ChangeService(elid=elid, label=step.data.label, address=address)
        case StepKind.END:
            assert elid is not None  # noqa: S101 - as above
            return EndService(elid=elid, kind=service_kind(step.product))


def _order(step: Step) -> ProviderOperation:
    offer = step.product.offer
    assert offer is not None  # noqa: S101 - the catalog check demands it of provider products
    period = step.product.period_months
    if offer.order_function == OrderFunction.MODULE:
        return OrderModule(pricelist=offer.pricelist, parent=step.parent, period_months=period)
    address = address_of(step.data.address or "")
    assert address is not None  # noqa: S101 - checked by `fault_of`
    if offer.order_function == OrderFunction.PLESK:
        return OrderPlesk(pricelist=offer.pricelist, address=address, period_months=period)
    label = step.data.label[:LABEL_CHARACTERS_MAX]
    return OrderSoftware(pricelist=offer.pricelist, address=address, label=label, period_months=period)


def service_kind(product: Product) -> ServiceKind:
    """Return the list in which a service of `product` stands."""
    match product.offer.order_function if product.offer is not None else None:
        case OrderFunction.MODULE:
            return ServiceKind.MODULE
        case OrderFunction.PLESK:
            return ServiceKind.PLESK
        case _:
            return ServiceKind.SOFTWARE
