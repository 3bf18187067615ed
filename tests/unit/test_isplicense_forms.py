"""Outgoing forms against the operation table: the seed's `func` and parameters, the allowed additions, nothing else."""

from datetime import date
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

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
    marker_of,
)
from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.forms import (
    UnfitOperationError,
    blank_filter_parameters,
    form_parameters,
    list_parameters,
    parameters_of,
)

ACCOUNT = PanelAccount(base_url="https://panel.example", user="reseller", password=SecretStr("pw"))
HOST = ip_address("203.0.113.10")
MARKER = marker_of(b"key", UUID(int=1), 1)
LABEL = f"web-01 {MARKER}"
SOFTWARE, PLESK, MODULE = (
    ProviderOffer(order_function=function, pricelist=pricelist, node_code=550)
    for function, pricelist in zip(OrderFunction, (546, 264, 356), strict=True)
)
FIXED = {"out": "xml", "lang": "en"}
ORDER = {"clicked_button": "finish", "sok": "ok", "skipbasket": "on", "autoprolong": "null"}

TABLE: list[tuple[ProviderOperation, ProviderOffer | None, dict[str, str]]] = [
    (
        OrderSoftware(pricelist=546, address=HOST, label="web-01", period_months=1),
        SOFTWARE,
        {
            "func": "softexternal.order.param",
            "ip": "203.0.113.10",
            "licname": LABEL,
            "period": "1",
            "pricelist": "546",
            **ORDER,
        },
    ),
    (
        OrderPlesk(pricelist=264, address=HOST, period_months=12),
        PLESK,
        {
            "func": "parallelslic.order.param",
            "pa_ip": "203.0.113.10",
            "period": "12",
            "pricelist": "264",
            "remoteid": MARKER,
            **ORDER,
        },
    ),
    (
        OrderModule(pricelist=356, parent=Elid(40117), period_months=1),
        MODULE,
        {
            "func": "addition.order.param",
            "period": "1",
            "pricelist": "356",
            "item": "40117",
            "remoteid": MARKER,
            **ORDER,
        },
    ),
    (
        ChangeService(elid=Elid(40117), label="web-01", address=HOST),
        None,
        {"func": "softexternal.edit", "elid": "40117", "licname": LABEL, "ip": "203.0.113.10", "sok": "ok"},
    ),
    (
        SetNodes(elid=Elid(40200), label="web-01", address=HOST, node_code=550, count=3),
        SOFTWARE,
        {
            "func": "soft.edit",
            "elid": "40200",
            "licname": LABEL,
            "ip": "203.0.113.10",
            "addon_550": "3",
            "sok": "ok",
        },
    ),
    (
        RenewService(elid=Elid(40117), period_months=1, expires_before=date(2025, 12, 22)),
        SOFTWARE,
        {"func": "service.prolong", "elid": "40117", "period": "1", "sok": "ok"},
    ),
    (EndService(elid=Elid(40117)), None, {"func": "softexternal.delete", "elid": "40117", "sok": "ok"}),
]


@pytest.mark.parametrize(("operation", "offer", "expected"), TABLE, ids=lambda value: type(value).__name__)
def test_operation_leaves_with_the_parameters_of_the_table(
    operation: ProviderOperation, offer: ProviderOffer | None, expected: dict[str, str]
) -> None:
    parameters = parameters_of(operation, offer=offer, marker=MARKER, account=ACCOUNT)

    assert len(dict(parameters)) == len(parameters), "no name twice"
    assert dict(parameters) == {**FIXED, **expected}


@given(label=st.text(max_size=300))
def test_decoded_form_is_the_intended_one_whatever_the_label(label: str) -> None:
    operation = OrderSoftware(pricelist=546, address=HOST, label=label, period_months=1)

    parameters = parameters_of(operation, offer=SOFTWARE, marker=MARKER, account=ACCOUNT)
    decoded = parse_qsl(urlencode(parameters), keep_blank_values=True, strict_parsing=True)

    assert decoded == [(name, str(value)) for name, value in parameters]
    changed = {name for name, value in decoded if {**FIXED, **TABLE[0][2]}[name] != value}
    assert changed <= {"licname"}


