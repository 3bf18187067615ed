"""A provider that keeps books in memory and meets with misfortune on command: `ProviderClient` without a wire.

It charges once per effect and never asks what it is told, like the panel; so a test can count money.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

from shared.domain.catalog import ProviderOffer
from shared.domain.provider_operation import (
    ChangeService,
    Elid,
    EndService,
    Marker,
    OrderModule,
    OrderOperation,
    OrderPlesk,
    OrderSoftware,
    ProviderOperation,
    RenewService,
    ServiceKind,
    SetNodes,
    marked_label,
    objection_to,
)
from shared.domain.provider_order import Pause
from shared.domain.provider_outcome import (
    Accepted,
    Confirmed,
    Evidence,
    NotSent,
    PaymentRequired,
    Refusal,
    Refused,
    SendOutcome,
    SeveralIds,
    Unknown,
)
from shared.domain.provider_service import (
    Balance,
    ChargeList,
    ChargeRow,
    ServiceForm,
    ServiceList,
    ServiceRow,
    ServiceStatus,
)
from workers.provider.ports import Fence, ProviderReadError

MONTH_DAYS = 30


class Misfortune(StrEnum):
    """What befalls the next send."""

    NO_CONNECTION = "no_connection"
    LOST_BEFORE = "lost_before"
    """The connection dies with the request, which has no effect."""
    LOST_AFTER = "lost_after"
    """The effect happens, its answer is lost."""
    OUTAGE = "outage"
    """HTTP 502, no effect."""
    HELD_OFF = "held_off"
    """HTTP 429, no effect."""
    BAD_VALUE = "bad_value"
    AMBIGUOUS_ERROR = "ambiguous_error"
    """An error document of an ambiguous type, after the effect."""
    NO_MONEY = "no_money"
    NO_ID = "no_id"
    """Done, but the answer names no id."""
    SEVERAL_IDS = "several_ids"
    """Done, but the answer names another id too."""


HARMLESS: dict[Misfortune, SendOutcome] = {
    Misfortune.LOST_BEFORE: Unknown(evidence=Evidence(row=2, detail="ServerDisconnectedError")),
    Misfortune.OUTAGE: Unknown(evidence=Evidence(row=4, detail="HTTP 502", http_status=502)),
    Misfortune.HELD_OFF: Refused(
        refusal=Refusal.HELD_OFF, evidence=Evidence(row=3, detail="HTTP 429", http_status=429)
    ),
    Misfortune.BAD_VALUE: Refused(
        refusal=Refusal.INVALID_VALUE, evidence=Evidence(row=7, detail="error"), subject="ip"
    ),
    Misfortune.NO_MONEY: PaymentRequired(evidence=Evidence(row=9, detail="awaits payment"), ids=("billorder=1",)),
}
"""Misfortunes that prevent the effect."""
WRONG_PASSWORD = Refused(
    refusal=Refusal.AUTH_FAILED, evidence=Evidence(row=7, detail="error type='auth'"), subject="badpassword"
)


@dataclass(slots=True)
class ScriptedProvider:
    """The books, and what is about to go wrong."""

    today: date = date(2025, 11, 22)
    services: dict[Elid, ServiceRow] = field(default_factory=dict)
    forms: dict[Elid, ServiceForm] = field(default_factory=dict)
    charges: list[ChargeRow] = field(default_factory=list)
    misfortunes: deque[Misfortune] = field(default_factory=deque)
    hidden: set[Elid] = field(default_factory=set)
    """Services that no list shows yet."""
    locked_out: bool = False
    """The password is wrong from now on."""
    unreadable: bool = False
    """Reads fail from now on."""
    submits: int = 0
    """Requests that arrived and wanted to change something."""
    next_elid: int = 40117

    async def take_turn(self) -> None:
        """No rate here."""

    async def carry_out(
        self, operation: ProviderOperation, *, offer: ProviderOffer | None, marker: Marker | None, fence: Fence
    ) -> SendOutcome:
        """See `ProviderClient.carry_out`."""
        objection = objection_to(operation, offer)
        if objection is not None:
            return Refused(refusal=Refusal.INVALID_VALUE, evidence=Evidence(row=0, detail=objection))
        misfortune = self.misfortunes.popleft() if self.misfortunes else None
        if misfortune is Misfortune.NO_CONNECTION or not await _opened(fence):
            return NotSent(evidence=Evidence(row=1, detail="fence closed"))
        self.submits += 1
        prevented = WRONG_PASSWORD if self.locked_out else HARMLESS.get(misfortune) if misfortune else None
        if prevented is not None:
            return prevented
        return _told(self._effect(operation, marker), misfortune)

    async def read_services(self, canaries: Collection[Elid]) -> ServiceList:
        """See `ProviderClient.read_services`."""
        self._may_read()
        if self.unreadable:
            return ServiceList(rows=(), doubts=("softexternal: no answer",))
        rows = tuple(row for elid, row in self.services.items() if elid not in self.hidden)
        alive = {row.elid for row in rows if row.status is not ServiceStatus.DELETED}
        missing = tuple(f"service {each}, known to be alive, is missing" for each in canaries if each not in alive)
        return ServiceList(rows=rows, doubts=missing)

    async def read_service(self, elid: Elid, kinds: Sequence[ServiceKind]) -> ServiceForm | None:
        """See `ProviderClient.read_service`. Deleted services have no form."""
        self._may_read()
        if self.unreadable:
            raise ProviderReadError("no answer")
        row = self.services.get(elid)
        known = {ServiceKind.SOFTWARE, ServiceKind.ISPSYSTEM} if row is None else {row.kind}
        if row is None or row.status is ServiceStatus.DELETED or not _overlap(known, kinds):
            return None
        return replace(self.forms[elid], label=row.label, address=row.address, expires_on=row.expires_on)

    async def read_charges(self) -> ChargeList:
        """See `ProviderClient.read_charges`."""
        self._may_read()
        return ChargeList(rows=tuple(self.charges), doubts=("expense: no answer",) if self.unreadable else ())

    async def read_balance(self) -> Balance | None:
        """See `ProviderClient.read_balance`."""
        self._may_read()
        return Balance(amount=Decimal(1000), currency="EUR")

    def _may_read(self) -> None:
        if self.locked_out:
            raise ProviderReadError("error type='auth'", refusal=Refusal.AUTH_FAILED, pause=Pause.BREAKER)

    def _effect(self, operation: ProviderOperation, marker: Marker | None) -> SendOutcome:
        """Do what was asked, and charge for it."""
        if isinstance(operation, OrderSoftware | OrderPlesk | OrderModule):
            return self._order(operation, marker)
        row = self.services.get(operation.elid)
        if row is None or row.status is ServiceStatus.DELETED:
            gone = Evidence(row=7, detail="error type='missed' object='elid'")
            if isinstance(operation, EndService):
                return Confirmed(elid=operation.elid, evidence=gone)
            return Refused(refusal=Refusal.NOT_FOUND, evidence=gone, subject="elid")
        match operation:
            case ChangeService() | SetNodes():
                changed = replace(row, label=marked_label(operation.label, marker), address=operation.address)
            case RenewService():
                later = (row.expires_on or self.today) + timedelta(days=MONTH_DAYS * operation.period_months)
                changed = replace(row, expires_on=later)
                self._charge(row.elid, "renewal")
            case EndService():
                changed = replace(row, status=ServiceStatus.DELETED)
            case _:
                assert_never(operation)
        self.services[row.elid] = changed
        if isinstance(operation, SetNodes):
            form = self.forms[row.elid]
            if form.nodes.get(operation.node_code) != operation.count:
                self.forms[row.elid] = replace(form, nodes={**form.nodes, operation.node_code: operation.count})
                self._charge(row.elid, "nodes")
        expires_on = changed.expires_on if isinstance(operation, RenewService) else None
        return Confirmed(elid=row.elid, evidence=Evidence(row=11, detail="done"), expires_on=expires_on)

    def _order(self, operation: OrderOperation, marker: Marker | None) -> SendOutcome:
        elid = Elid(self.next_elid)
        self.next_elid += 1
        kind = {
            OrderSoftware: ServiceKind.SOFTWARE,
            OrderPlesk: ServiceKind.PLESK,
            OrderModule: ServiceKind.MODULE,
        }[type(operation)]
        self.services[elid] = ServiceRow(
            elid=elid,
            kind=kind,
            status=ServiceStatus.ACTIVE,
            label=marked_label(operation.label, marker) if isinstance(operation, OrderSoftware) else "",
            remote_id="" if isinstance(operation, OrderSoftware) else marker or "",
            address=None if isinstance(operation, OrderModule) else operation.address,
            parent=operation.parent if isinstance(operation, OrderModule) else None,
            tariff=str(operation.pricelist),
            created_on=self.today,
            expires_on=self.today + timedelta(days=MONTH_DAYS * operation.period_months),
        )
        self.forms[elid] = ServiceForm(
            elid=elid,
            kind=kind,
            status=ServiceStatus.ACTIVE,
            parent=self.services[elid].parent,
            pricelist=operation.pricelist,
            created_on=self.today,
            license_key=f"{elid}-KEY",
        )
        self._charge(elid, "order")
        return Confirmed(elid=elid, evidence=Evidence(row=11, detail="one id"))

    def _charge(self, elid: Elid, reason: str) -> None:
        number = str(len(self.charges) + 1)
        self.charges.append(
            ChargeRow(charge_id=number, amount=Decimal(5), name=reason, elid=elid, charged_on=self.today)
        )


def _told(answer: SendOutcome, misfortune: Misfortune | None) -> SendOutcome:
    """Return what is learned of an effect that has happened."""
    match misfortune, answer:
        case Misfortune.LOST_AFTER, _:
            return Unknown(evidence=Evidence(row=2, detail="ServerDisconnectedError"))
        case Misfortune.AMBIGUOUS_ERROR, _:
            return Unknown(evidence=Evidence(row=8, detail="error type='xml'"))
        case Misfortune.NO_ID, Confirmed():
            return Accepted(evidence=Evidence(row=13, detail="ok without an id"))
        case Misfortune.SEVERAL_IDS, Confirmed(elid=elid):
            evidence = Evidence(row=12, detail="2 distinct ids")
            return SeveralIds(elids=(elid, Elid(elid + 1)), evidence=evidence)
        case _:
            return answer


async def _opened(fence: Fence) -> bool:
    try:
        return await fence()
    except Exception:  # noqa: BLE001 - as in the adapter: a fence that cannot be asked is closed
        return False


def _overlap(known: set[ServiceKind], kinds: Sequence[ServiceKind]) -> bool:
    """Whether a form of one of `kinds` shows the service; software stands in both of its own."""
    wide = known | ({ServiceKind.ISPSYSTEM} if ServiceKind.SOFTWARE in known else set())
    return not wide.isdisjoint(kinds)
