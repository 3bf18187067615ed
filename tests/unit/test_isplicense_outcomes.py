"""The classification table row by row: which answer is which outcome (docs/protocols/isplicense.md 9.2, 12)."""

import hashlib
from dataclasses import replace
from datetime import date
from ipaddress import ip_address

import pytest
from pydantic import SecretStr

from shared.domain.provider_operation import (
    ChangeService,
    Elid,
    EndService,
    OrderModule,
    OrderPlesk,
    OrderSoftware,
    ProviderOperation,
    RenewService,
    SetNodes,
)
from shared.domain.provider_outcome import (
    Accepted,
    Confirmed,
    NotSent,
    PaymentRequired,
    Refusal,
    Refused,
    SendOutcome,
    SeveralIds,
    Unknown,
)
from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.classification import Classifier
from workers.provider.isplicense.redaction import Redactor
from workers.provider.isplicense.transport import Broken, Received
from workers.provider.isplicense.xml_reading import parse

HOST = ip_address("203.0.113.10")
ACCOUNT = PanelAccount(base_url="https://panel.example", user="reseller", password=SecretStr("canary-password"))
ORDER = OrderSoftware(pricelist=546, address=HOST, label="web-01", period_months=1)
PLESK = OrderPlesk(pricelist=264, address=HOST, period_months=1)
MODULE = OrderModule(pricelist=356, parent=Elid(1), period_months=1)
RENEW = RenewService(elid=Elid(40117), period_months=1, expires_before=date(2025, 12, 22))
NODES = SetNodes(elid=Elid(40200), label="c", address=HOST, node_code=550, count=3)
CHANGE = ChangeService(elid=Elid(40117), label="web-02", address=HOST)
END = EndService(elid=Elid(40117))
ORDERS = (ORDER, PLESK, MODULE)
MONEY = (*ORDERS, NODES, RENEW)
ALL = (*MONEY, CHANGE, END)

FORM = "<ip/><licname/><period>1</period><slist name='autoprolong'><val key='null'>off</val></slist>"
PAY_URL = "https://panel.example/manager/billmgr?func=payment.add&amp;billorder=8801"


def classifier(account: PanelAccount = ACCOUNT) -> Classifier:
    return Classifier(account=account, redactor=Redactor((account.authinfo, account.password)))


def received(body: bytes, status: int = 200) -> Received:
    return Received(status=status, body=body, sha256=hashlib.sha256(body).hexdigest())


def outcome_of(inner: str, operation: ProviderOperation = ORDER, account: PanelAccount = ACCOUNT) -> SendOutcome:
    body = f"<doc>{inner}</doc>".encode()
    return classifier(account).document(operation, parse(body), received(body))


def shown(outcome: SendOutcome) -> tuple[type[SendOutcome], int]:
    return type(outcome), outcome.evidence.row


def test_nothing_sent_is_row_1_and_anything_after_the_first_byte_row_2() -> None:
    not_sent = classifier().broken(Broken(detail="ClientConnectorError, errno 111", maybe_sent=False))
    lost = classifier().broken(Broken(detail="ServerDisconnectedError", maybe_sent=True))

    assert shown(not_sent) == (NotSent, 1)
    assert shown(lost) == (Unknown, 2)


@pytest.mark.parametrize("body", [b"", b"<doc><id>1</id><ok/></doc>", b"<html></html>"])
@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (401, Refusal.ACCESS_DENIED),
        (403, Refusal.HELD_OFF),
        (404, Refusal.REJECTED),
        (405, Refusal.REJECTED),
        (413, Refusal.REJECTED),
        (429, Refusal.HELD_OFF),
    ],
)
def test_front_server_says_no_before_the_panel(status: int, refusal: Refusal, body: bytes) -> None:
    outcome = classifier().status(received(body, status))

    assert isinstance(outcome, Refused)
    assert (outcome.refusal, outcome.evidence.row, outcome.evidence.http_status) == (refusal, 3, status)
    careful = replace(ACCOUNT, front_refusals_unknown=True)
    assert shown(classifier(careful).status(received(body, status))) == (Unknown, 3)