@pytest.mark.parametrize(
    "label", ["x&func=payment.add&sok=ok", "x\r\nHost: evil", "authinfo=a:b", "a;b", "su=admin", "%26elid%3D1"]
)
def test_hostile_label_stays_inside_its_value(label: str) -> None:
    operation = ChangeService(elid=Elid(1), label=label, address=HOST)

    parameters = parameters_of(operation, offer=None, marker=None, account=ACCOUNT)

    names = [name for name, _ in parse_qsl(urlencode(parameters), keep_blank_values=True)]
    assert names == ["out", "lang", "func", "elid", "licname", "ip", "sok"]


def test_additions_can_be_switched_off() -> None:
    bare = PanelAccount(
        base_url="https://panel.example",
        user="reseller",
        password=SecretStr("pw"),
        remote_id_functions=frozenset(),
        autoprolong_sent=False,
        module_requires_item=False,
    )
    operation = OrderModule(pricelist=356, parent=None, period_months=1)

    names = {name for name, _ in parameters_of(operation, offer=MODULE, marker=MARKER, account=bare)}

    assert names == {"out", "lang", "func", "clicked_button", "period", "pricelist", "sok", "skipbasket"}


def test_software_order_carries_a_remote_id_only_where_enabled() -> None:
    account = PanelAccount(
        base_url="https://panel.example",
        user="reseller",
        password=SecretStr("pw"),
        remote_id_functions=frozenset({OrderFunction.SOFTWARE}),
    )

    parameters = parameters_of(TABLE[0][0], offer=SOFTWARE, marker=MARKER, account=account)

    assert ("remoteid", MARKER) in parameters


@pytest.mark.parametrize("kind", ServiceKind)
def test_delete_function_follows_the_kind_where_the_account_allows_it(kind: ServiceKind) -> None:
    generous = PanelAccount(
        base_url="https://panel.example",
        user="reseller",
        password=SecretStr("pw"),
        delete_kinds=frozenset(ServiceKind),
    )
    expected = {
        ServiceKind.SOFTWARE: "softexternal.delete",
        ServiceKind.ISPSYSTEM: "softexternal.delete",
        ServiceKind.PLESK: "parallelslic.delete",
        ServiceKind.MODULE: "addition.delete",
    }

    parameters = parameters_of(EndService(elid=Elid(1), kind=kind), offer=None, marker=None, account=generous)

    assert ("func", expected[kind]) in parameters


@pytest.mark.parametrize(
    ("operation", "offer", "marker", "word"),
    [
        (TABLE[0][0], SOFTWARE, None, "marker"),
        (TABLE[0][0], PLESK, MARKER, "order function"),
        (OrderModule(pricelist=356, parent=None, period_months=1), MODULE, MARKER, "item"),
        (EndService(elid=Elid(1), kind=ServiceKind.PLESK), None, None, "parallelslic.delete"),
        (EndService(elid=Elid(1), kind=ServiceKind.MODULE), None, None, "addition.delete"),
    ],
)
def test_unfit_operation_makes_no_form(
    operation: ProviderOperation, offer: ProviderOffer | None, marker: Marker | None, word: str
) -> None:
    with pytest.raises(UnfitOperationError, match=word):
        parameters_of(operation, offer=offer, marker=marker, account=ACCOUNT)


def test_reads_submit_nothing_and_order_nothing() -> None:
    for parameters in (list_parameters("softexternal", page=2, rows=500), form_parameters(ServiceKind.PLESK, Elid(7))):
        assert {"sok", "clicked_button", "skipbasket"}.isdisjoint(name for name, _ in parameters)
    assert dict(list_parameters("softexternal", page=2, rows=500)) == {
        **FIXED,
        "func": "softexternal",
        "p_cnt": "500",
        "p_num": "2",
    }
    assert dict(form_parameters(ServiceKind.PLESK, Elid(7))) == {**FIXED, "func": "parallelslic.edit", "elid": "7"}


def test_blank_filter_blanks_its_fields_and_leaves_the_format_out() -> None:
    parameters = dict(blank_filter_parameters(ServiceKind.SOFTWARE))

    assert parameters.pop("func") == "softexternal.filter"
    assert parameters.pop("sok") == "ok"
    assert parameters.pop("lang") == "en"
    assert "out" not in parameters
    assert set(parameters.values()) == {""}
