"""What can be asked of an ISPlicense panel: seven operations as values, and the names that recognize an order again.

The panel has no idempotency key (docs/protocols/isplicense.md 8), so an order carries two names of ours: a **marker**,
written onto the service where there is room for it, and a **slot**, which says what the order could be confused with.
"""

import hmac
import re
from base64 import b32encode
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NewType, assert_never
from uuid import UUID

from shared.domain.catalog import ProviderOffer

Elid = NewType("Elid", int)
"""Id of one upstream service. A number, never text: the panel reads a text with commas as a list (1.1)."""
Marker = NewType("Marker", str)
"""29 characters, `lb-` and 26 of base32 (9.1)."""
Address = IPv4Address | IPv6Address

ELID = re.compile(r"[1-9][0-9]{0,17}")
MARKER = re.compile(r"lb-[a-z2-7]{26}")
LABEL_CHARACTERS_MAX = 200
NODES_MAX = 10_000
PERIODS_SENT = frozenset({0, 1, 12})
"""Months; 0 is lifetime. The price list has more, none of which is ever ordered (6.3)."""


class OrderFunction(StrEnum):
    """The function that orders a product (6.1)."""

    SOFTWARE = "softexternal.order.param"
    PLESK = "parallelslic.order.param"
    MODULE = "addition.order.param"


class ServiceKind(StrEnum):
    """The list in which a service stands; its edit and delete functions begin with this word."""

    SOFTWARE = "softexternal"
    ISPSYSTEM = "soft"
    PLESK = "parallelslic"
    MODULE = "addition"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSoftware:
    """O1: order a license that carries a label. Money."""

    pricelist: int
    address: Address
    label: str
    """The caller's words; the marker is added when it is sent."""
    period_months: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlesk:
    """O2: order a Plesk license. Money."""

    pricelist: int
    address: Address
    period_months: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderModule:
    """O3: order a module for the service `parent`. Money."""

    pricelist: int
    parent: Elid | None
    period_months: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeService:
    """O4: set label and address. May be sent again."""

    elid: Elid
    label: str
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNodes:
    """O5: set the number of nodes to `count`, an absolute target. Money."""

    elid: Elid
    label: str
    address: Address
    node_code: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewService:
    """O6: prolong by one period. Money."""

    elid: Elid
    period_months: int
    expires_before: date
    """Last day as read before sending: a later one afterwards is the only proof of the renewal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndService:
    """O7: delete. May be sent again."""

    elid: Elid
    kind: ServiceKind = ServiceKind.SOFTWARE


OrderOperation = OrderSoftware | OrderPlesk | OrderModule
MoneyOperation = OrderOperation | SetNodes | RenewService
RepeatableOperation = ChangeService | EndService
ProviderOperation = MoneyOperation | RepeatableOperation


def elid_of(text: str) -> Elid | None:
    """Return the service id that `text` writes, None for anything else (zero, a list, a sign, letters)."""
    return Elid(int(text)) if ELID.fullmatch(text) else None


def address_of(text: str) -> Address | None:
    """Return the address that `text` writes, None for anything else; a zone (`%eth0`) is not part of an address."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def is_money(operation: ProviderOperation) -> bool:
    """Whether the operation may charge, so that it must never be sent again on a guess (5.1)."""
    return isinstance(operation, OrderSoftware | OrderPlesk | OrderModule | SetNodes | RenewService)


def slot_of(operation: ProviderOperation) -> str:
    """Return the slot: two operations that could be taken for each other have the same text (9.1)."""
    match operation:
        case OrderSoftware():
            return f"{OrderFunction.SOFTWARE}|{operation.pricelist}|{operation.address}"
        case OrderPlesk():
            return f"{OrderFunction.PLESK}|{operation.pricelist}|{operation.address}"
        case OrderModule():
            return f"{OrderFunction.MODULE}|{operation.pricelist}|{operation.parent or '-'}"
        case SetNodes() | RenewService() | ChangeService() | EndService():
            return f"elid|{operation.elid}"
        case _:
            assert_never(operation)


def marker_of(service_key: bytes, order_id: UUID, marker_no: int) -> Marker:
    """Return the marker of an order: HMAC-SHA256 of `<order id>:<marker number>`, cut to 16 bytes, in base32 (9.1)."""
    digest = hmac.digest(service_key, f"{order_id}:{marker_no}".encode("ascii"), "sha256")[:16]
    return Marker("lb-" + b32encode(digest).decode("ascii").rstrip("=").lower())


def marked_label(label: str, marker: Marker | None) -> str:
    """Return the label to send: the caller's words, cut, with the marker as the last one.

    Words of the caller that look like a marker are left out: a label must not be able to claim another order.
    """
    printable = "".join(character if character.isprintable() else " " for character in label)
    words = [word for word in printable.split() if not MARKER.fullmatch(word.lower())]
    return " ".join([" ".join(words)[:LABEL_CHARACTERS_MAX].rstrip(), marker or ""]).strip()


def marker_in(text: str) -> Marker | None:
    """Return the marker that a label or `remoteid` read back ends with, None without one."""
    words = text.split()
    return Marker(words[-1]) if words and MARKER.fullmatch(words[-1]) else None


def objection_to(operation: ProviderOperation, offer: ProviderOffer | None) -> str | None:
    """Return what in the operation does not fit the catalog's offer, None when all does (5.3, 6.1, 6.3).

    `offer` is that of the ordered or renewed product; O4 and O7 need none. Checked before anything is sent.
    """
    match operation:
        case OrderSoftware():
            objection = _function_objection(operation, OrderFunction.SOFTWARE, offer)
        case OrderPlesk():
            objection = _function_objection(operation, OrderFunction.PLESK, offer)
        case OrderModule():
            objection = _function_objection(operation, OrderFunction.MODULE, offer)
        case RenewService():
            objection = _renewal_objection(operation, offer)
        case SetNodes():
            objection = _nodes_objection(operation, offer)
        case ChangeService() | EndService():
            objection = None
        case _:
            assert_never(operation)
    return objection


def _function_objection(operation: OrderOperation, function: OrderFunction, offer: ProviderOffer | None) -> str | None:
    if offer is None or offer.order_function != function:
        return f"{function}: not the order function of the product"
    if offer.pricelist != operation.pricelist:
        return f"pricelist {operation.pricelist}: the catalog has {offer.pricelist}"
    return _period_objection(operation.period_months, offer)


def _period_objection(period_months: int, offer: ProviderOffer | None) -> str | None:
    allowed = PERIODS_SENT.intersection(offer.periods_months if offer is not None else ())
    return None if period_months in allowed else f"period {period_months}: the catalog allows {sorted(allowed)}"


def _renewal_objection(operation: RenewService, offer: ProviderOffer | None) -> str | None:
    if operation.period_months == 0:
        return "period 0: a lifetime service is never renewed"
    return _period_objection(operation.period_months, offer)


def _nodes_objection(operation: SetNodes, offer: ProviderOffer | None) -> str | None:
    if offer is None or offer.node_code is None or operation.node_code != offer.node_code:
        return f"addon_{operation.node_code}: not the node code of the product"
    return None if 0 < operation.count <= NODES_MAX else f"{operation.count} nodes: 1 to {NODES_MAX} are allowed"