@pytest.mark.parametrize(
    "status", [201, 202, 204, 206, 301, 302, 307, 308, 400, 408, 418, 500, 502, 503, 504, 599, 999]
)
def test_any_other_status_is_unknown(status: int) -> None:
    assert shown(classifier().status(received(b"<doc><id>1</id><ok/></doc>", status))) == (Unknown, 4)


@pytest.mark.parametrize("row", [5, 6])
def test_unreadable_answer_is_unknown(row: int) -> None:
    assert shown(classifier().unreadable(received(b"<html>"), "the root is not doc", row=row)) == (Unknown, row)


DEFINITE = {
    "auth": Refusal.AUTH_FAILED,
    "access": Refusal.ACCESS_DENIED,
    "value": Refusal.INVALID_VALUE,
    "exists": Refusal.DUPLICATE,
    "extraconfirm": Refusal.TWO_FACTOR_REQUIRED,
    "captcha_verification_failed": Refusal.CAPTCHA,
    "pricelist_min_order": Refusal.TERM_LOCKED,
    "wizard_unavailable": Refusal.INVALID_VALUE,
    "min_email_send_timeout": Refusal.REJECTED,
    "license": Refusal.REJECTED,
    "sandbox_no_money": Refusal.REJECTED,
    "anything else": Refusal.REJECTED,
}


