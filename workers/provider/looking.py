"""Looking upstream for an order: before its first byte, and afterwards for its effect (isplicense 9.3, 9.5, 9.6).

Reads only. What a look says about the order is judged by `shared.domain`; here is what must be read for it, in which
order, and when it is worth nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from shared.domain.provider_operation import (
    ChangeService,
    Elid,
    EndService,
    OrderFunction,
    OrderModule,
    OrderOperation,
    OrderPlesk,
    OrderSoftware,
    ProviderOperation,
    RenewService,
    ServiceKind,
    SetNodes,
)
from shared.domain.provider_outcome import Refusal
from shared.domain.provider_record import ProviderOrder
from shared.domain.provider_service import (
    ChargeList,
    ChargeRow,
    Finding,
    Found,
    ServiceForm,
    ServiceList,
    ServiceStatus,
    Sought,
    completed,
    look_at_nodes,
    look_at_renewal,
    look_for,
    snapshot_of,
    unexplained_charges,
)
from shared.domain.provider_settling import ChargeWitness, Look
from workers.provider.lists import SharedRead
from workers.provider.ports import FORM_KINDS, OrderBook, ProviderClient, ProviderReadError

FORMS_READ_MAX = 16
"""Services whose rows show too little are read one by one, so many per look."""
ADVANCE_DAYS_MIN = 20
"""A last day this much later per month of the period was renewed by somebody; less is how days are counted."""


class DoubtfulReadError(ProviderReadError):
    """The lists are not complete: nothing may be sent on their word."""

    code = "doubtful_read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What stands upstream before an order is sent."""

    elids: tuple[Elid, ...] = ()
    """Done already: these carry its marker, or show its effect."""
    how: Found = Found.MARKER
    expires_on: date | None = None
    refusal: Refusal | None = None
    """It cannot be done: the service is gone."""
    snapshot: frozenset[Elid] = frozenset()
    known_charges: frozenset[str] = frozenset()
    operation: ProviderOperation | None = None
    """The operation with the last day as it is upstream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One look for an order's effect."""

    look: Look
    expires_on: date | None = None
    """The last day of the service, where the look showed one."""


