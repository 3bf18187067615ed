"""What a panel lets us see, and which of it belongs to an order: the pure half of every look-up.

A list proves absence only when it is conclusive: complete, and with a service in it that we know to be alive. A row
found by its marker needs no such proof (docs/protocols/isplicense.md 7.3, 9.6).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum

from shared.domain.provider_operation import (
    Address,
    Elid,
    Marker,
    OrderModule,
    OrderOperation,
    OrderSoftware,
    RenewService,
    ServiceKind,
    SetNodes,
    marker_in,
)

PANEL_TIME_ZONE_SLACK = timedelta(days=1)
"""The panel's time zone is unknown (7.2): its day of an order may be one off ours."""


class ServiceStatus(IntEnum):
    """Status codes of the panel (7.2). Words are never read."""

    UNKNOWN = 0
    ORDERED = 1
    ACTIVE = 2
    SUSPENDED = 3
    DELETED = 4
    PROCESSING = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRow:
    """One row of a list. Everything but the id may be missing upstream."""

    elid: Elid
    kind: ServiceKind
    status: ServiceStatus
    label: str = ""
    remote_id: str = ""
    address: Address | None = None
    parent: Elid | None = None
    tariff: str = ""
    """Price list code, or the panel's name of it."""
    created_on: date | None = None
    expires_on: date | None = None
    autoprolong: str = ""
    """Empty or `null` when it is off."""

    @property
    def markers(self) -> frozenset[Marker]:
        """The markers written on the service."""
        return frozenset(marker for text in (self.label, self.remote_id) if (marker := marker_in(text)) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceForm:
    """One service as its own form shows it."""

    elid: Elid
    kind: ServiceKind
    status: ServiceStatus
    label: str = ""
    address: Address | None = None
    parent: Elid | None = None
    pricelist: int | None = None
    created_on: date | None = None
    expires_on: date | None = None
    nodes: Mapping[int, int] = field(default_factory=dict)
    """Node code -> count."""
    license_key: str = field(default="", repr=False)
    """The provider's key; empty until it is there. Secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceList:
    """All lists of a panel, read at one go."""

    rows: tuple[ServiceRow, ...]
    doubts: tuple[str, ...] = ()
    """Why this must not support a "not there"; empty for a conclusive read."""

    @property
    def conclusive(self) -> bool:
        """Whether absence from it means something."""
        return not self.doubts


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRow:
    """One row of the expense ledger."""

    charge_id: str
    """The panel's id of the row; empty when it shows none."""
    amount: Decimal | None
    name: str
    elid: Elid | None
    """The service charged for, where the row names it."""
    charged_on: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeList:
    """The expense ledger; `doubts` as in `ServiceList`."""

    rows: tuple[ChargeRow, ...]
    doubts: tuple[str, ...] = ()

    @property
    def conclusive(self) -> bool:
        """Whether the absence of a charge means something."""
        return not self.doubts


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What the account can still spend; advisory."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What an order left to recognize its service by."""

    operation: OrderOperation
    marker: Marker
    sent_on: date
    snapshot: frozenset[Elid]
    """Ids that stood in the lists before sending."""
    linked: frozenset[Elid] = frozenset()
    """Ids that belong to other orders of ours."""
    tariff_names: frozenset[str] = frozenset()
    """The panel's names of the price list code, as far as they are known."""


class Found(StrEnum):
    """How an order got to know its service."""

    ANSWER = "answer"
    MARKER = "marker"
    DIFFERENCE = "difference"
    EXPIRY = "expiry"
    VALUE = "value"
    PEOPLE = "people"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one read of the lists says about one order."""

    elids: tuple[Elid, ...]
    how: Found
    conclusive: bool
    possible: tuple[Elid, ...] = ()
    """New services that may be the one, but show too little. Read their forms and look again (`completed`)."""


def look_for(services: ServiceList, sought: Sought) -> Finding:
    """Return the services of `sought` in a fresh read.

    By marker first. A product without a label falls back to the difference: new since the snapshot, unlinked, without
    another order's marker, same tariff and address or parent, created no earlier than the order (9.6). Services that
    lack one of these to compare are `possible`, which makes an empty finding inconclusive. So is a fresh service that
    only lacks the label of the order: a panel that cut it off must not make us order again.
    """
    alive = [row for row in services.rows if row.status is not ServiceStatus.DELETED]
    marked = tuple(sorted(row.elid for row in alive if sought.marker in row.markers))
    if marked:
        return Finding(elids=marked, how=Found.MARKER, conclusive=services.conclusive)
    judged = [(row.elid, _matches(row, sought)) for row in alive]
    certain = tuple(sorted(elid for elid, matching in judged if matching is True))
    possible = tuple(sorted(elid for elid, matching in judged if matching is None))
    how = Found.MARKER if isinstance(sought.operation, OrderSoftware) else Found.DIFFERENCE
    return Finding(elids=certain, how=how, conclusive=services.conclusive and not possible, possible=possible)


def completed(row: ServiceRow, form: ServiceForm) -> ServiceRow:
    """Return the row with what its form adds: price list code, address, parent, a marker."""
    return replace(
        row,
        label=form.label if marker_in(form.label) is not None else row.label,
        tariff=str(form.pricelist) if form.pricelist is not None else row.tariff,
        address=row.address if row.address is not None else form.address,
        parent=row.parent if row.parent is not None else form.parent,
    )


def snapshot_of(services: ServiceList) -> frozenset[Elid]:
    """Return the ids to store before sending: whatever stood there then is not the result of it."""
    return frozenset(row.elid for row in services.rows)


def look_at_renewal(form: ServiceForm | None, operation: RenewService) -> Finding:
    """Return whether the service shows the renewal: only a later last day does (9.5)."""
    known = form is not None and form.expires_on is not None and form.status is not ServiceStatus.DELETED
    done = form is not None and form.expires_on is not None and form.expires_on > operation.expires_before
    return Finding(elids=(operation.elid,) if known and done else (), how=Found.EXPIRY, conclusive=known)


def look_at_nodes(form: ServiceForm | None, operation: SetNodes) -> Finding:
    """Return whether the service shows the wanted number of nodes (9.5)."""
    known = form is not None and operation.node_code in form.nodes
    done = form is not None and form.nodes.get(operation.node_code) == operation.count
    return Finding(elids=(operation.elid,) if done else (), how=Found.VALUE, conclusive=known)


def is_odd_advance(before: date, after: date, period_months: int) -> bool:
    """Whether a renewal moved the last day by something else than its period: 27 to 32 days a month (9.5)."""
    days = (after - before).days
    return not 27 * period_months <= days <= 32 * period_months


def unexplained_charges(
    charges: Iterable[ChargeRow],
    *,
    explained: Collection[Elid],
    known_charges: Collection[str],
    sent_on: date,
) -> tuple[ChargeRow, ...]:
    """Return the charges since an order was sent that nothing else accounts for (9.6).

    `explained` are the services that may have been charged for rightly: all that are listed or linked, without the
    one of a renewal or node order in question. `known_charges` are the ledger ids seen before sending. Names are
    display text and explain nothing away.
    """
    since = sent_on - PANEL_TIME_ZONE_SLACK
    return tuple(
        charge
        for charge in charges
        if not (charge.charge_id and charge.charge_id in known_charges)
        and (charge.charged_on is None or charge.charged_on >= since)
        and (charge.elid is None or charge.elid not in explained)
    )


def _matches(row: ServiceRow, sought: Sought) -> bool | None:
    """Return whether the row is the sought one; None when it shows too little to tell.

    A date alone excludes nothing that is new since the snapshot: the panel's clock may be days off. Before an order
    with a label no snapshot is kept; there it does.
    """
    if row.elid in sought.snapshot or row.elid in sought.linked or row.markers:
        return False
    is_labeled = isinstance(sought.operation, OrderSoftware)
    is_older = row.created_on is not None and row.created_on < sought.sent_on - PANEL_TIME_ZONE_SLACK
    answers = (_same_tariff(row, sought), _same_place(row, sought.operation))
    if False in answers or (is_labeled and is_older):
        return False
    return None if None in answers or is_labeled or is_older else True


def _same_tariff(row: ServiceRow, sought: Sought) -> bool | None:
    if not row.tariff:
        return None
    if row.tariff.isdecimal():
        return row.tariff == str(sought.operation.pricelist)
    return row.tariff in sought.tariff_names if sought.tariff_names else None


def _same_place(row: ServiceRow, operation: OrderOperation) -> bool | None:
    if isinstance(operation, OrderModule):
        if operation.parent is None:
            return True
        return None if row.parent is None else row.parent == operation.parent
    return None if row.address is None else row.address == operation.address