@pytest.mark.parametrize("operation", ALL, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(("kind", "refusal"), DEFINITE.items())
def test_definite_error_is_a_refusal(kind: str, refusal: Refusal, operation: ProviderOperation) -> None:
    outcome = outcome_of(f"<error type='{kind}' object='ip'><msg>no</msg></error>", operation)

    assert isinstance(outcome, Refused)
    assert (outcome.refusal, outcome.subject, outcome.evidence.row) == (refusal, "ip", 7)


@pytest.mark.parametrize("operation", ALL, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("kind", ["xml", "db", "sql", "internal", "timeout", "lock", "connection", "", " "])
def test_ambiguous_error_is_unknown(kind: str, operation: ProviderOperation) -> None:
    assert shown(outcome_of(f"<error type='{kind}' object='xpath'/>", operation)) == (Unknown, 8)


def test_error_without_a_type_is_unknown_but_old_codes_and_authfail_are_known() -> None:
    assert shown(outcome_of("<error>boom</error>")) == (Unknown, 8)
    assert shown(outcome_of("<error code='9'/>")) == (Unknown, 8)
    refusals = [outcome_of(inner) for inner in ("<error code='2'/>", "<error code='3'/>", "<authfail/>")]
    assert [each.refusal for each in refusals if isinstance(each, Refused)] == [
        Refusal.DUPLICATE,
        Refusal.NOT_FOUND,
        Refusal.AUTH_FAILED,
    ]


def test_error_comes_before_an_id_and_counts_in_a_sub_step_too() -> None:
    assert shown(outcome_of("<id>40117</id><ok/><error type='value' object='ip'/>")) == (Refused, 7)
    assert shown(outcome_of("<doc><error type='value' object='ip'/></doc><id>40117</id><ok/>")) == (Refused, 7)


def test_operators_decide_which_types_mean_money_and_which_are_ambiguous() -> None:
    account = replace(
        ACCOUNT, money_error_types=frozenset({"no_money"}), ambiguous_error_types=frozenset({"", "license"})
    )

    assert shown(outcome_of("<error type='no_money'/>", account=account)) == (PaymentRequired, 7)
    assert shown(outcome_of("<error type='license'/>", account=account)) == (Unknown, 8)
    fault = outcome_of("<error type='xml'/>", account=account)
    assert isinstance(fault, Refused)
    assert fault.refusal is Refusal.UPSTREAM_FAULT


@pytest.mark.parametrize(
    "inner",
    [
        f"<id>40130</id><billorder>8801</billorder><payment_id>5502</payment_id><ok>{PAY_URL}</ok>",
        "<billorder>8801</billorder>",
        "<payment_id>5502</payment_id><ok/>",
        f"<ok>{PAY_URL}</ok>",
        "<id>1</id><ok>func=payment.add&amp;billorder=1</ok>",
        "<ok>func=basket</ok>",
        "<ok>func=cart.pay</ok>",
        "<ok>/manager/billmgr?startpage=1&amp;func=basket</ok>",
    ],
)
def test_parked_order_is_not_carried_out(inner: str) -> None:
    outcome = outcome_of(inner)

    assert shown(outcome) == (PaymentRequired, 9)


def test_ids_of_a_parked_order_are_kept_for_people() -> None:
    outcome = outcome_of("<id>40130</id><billorder>8801</billorder><payment_id>5502</payment_id><ok/>")

    assert isinstance(outcome, PaymentRequired)
    assert set(outcome.ids) == {"id=40130", "billorder=8801", "payment_id=5502"}


@pytest.mark.parametrize("ok", ["func=totp.confirm", "func=auth", "func=auth.form"])
def test_second_factor_is_a_refusal(ok: str) -> None:
    outcome = outcome_of(f"<ok>{ok}</ok>")

    assert isinstance(outcome, Refused)
    assert (outcome.refusal, outcome.evidence.row) == (Refusal.TWO_FACTOR_REQUIRED, 10)


@pytest.mark.parametrize("operation", ORDERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "inner", ["<id>40117</id><ok/>", "<id>40117</id>", "<id>40117</id><id> 40117 </id><ok/>", "<ok/><id>40117</id>"]
)
def test_one_distinct_id_confirms_an_order(inner: str, operation: ProviderOperation) -> None:
    outcome = outcome_of(inner, operation)

    assert isinstance(outcome, Confirmed)
    assert (outcome.elid, outcome.evidence.row) == (40117, 11)


@pytest.mark.parametrize(("inner", "elids"), [("<id>1</id><id>2</id>", (1, 2)), ("<id>7</id><id>x</id><ok/>", (7,))])
def test_several_ids_are_all_quarantined(inner: str, elids: tuple[int, ...]) -> None:
    outcome = outcome_of(inner)

    assert isinstance(outcome, SeveralIds)
    assert (outcome.elids, outcome.evidence.row) == (elids, 12)


@pytest.mark.parametrize("operation", ORDERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("inner", ["<ok/>", "<ok></ok><id/>", "<ok>done</ok>", "<ok/><tparams><id>5</id></tparams>"])
def test_ok_without_an_id_is_accepted(inner: str, operation: ProviderOperation) -> None:
    assert shown(outcome_of(inner, operation)) == (Accepted, 13)


@pytest.mark.parametrize("text", ["0", "-5", "12abc", "9" * 30, "1, 2"])
def test_unusable_id_is_never_confirmed_nor_refused(text: str) -> None:
    assert shown(outcome_of(f"<id>{text}</id>")) == (Unknown, 15)
    assert shown(outcome_of(f"<id>{text}</id><ok/>")) == (Accepted, 15)


@pytest.mark.parametrize("operation", ALL, ids=lambda value: type(value).__name__)
def test_form_that_comes_back_is_a_protocol_refusal(operation: ProviderOperation) -> None:
    outcome = outcome_of(FORM, operation)

    assert isinstance(outcome, Refused)
    assert (outcome.refusal, outcome.evidence.row) == (Refusal.PROTOCOL, 14)


@pytest.mark.parametrize("operation", ALL, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("inner", ["", "<banner>x</banner>", "<warning>x</warning>", "<elem><id>1</id></elem>"])
def test_anything_else_is_unknown(inner: str, operation: ProviderOperation) -> None:
    assert shown(outcome_of(inner, operation)) == (Unknown, 15)


@pytest.mark.parametrize("operation", [NODES, CHANGE, END], ids=lambda value: type(value).__name__)
def test_known_service_needs_an_ok_and_no_other_id(operation: SetNodes | ChangeService | EndService) -> None:
    elid = operation.elid

    confirmed = [outcome_of(inner, operation) for inner in ("<ok/>", f"<id>{elid}</id><ok/>")]
    assert [each.elid for each in confirmed if isinstance(each, Confirmed)] == [elid, elid]
    assert shown(outcome_of("<id>99</id><ok/>", operation)) == (Accepted, 15)
    assert shown(outcome_of(f"<id>{elid}</id>{FORM}", operation)) == (Unknown, 15)


@pytest.mark.parametrize(
    "inner",
    [
        "<doc><expiredate>2025-12-22</expiredate><newexpiredate>2026-01-22</newexpiredate></doc><ok/>",
        "<newexpiredate>2026-01-22</newexpiredate><ok/>",
    ],
)
def test_renewal_is_confirmed_by_its_later_last_day(inner: str) -> None:
    outcome = outcome_of(inner, RENEW)

    assert isinstance(outcome, Confirmed)
    assert (outcome.elid, outcome.expires_on, outcome.evidence.notes) == (40117, date(2026, 1, 22), ())


@pytest.mark.parametrize(
    "text", ["0000-00-00", "2026-02-30", "22.01.2026", "in a month", "2025-12-22", "2025-12-01", "2026-1-22", ""]
)
def test_renewal_with_an_odd_day_stays_unknown_and_is_read_back(text: str) -> None:
    outcome = outcome_of(f"<doc><newexpiredate>{text}</newexpiredate></doc><ok/>", RENEW)

    assert shown(outcome) == (Accepted, 13)
    assert bool(outcome.evidence.notes) is bool(text)


def test_renewal_by_another_length_than_its_period_is_flagged() -> None:
    outcome = outcome_of("<newexpiredate>2026-03-22</newexpiredate><ok/>", RENEW)

    assert isinstance(outcome, Confirmed)
    assert outcome.evidence.notes == ("the last day moved by something else than the period",)


def test_day_shown_without_an_ok_is_no_renewal() -> None:
    shown_only = "<doc><newexpiredate>2026-01-22</newexpiredate></doc>"

    assert shown(outcome_of(shown_only, RENEW)) == (Unknown, 15)
    assert shown(outcome_of(shown_only + "<period>1</period>", RENEW)) == (Refused, 14)


def test_deleting_what_is_gone_is_done_but_a_missing_function_is_not() -> None:
    gone = outcome_of("<error type='missed' object='elid'><param name='value'>40117</param></error>", END)
    no_function = outcome_of("<error type='missed' object='func'/>", END)

    assert isinstance(gone, Confirmed)
    assert isinstance(no_function, Refused)
    assert no_function.refusal is Refusal.NOT_FOUND


@pytest.mark.parametrize("operation", [*MONEY, CHANGE], ids=lambda value: type(value).__name__)
def test_missing_service_is_not_done_for_anything_but_a_delete(operation: ProviderOperation) -> None:
    outcome = outcome_of("<error type='missed' object='elid'/>", operation)

    assert isinstance(outcome, Refused)
    assert outcome.refusal is Refusal.NOT_FOUND


def test_evidence_holds_the_hash_and_a_masked_excerpt() -> None:
    body = b"<doc><error type='value' object='canary-password'><msg>bad canary-password</msg></error></doc>"
    outcome = classifier().document(ORDER, parse(body), received(body))

    assert outcome.evidence.body_sha256 == hashlib.sha256(body).hexdigest()
    assert "error type" in outcome.evidence.excerpt
    assert "canary" not in repr(outcome)
