"""Where our side and the provider's differ: services, what they are, and what was charged for them. Pure.

Both ways: everything that we hold is looked for upstream, everything that stands there is looked for with us. An order
that is not settled yet explains the service that carries its marker or that it changes; one whose outcome is not known
is told as what it is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from shared.domain.catalog import Catalog
from shared.domain.provider_operation import Elid, Marker, marked_label
from shared.domain.provider_order import OrderState
from shared.domain.provider_service import ChargeRow, ServiceForm, ServiceRow, ServiceStatus
from shared.domain.provisioning import StepKind, UpstreamService, is_module

UNDECIDED = frozenset({OrderState.SENDING, OrderState.UNKNOWN, OrderState.MANUAL})
AUTOPROLONG_OFF = frozenset({"", "null", "off", "none"})


class DriftKind(StrEnum):
    """What differs."""

    MISSING = "missing"
    """A license holds a service that is not there any more."""
    SURPLUS = "surplus"
    """A service that we ordered and no license needs."""
    NOT_RELEASED = "not_released"
    """A service that was released and is still there."""
    FOREIGN = "foreign"
    """A service that no order of ours made."""
    SHARED = "shared"
    """Two licenses hold the same service."""
    NOT_ORDERED = "not_ordered"
    """A license holds a service that no order of ours made."""
    EXPIRY = "expiry"
    PRODUCT = "product"
    ADDRESS = "address"
    LABEL = "label"
    PARENT = "parent"
    NODES = "nodes"
    SUSPENDED = "suspended"
    AUTOPROLONG = "autoprolong"
    """The panel would renew by itself, and charge."""
    CHARGED = "charged"
    """More charges for a service than orders of ours."""
    NOT_CHARGED = "not_charged"
    """Fewer charges for a service than orders of ours."""
    UNEXPLAINED_CHARGE = "unexplained_charge"
    """A charge for a service that we do not know, or for none."""
    UNDECIDED = "undecided"
    """An order whose outcome is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference; nothing secret."""

    kind: DriftKind
    elid: Elid | None = None
    license_id: str | None = None
    ours: str = ""
    theirs: str = ""
    order: str = ""
    """The order concerned."""
    cost: Decimal | None = None
    """What was charged for it; None where nobody can tell."""
    account: str = ""
    """The provider account concerned."""

    @property
    def identity(self) -> tuple[str, DriftKind, Elid | None, str | None, str]:
        """What makes it the same difference the next time, whatever the figures are then."""
        return (self.account, self.kind, self.elid, self.license_id, self.order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A service that a license holds."""

    license_id: str
    service: UpstreamService


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeService:
    """A service that an order of ours made, and what further orders did to it."""

    elid: Elid
    order_id: UUID
    """The order that made it."""
    license_id: str
    marker: Marker
    is_module: bool = False
    parent: Elid | None = None
    """Modules only: the service that it was ordered for."""
    orders_paid: int = 1
    """Confirmed orders that charge: the one that made it, renewals, numbers of nodes."""
    released: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """An order that is not settled: what it concerns may change any moment, also with us."""

    order_id: UUID
    license_id: str
    kind: StepKind
    state: OrderState
    markers: frozenset[Marker]
    """Every marker that it may have written."""
    elid: Elid | None = None
    """The service that it made, or is about."""
    quarantined: tuple[Elid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OurSide:
    """Everything on record with us that a comparison needs, of one provider account."""

    holdings: Sequence[Holding]
    made: Sequence[MadeService]
    open_orders: Sequence[OpenOrder]
    catalog: Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class TheirSide:
    """Everything that the panel shows, read completely."""

    rows: Sequence[ServiceRow]
    charges: Sequence[ChargeRow]
    tariff_codes: Mapping[str, int] = field(default_factory=dict)
    """The panel's names of price list codes, as far as they were learned."""
    forms: Mapping[Elid, ServiceForm | None] = field(default_factory=dict)
    """Forms that were read as well; None for a service that has none."""


def compare(ours: OurSide, theirs: TheirSide) -> tuple[Difference, ...]:
    """Return every difference, by kind and service."""
    book = _Book(ours, theirs)
    found = [*book.of_holdings(), *book.of_rows(), *book.of_charges(), *book.of_orders()]
    return tuple(sorted(found, key=lambda each: (each.kind, each.elid or 0, each.license_id or "", each.order)))


class _Book:
    """Both sides, looked up by service."""

    def __init__(self, ours: OurSide, theirs: TheirSide) -> None:
        self._ours = ours
        self._theirs = theirs
        self._alive = {row.elid: row for row in theirs.rows if row.status is not ServiceStatus.DELETED}
        self._held: dict[Elid, list[Holding]] = {}
        for holding in ours.holdings:
            self._held.setdefault(holding.service.elid, []).append(holding)
        self._made = {service.elid: service for service in ours.made}
        self._open: set[Elid] = set()
        self._ending: set[Elid] = set()
        self._open_markers = {marker for order in ours.open_orders for marker in order.markers}
        for order in ours.open_orders:
            self._open |= {*order.quarantined, *([order.elid] if order.elid is not None else [])}
            if order.kind is StepKind.END and order.elid is not None:
                self._ending.add(order.elid)
        self._charged: dict[Elid, list[ChargeRow]] = {}
        for charge in theirs.charges:
            if charge.elid is not None:
                self._charged.setdefault(charge.elid, []).append(charge)

    def of_holdings(self) -> Iterator[Difference]:
        """Look upstream for everything that a license holds."""
        for elid, holdings in self._held.items():
            if len(holdings) > 1:
                names = ", ".join(holding.license_id for holding in holdings)
                yield Difference(kind=DriftKind.SHARED, elid=elid, license_id=holdings[0].license_id, ours=names)
            for holding in holdings:
                yield from self._of_holding(elid, holding)

    def _of_holding(self, elid: Elid, holding: Holding) -> Iterator[Difference]:
        row = self._alive.get(elid)
        if elid not in self._made:
            yield self._difference(DriftKind.NOT_ORDERED, holding, ours=holding.service.sku)
        if row is None:
            if elid not in self._ending:
                yield self._difference(
                    DriftKind.MISSING, holding, ours=holding.service.sku, theirs="not there", cost=self._cost(elid)
                )
            return
        if elid in self._open:
            return  # something is being changed: what it shows now is told by its order
        for kind, mine, other in self._compared(holding, row):
            if mine != other:
                yield self._difference(kind, holding, ours=mine, theirs=other)

    def _compared(self, holding: Holding, row: ServiceRow) -> Iterator[tuple[DriftKind, str, str]]:
        service, made = holding.service, self._made.get(holding.service.elid)
        product = self._ours.catalog.products.get(service.sku)
        form = self._theirs.forms.get(service.elid)
        yield DriftKind.EXPIRY, *_shown(service.expires_on, row.expires_on)
        code = int(row.tariff) if row.tariff.isdecimal() else self._theirs.tariff_codes.get(row.tariff)
        if product is not None and product.offer is not None and code is not None:
            yield DriftKind.PRODUCT, str(product.offer.pricelist), str(code)
        if row.address is not None and service.data.address is not None:
            yield DriftKind.ADDRESS, service.data.address, str(row.address)
        if product is not None and not is_module(product) and made is not None and row.label:
            yield DriftKind.LABEL, marked_label(service.data.label, made.marker), row.label
        if made is not None and made.is_module and row.parent is not None:
            yield DriftKind.PARENT, *_shown(made.parent, row.parent)
        if form is not None and product is not None and product.offer is not None and product.offer.node_code:
            wanted, counted = service.data.nodes, form.nodes.get(product.offer.node_code)
            if wanted is not None and counted is not None:
                yield DriftKind.NODES, str(wanted), str(counted)
        yield DriftKind.SUSPENDED, "no", "yes" if row.status is ServiceStatus.SUSPENDED else "no"
        yield DriftKind.AUTOPROLONG, "off", "off" if row.autoprolong.lower() in AUTOPROLONG_OFF else row.autoprolong

    def of_rows(self) -> Iterator[Difference]:
        """Look with us for everything that stands upstream."""
        for elid, row in self._alive.items():
            if elid in self._held or elid in self._open or row.markers & self._open_markers:
                continue
            made = self._made.get(elid)
            kind = DriftKind.FOREIGN
            if made is not None and made.released:
                kind = DriftKind.NOT_RELEASED
            elif made is not None or row.markers:
                kind = DriftKind.SURPLUS
            yield Difference(
                kind=kind,
                elid=elid,
                license_id=None if made is None else made.license_id,
                theirs=" ".join(filter(None, (row.tariff, str(row.address or ""), row.label))),
                order="" if made is None else str(made.order_id),
                cost=self._cost(elid),
            )

    def of_charges(self) -> Iterator[Difference]:
        """Count the charges of every service that we know, and look for those of services that nobody knows."""
        for elid, made in self._made.items():
            charges = self._charged.get(elid, [])
            if elid in self._open or len(charges) == made.orders_paid:
                continue
            more = len(charges) > made.orders_paid
            yield Difference(
                kind=DriftKind.CHARGED if more else DriftKind.NOT_CHARGED,
                elid=elid,
                license_id=made.license_id,
                ours=f"{made.orders_paid} orders",
                theirs=f"{len(charges)} charges",
                cost=_sum(charges[made.orders_paid :]) if more else None,
            )
        told = {*self._made, *self._alive, *self._open}
        for charge in self._theirs.charges:
            if charge.elid is None or charge.elid not in told:
                yield Difference(
                    kind=DriftKind.UNEXPLAINED_CHARGE,
                    elid=charge.elid,
                    theirs=f"{charge.name} {charge.charged_on or ''}".strip(),
                    order=charge.charge_id,
                    cost=charge.amount,
                )

    def of_orders(self) -> Iterator[Difference]:
        """Tell the orders whose outcome is not known."""
        for order in self._ours.open_orders:
            if order.state in UNDECIDED:
                yield Difference(
                    kind=DriftKind.UNDECIDED,
                    elid=order.elid,
                    license_id=order.license_id,
                    ours=f"{order.kind} {order.state}",
                    order=str(order.order_id),
                )

    def _cost(self, elid: Elid) -> Decimal | None:
        charges = self._charged.get(elid)
        return _sum(charges) if charges else None

    def _difference(
        self, kind: DriftKind, holding: Holding, *, ours: str = "", theirs: str = "", cost: Decimal | None = None
    ) -> Difference:
        elid = holding.service.elid
        return Difference(kind=kind, elid=elid, license_id=holding.license_id, ours=ours, theirs=theirs, cost=cost)


def lasting(first: Iterable[Difference], second: Iterable[Difference]) -> tuple[Difference, ...]:
    """Return the differences of the second comparison that the first had too: what was only under way drops out."""
    known = {each.identity for each in first}
    return tuple(each for each in second if each.identity in known)


def _shown(mine: date | Elid | None, other: date | Elid | None) -> tuple[str, str]:
    """Return both as text; what the panel does not show is no difference."""
    return ("", "") if other is None else (str(mine or "none"), str(other))


def _sum(charges: Iterable[ChargeRow]) -> Decimal:
    return sum((charge.amount for charge in charges if charge.amount is not None), Decimal(0))