@dataclass(slots=True, kw_only=True)
class Looker:
    """Looks on behalf of one provider account."""

    book: OrderBook
    client: ProviderClient
    provider_account: str
    _lists: SharedRead[tuple[Mapping[str, Elid], ServiceList]] = field(init=False)

    def __post_init__(self) -> None:
        """Share list reads among all orders of the account."""
        self._lists = SharedRead(self._read_lists)

    async def before(self, order: ProviderOrder) -> Sight:
        """Return what stands upstream before the order is sent.

        Raises `DoubtfulReadError` or another `ProviderReadError` when nothing may be sent now.
        """
        match order.operation:
            case OrderSoftware() | OrderPlesk() | OrderModule() as operation:
                return await self._before_order(order, operation)
            case RenewService() as operation:
                return await self._before_renewal(order, operation)
            case SetNodes() as operation:
                form = await self.form(order, operation.elid)
                if form is None:
                    return Sight(refusal=Refusal.NOT_FOUND)
                found = look_at_nodes(form, operation)
                return Sight(elids=found.elids, how=found.how, known_charges=await self._charges_of(operation.elid))
            case ChangeService() | EndService():
                return Sight()

    async def look(self, order: ProviderOrder) -> Sighting:
        """Return one look for the effect of the order's present attempt. Raises `ProviderReadError`."""
        looked_at = await self.book.now()
        operation = order.operation
        if isinstance(operation, ChangeService | EndService):
            finding = await self._look_at_change(order, operation)
            return Sighting(look=Look.of(finding, looked_at=looked_at, charges=ChargeWitness.CLEAN))
        charges = await self.client.read_charges()  # first: what is charged by then stands in the lists afterwards
        if isinstance(operation, RenewService | SetNodes):
            form = await self.form(order, operation.elid)
            if isinstance(operation, RenewService):
                finding = look_at_renewal(form, operation)
            else:
                finding = look_at_nodes(form, operation)
            about = replace(charges, rows=tuple(row for row in charges.rows if row.elid in (None, operation.elid)))
            witness = _witness(about, order, explained=())
            return Sighting(
                look=Look.of(finding, looked_at=looked_at, charges=witness),
                expires_on=form.expires_on if form is not None and isinstance(operation, RenewService) else None,
            )
        canaries, services = await self._lists.fresh()
        finding = await self._find(order, operation, services, has_canary=type(operation).__name__ in canaries)
        witness = await self._charges_witness(order, charges, services)
        return Sighting(look=Look.of(finding, looked_at=looked_at, charges=witness))

    async def form(self, order: ProviderOrder, elid: Elid) -> ServiceForm | None:
        """Return the service as its form shows it, None when it is gone. Raises `ProviderReadError`."""
        offer = order.step.product.offer
        kinds = FORM_KINDS[OrderFunction(offer.order_function)] if offer is not None else tuple(ServiceKind)
        form = await self.client.read_service(elid, kinds)
        return None if form is not None and form.status is ServiceStatus.DELETED else form

    async def _read_lists(self) -> tuple[Mapping[str, Elid], ServiceList]:
        canaries = await self.book.canaries(self.provider_account)
        return canaries, await self.client.read_services(sorted(canaries.values()))

    async def _before_order(self, order: ProviderOrder, operation: OrderOperation) -> Sight:
        _, services = await self._lists.fresh()
        marked = await self._marked(order, services)
        if marked:
            return Sight(elids=marked)
        if not services.conclusive:
            raise DoubtfulReadError("; ".join(services.doubts)[:500])
        by_difference = not isinstance(operation, OrderSoftware)
        return Sight(snapshot=snapshot_of(services) if by_difference else frozenset())

    async def _before_renewal(self, order: ProviderOrder, operation: RenewService) -> Sight:
        form = await self.form(order, operation.elid)
        if form is None:
            return Sight(refusal=Refusal.NOT_FOUND)
        if form.expires_on is None:
            raise DoubtfulReadError(f"service {operation.elid} shows no last day: a renewal could not be recognized")
        advance = (form.expires_on - operation.expires_before).days
        if advance >= ADVANCE_DAYS_MIN * max(operation.period_months, 1):
            return Sight(elids=(operation.elid,), how=Found.EXPIRY, expires_on=form.expires_on)
        exact = replace(operation, expires_before=form.expires_on)
        return Sight(known_charges=await self._charges_of(operation.elid), operation=exact)

    async def _charges_of(self, elid: Elid) -> frozenset[str]:
        charges = await self.client.read_charges()
        return frozenset(row.charge_id for row in charges.rows if row.elid in (None, elid) and row.charge_id)

    async def _look_at_change(self, order: ProviderOrder, operation: ChangeService | EndService) -> Finding:
        form = await self.form(order, operation.elid)
        if isinstance(operation, EndService):
            done = form is None
        else:
            done = form is not None and form.address == operation.address and form.label.startswith(operation.label)
        return Finding(elids=(operation.elid,) if done else (), how=Found.VALUE, conclusive=True)

    async def _find(
        self, order: ProviderOrder, operation: OrderOperation, services: ServiceList, *, has_canary: bool
    ) -> Finding:
        marked = await self._marked(order, services)
        if marked:
            return Finding(elids=marked, how=Found.MARKER, conclusive=services.conclusive)
        fresh = {row.elid for row in services.rows if not row.markers} - order.snapshot
        linked = await self.book.linked(self.provider_account, fresh)
        sought = Sought(
            operation=operation,
            marker=order.marker,
            sent_on=(order.sent_at or order.intended_at).date(),
            snapshot=order.snapshot,
            linked=frozenset(linked) - ({order.elid} if order.elid is not None else frozenset()),
        )
        finding = look_for(services, sought)
        if finding.possible:
            finding = look_for(await self._completed(order, services, finding.possible), sought)
        return replace(finding, conclusive=finding.conclusive and has_canary)

    async def _marked(self, order: ProviderOrder, services: ServiceList) -> tuple[Elid, ...]:
        """Return the living services that carry a marker of the order, those of an earlier attempt too."""
        ours = set(order.markers)
        marked = {
            row.elid
            for row in services.rows
            if row.status is not ServiceStatus.DELETED and not ours.isdisjoint(row.markers)
        }
        linked = await self.book.linked(self.provider_account, marked)
        return tuple(sorted(elid for elid in marked if linked.get(elid, order.order_id) == order.order_id))

    async def _charges_witness(self, order: ProviderOrder, charges: ChargeList, services: ServiceList) -> ChargeWitness:
        """Return what the ledger says beside a look for a new service: what lives, or an order of ours made, explains.

        A service that is deleted may be the one sought, charged for and dead at birth, unless it stood there before or
        carries the marker of another order.
        """
        ours = set(order.markers)
        others = frozenset(
            row.elid
            for row in services.rows
            if row.status is not ServiceStatus.DELETED
            or row.elid in order.snapshot
            or (row.markers and ours.isdisjoint(row.markers))
        )
        named = {row.elid for row in _unexplained(charges, order, explained=others) if row.elid is not None}
        made = await self.book.linked(self.provider_account, named)
        return _witness(charges, order, explained=others | made.keys())

    async def _completed(self, order: ProviderOrder, services: ServiceList, possible: Collection[Elid]) -> ServiceList:
        wanted = sorted(possible)[:FORMS_READ_MAX]
        forms = {elid: form for elid in wanted if (form := await self.form(order, elid)) is not None}
        rows = tuple(completed(row, forms[row.elid]) if row.elid in forms else row for row in services.rows)
        return replace(services, rows=rows)


def _witness(charges: ChargeList, order: ProviderOrder, *, explained: Collection[Elid]) -> ChargeWitness:
    if not charges.conclusive:
        return ChargeWitness.UNREADABLE
    return ChargeWitness.UNEXPLAINED if _unexplained(charges, order, explained=explained) else ChargeWitness.CLEAN


def _unexplained(charges: ChargeList, order: ProviderOrder, *, explained: Collection[Elid]) -> tuple[ChargeRow, ...]:
    return unexplained_charges(
        charges.rows,
        explained=explained,
        known_charges=order.known_charges,
        sent_on=(order.sent_at or order.intended_at).date(),
    )
