"""Operations as form parameters: an allow-list per operation, nothing of a caller's but values in their places.

Names, `func`, `sok`, `clicked_button` and `skipbasket` stand in this file only (docs/protocols/isplicense.md 1.1, 5.1).
"""

from typing import assert_never

from shared.domain.catalog import ProviderOffer
from shared.domain.provider_operation import (
    ChangeService,
    Elid,
    EndService,
    Marker,
    OrderFunction,
    OrderModule,
    OrderPlesk,
    OrderSoftware,
    ProviderOperation,
    RenewService,
    ServiceKind,
    SetNodes,
    marked_label,
    objection_to,
)
from workers.provider.isplicense.account import PanelAccount

Parameters = tuple[tuple[str, str], ...]

XML = ("out", "xml")
ENGLISH = ("lang", "en")
SUBMIT = ("sok", "ok")
ORDER = (("clicked_button", "finish"), SUBMIT, ("skipbasket", "on"))
AUTOPROLONG_OFF = ("autoprolong", "null")
FILTER_FIELDS = ("id", "licname", "ip", "pricelist", "status", "period", "createdate", "expiredate")
DELETE_FUNCTIONS: dict[ServiceKind, str] = {
    ServiceKind.SOFTWARE: "softexternal.delete",
    ServiceKind.ISPSYSTEM: "softexternal.delete",
    ServiceKind.PLESK: "parallelslic.delete",
    ServiceKind.MODULE: "addition.delete",
}


class UnfitOperationError(Exception):
    """The operation must not be sent; the text says what does not fit."""


def parameters_of(
    operation: ProviderOperation, *, offer: ProviderOffer | None, marker: Marker | None, account: PanelAccount
) -> Parameters:
    """Return the parameters of an operation. Raises `UnfitOperationError` before anything is sent."""
    objection = objection_to(operation, offer) or _account_objection(operation, marker, account)
    if objection is not None:
        raise UnfitOperationError(objection)
    return (XML, ENGLISH, *_own_parameters(operation, marker, account))


def function_of(parameters: Parameters) -> str:
    """Return the `func` of a form, for logs."""
    return next((value for name, value in parameters if name == "func"), "")


def list_parameters(function: str, *, page: int, rows: int) -> Parameters:
    """Return the call of one page, counted from 1, of a list or ledger (7.3)."""
    return (XML, ENGLISH, ("func", function), ("p_cnt", str(rows)), ("p_num", str(page)))


def form_parameters(kind: ServiceKind, elid: Elid) -> Parameters:
    """Return the call that shows a service's form: without `sok` nothing is changed (7.1)."""
    return (XML, ENGLISH, ("func", f"{kind}.edit"), ("elid", str(elid)))


def blank_filter_parameters(kind: ServiceKind) -> Parameters:
    """Return the call that clears a saved filter. Without `out`: with it some panels only echo the form (7.3)."""
    return (ENGLISH, ("func", f"{kind}.filter"), *((name, "") for name in FILTER_FIELDS), SUBMIT)


def read_parameters(function: str) -> Parameters:
    """Return the call of a function that takes nothing."""
    return (XML, ENGLISH, ("func", function))


def _account_objection(operation: ProviderOperation, marker: Marker | None, account: PanelAccount) -> str | None:
    match operation:
        case OrderSoftware() | OrderPlesk() | OrderModule() if marker is None:
            return "an order without a marker could not be found again"
        case OrderModule(parent=None) if account.module_requires_item:
            return "a module needs the service that it belongs to (item)"
        case EndService(kind=kind) if kind not in account.delete_kinds:
            return f"{DELETE_FUNCTIONS[kind]} is not allowed by the account's settings"
        case _:
            return None


def _own_parameters(operation: ProviderOperation, marker: Marker | None, account: PanelAccount) -> Parameters:
    match operation:
        case OrderSoftware():
            own: Parameters = (
                ("func", OrderFunction.SOFTWARE),
                ("ip", str(operation.address)),
                ("licname", marked_label(operation.label, marker)),
                *_order_parameters(operation, marker, account, OrderFunction.SOFTWARE),
            )
        case OrderPlesk():
            own = (
                ("func", OrderFunction.PLESK),
                ("pa_ip", str(operation.address)),
                *_order_parameters(operation, marker, account, OrderFunction.PLESK),
            )
        case OrderModule():
            own = (
                ("func", OrderFunction.MODULE),
                *((("item", str(operation.parent)),) if operation.parent is not None else ()),
                *_order_parameters(operation, marker, account, OrderFunction.MODULE),
            )
        case ChangeService():
            own = (("func", "softexternal.edit"), *_edit_parameters(operation, marker), SUBMIT)
        case SetNodes():
            nodes = (f"addon_{operation.node_code}", str(operation.count))
            own = (("func", "soft.edit"), *_edit_parameters(operation, marker), nodes, SUBMIT)
        case RenewService():
            elid, period = str(operation.elid), str(operation.period_months)
            own = (("func", "service.prolong"), ("elid", elid), ("period", period), SUBMIT)
        case EndService():
            own = (("func", DELETE_FUNCTIONS[operation.kind]), ("elid", str(operation.elid)), SUBMIT)
        case _:
            assert_never(operation)
    return own


def _order_parameters(
    operation: OrderSoftware | OrderPlesk | OrderModule,
    marker: Marker | None,
    account: PanelAccount,
    function: OrderFunction,
) -> Parameters:
    remote_id = marker is not None and function in account.remote_id_functions
    return (
        ("period", str(operation.period_months)),
        ("pricelist", str(operation.pricelist)),
        *((AUTOPROLONG_OFF,) if account.autoprolong_sent else ()),
        *((("remoteid", marker or ""),) if remote_id else ()),
        *ORDER,
    )


def _edit_parameters(operation: ChangeService | SetNodes, marker: Marker | None) -> Parameters:
    return (
        ("elid", str(operation.elid)),
        ("licname", marked_label(operation.label, marker)),
        ("ip", str(operation.address)),
    )
