"""The ISV endpoint's wire form: form bytes -> command, outcome -> answer (docs/protocols/isv-endpoint.md 2 to 5).

Only form, sizes, formats and the order of dates are judged here; whatever needs the license or the catalog is decided
behind the queue. Nothing raises: bytes become a request or `Invalid`.
"""

import re
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal

from gateway.wire.answer import NO_SNIFF, PLAIN_TEXT, Answer, Invalid
from gateway.wire.form import decode_form
from shared.contracts.commands import (
    BodyDigest,
    LicenseCommand,
    LicensingModel,
    PurchaseLicense,
    RenewLicense,
    ReportUsage,
    TerminateLicense,
    UpgradeLicense,
)
from shared.contracts.identifiers import LICENSE_NUMBER

MEDIA_TYPES = frozenset({"application/x-www-form-urlencoded", "application/x-www-formurlencoded"})
"""The second spelling is the vendor's own slip (docs/protocols/isv-endpoint.md 2.1)."""
ACTIONS = "PURCHASE, RENEW, UPGRADE, TERMINATE, GET-INFO"
UNKNOWN_NAME_LENGTH_MAX = 64
BASE64_QUANTUM = 4

SIZES_MAX: Final[Mapping[str, int | None]] = {
    "APS_PROTOCOL_MODEL": 1,
    "APS_ACTION": 30,
    "APS_TEST_MODE": 1,
    "ACTIVATION_DATA": None,
    "PURCHASE_ID": 10,
    "PRODUCT_ID": 30,
    "PURCHASE_DATE": 10,
    "SUBSCRIPTION_DATE": 10,
    "START_DATE": 10,
    "EXPIRY_DATE": 10,
    "EXPIRY_FIELD": 10,
    "PREVIOUS_LICENSE_BODY": None,
    "REG_NAME": 100,
    "APS_TERMINATION_DATE": 10,
}
"""Every field of the protocol and its size in characters after decoding (docs/protocols/isv-endpoint.md 4.1)."""
FREE_TEXT = frozenset({"ACTIVATION_DATA", "REG_NAME", "PREVIOUS_LICENSE_BODY"})
JUDGED_IN_TERMINATION = frozenset({"PURCHASE_ID", "PRODUCT_ID", "APS_TEST_MODE", "APS_TERMINATION_DATE"})
"""Nothing else may hinder a termination (docs/protocols/isv-endpoint.md 4.4, 5.4)."""

_DATE = re.compile(r"([0-9]{2})([/\\])([0-9]{2})\2([0-9]{4})")
_CONTROL = re.compile(r"[\x00-\x1f]")
_CONTROL_IN_FREE_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_PLAIN_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{UNKNOWN_NAME_LENGTH_MAX}}}")
_LINE_BREAKS = str.maketrans({"\r": None, "\n": None, "\t": None, " ": "+"})
_JSON = b"Content-Type: application/json; charset=UTF-8\r\n" + NO_SNIFF
_OCTETS = b"Content-Type: application/octet-stream\r\n" + NO_SNIFF

Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class IsvRequest:
    """A request that could be read."""

    command: LicenseCommand
    unreadable_previous_body: bool
    """A TERMINATE brought a body that is not Base64; nothing may hinder a termination, so it is only logged."""


class _InvalidError(Exception):
    """Leaves a nested check; never leaves this module."""


def read_request(body: bytes, account: str) -> IsvRequest | Invalid:
    """Return what `account` asks for with the form `body`, or why it cannot be read."""
    form = decode_form(body)
    if isinstance(form, Invalid):
        return form
    try:
        fields, unknown = _sort(form)
        action = fields.get("APS_ACTION")
        if action is None:
            return Invalid("APS_ACTION is missing")
        build = _BUILDERS.get(action)
        if build is None:
            return Invalid(f"APS_ACTION is not one of {ACTIONS}")
        for name, value in fields.items():
            if action != "TERMINATE" or name in JUDGED_IN_TERMINATION:
                _check_text(name, value)
        return build(fields, account, unknown)
    except _InvalidError as error:
        return Invalid(str(error))


def _sort(form: list[tuple[str, str]]) -> tuple[Fields, tuple[str, ...]]:
    """Part the fields of the protocol from unknown ones, of which only plain names are kept."""
    fields: Fields = {}
    unknown: list[str] = []
    for name, value in form:
        if name not in SIZES_MAX:
            unknown.append(name if _PLAIN_NAME.fullmatch(name) else "?")
        elif fields.setdefault(name, value) != value:
            raise _InvalidError(f"{name} is given twice with different values")
    if "" in fields.values():
        fields = {name: value for name, value in fields.items() if value}
    return fields, tuple(dict.fromkeys(unknown)) if unknown else ()


def _check_text(name: str, value: str) -> None:
    size_max = SIZES_MAX[name]
    if size_max is not None and len(value) > size_max:
        raise _InvalidError(f"{name} is longer than {size_max} character{'s' if size_max > 1 else ''}")
    if value.isprintable():  # quick, and no control character is printable
        return
    if (_CONTROL_IN_FREE_TEXT if name in FREE_TEXT else _CONTROL).search(value) is not None:
        raise _InvalidError(f"{name} holds a control character")


def _purchase(fields: Fields, account: str, unknown: tuple[str, ...]) -> IsvRequest:
    number, product, model, test = _number(fields), _product(fields), _model(fields), _test_flag(fields)
    expires_on = _day(fields, "EXPIRY_DATE")
    if expires_on is None:
        raise _InvalidError("EXPIRY_DATE is missing")
    start_on, subscription_on, purchase_on = _earlier_days(fields, expires_on)
    command = PurchaseLicense(
        account=account,
        number=number,
        product=product,
        model=model,
        test=test,
        expires_on=expires_on,
        start_on=start_on,
        subscription_on=subscription_on,
        purchase_on=purchase_on,
        activation_data=fields.get("ACTIVATION_DATA"),
        reg_name=fields.get("REG_NAME"),
        unknown_fields=unknown,
    )
    return IsvRequest(command, unreadable_previous_body=False)


def _renew(fields: Fields, account: str, unknown: tuple[str, ...]) -> IsvRequest:
    number, product, model, test = _number(fields), _product(fields), _model(fields), _test_flag(fields)
    expires_on = _day(fields, "EXPIRY_DATE")
    if expires_on is None:
        raise _InvalidError("EXPIRY_DATE is missing")
    start_on, subscription_on, purchase_on = _earlier_days(fields, expires_on)
    command = RenewLicense(
        account=account,
        number=number,
        product=product,
        model=model,
        test=test,
        expires_on=expires_on,
        start_on=start_on,
        subscription_on=subscription_on,
        purchase_on=purchase_on,
        activation_data=fields.get("ACTIVATION_DATA"),
        previous_body=_previous_body(fields),
        reg_name=fields.get("REG_NAME"),
        unknown_fields=unknown,
    )
    return IsvRequest(command, unreadable_previous_body=False)


def _upgrade(fields: Fields, account: str, unknown: tuple[str, ...]) -> IsvRequest:
    number, product, model, test = _number(fields), _product(fields), _model(fields), _test_flag(fields)
    expires_on = _day(fields, "EXPIRY_DATE")
    start_on, subscription_on, purchase_on = _earlier_days(fields, expires_on)
    command = UpgradeLicense(
        account=account,
        number=number,
        product=product,
        model=model,
        test=test,
        expires_on=expires_on,
        start_on=start_on,
        subscription_on=subscription_on,
        purchase_on=purchase_on,
        activation_data=fields.get("ACTIVATION_DATA"),
        previous_body=_previous_body(fields),
        reg_name=fields.get("REG_NAME"),
        unknown_fields=unknown,
    )
    return IsvRequest(command, unreadable_previous_body=False)


def _terminate(fields: Fields, account: str, unknown: tuple[str, ...]) -> IsvRequest:
    number, test, terminated_on = _number(fields), _test_flag(fields), _day(fields, "APS_TERMINATION_DATE")
    try:
        previous_body, unreadable = _previous_body(fields), False
    except _InvalidError:
        previous_body, unreadable = None, True
    command = TerminateLicense(
        account=account,
        number=number,
        product=fields.get("PRODUCT_ID"),
        test=test,
        terminated_on=terminated_on,
        previous_body=previous_body,
        unknown_fields=unknown,
    )
    return IsvRequest(command, unreadable_previous_body=unreadable)


def _report_usage(fields: Fields, account: str, unknown: tuple[str, ...]) -> IsvRequest:
    number, product, test = _number(fields), _product(fields), _test_flag(fields)
    if _model(fields) is not LicensingModel.REPORTING:
        raise _InvalidError("APS_PROTOCOL_MODEL must be 3 for GET-INFO")
    command = ReportUsage(
        account=account,
        number=number,
        product=product,
        test=test,
        reg_name=fields.get("REG_NAME"),
        unknown_fields=unknown,
    )
    return IsvRequest(command, unreadable_previous_body=False)


_BUILDERS: Final[Mapping[str, Callable[[Fields, str, tuple[str, ...]], IsvRequest]]] = {
    "PURCHASE": _purchase,
    "RENEW": _renew,
    "UPGRADE": _upgrade,
    "TERMINATE": _terminate,
    "GET-INFO": _report_usage,
}


def _number(fields: Fields) -> str:
    number = fields.get("PURCHASE_ID")
    if number is None:
        raise _InvalidError("PURCHASE_ID is missing")
    if LICENSE_NUMBER.fullmatch(number) is None:
        raise _InvalidError("PURCHASE_ID is not made of 1 to 10 digits")
    return number


def _product(fields: Fields) -> str:
    product = fields.get("PRODUCT_ID")
    if product is None:
        raise _InvalidError("PRODUCT_ID is missing")
    return product


def _model(fields: Fields) -> LicensingModel:
    match fields.get("APS_PROTOCOL_MODEL"):
        case None | "2":
            return LicensingModel.STANDARD
        case "3":
            return LicensingModel.REPORTING
        case _:
            raise _InvalidError("APS_PROTOCOL_MODEL must be 2 or 3")


def _test_flag(fields: Fields) -> bool | None:
    match fields.get("APS_TEST_MODE"):
        case None:
            return None
        case "Y":
            return True
        case "N":
            return False
        case _:
            raise _InvalidError("APS_TEST_MODE must be Y or N")


def _day(fields: Fields, name: str) -> date | None:
    text = fields.get(name)
    if text is None and name == "EXPIRY_DATE":
        text = fields.get("EXPIRY_FIELD")  # docs/protocols/isv-endpoint.md 4.1: the vendor's other name for it
    if text is None:
        return None
    day = read_day(text)
    if day is None:
        raise _InvalidError(f"{name} is not a date of the form DD/MM/YYYY")
    return day


@lru_cache(maxsize=1024)
def read_day(text: str) -> date | None:
    """Return the calendar day written as `DD/MM/YYYY` or `DD\\MM\\YYYY`, None for everything else."""
    written = _DATE.fullmatch(text)
    if written is None:
        return None
    try:
        return date(int(written[4]), int(written[3]), int(written[1]))
    except ValueError:
        return None


def _earlier_days(fields: Fields, expires_on: date | None) -> tuple[date | None, date | None, date | None]:
    """Return start, subscription and purchase day, after a look at their order (docs/protocols/isv-endpoint.md 4.3)."""
    start_on, subscription_on = _day(fields, "START_DATE"), _day(fields, "SUBSCRIPTION_DATE")
    _check_order("START_DATE", start_on, "SUBSCRIPTION_DATE", subscription_on)
    _check_order("EXPIRY_DATE", expires_on, "START_DATE", start_on)
    _check_order("EXPIRY_DATE", expires_on, "SUBSCRIPTION_DATE", subscription_on)
    return start_on, subscription_on, _day(fields, "PURCHASE_DATE")


def _check_order(later_name: str, later: date | None, earlier_name: str, earlier: date | None) -> None:
    if later is not None and earlier is not None and later < earlier:
        raise _InvalidError(f"{later_name} {_shown(later)} is earlier than {earlier_name} {_shown(earlier)}")


def _shown(day: date) -> str:
    return f"{day.day:02}/{day.month:02}/{day.year:04}"


def _previous_body(fields: Fields) -> BodyDigest | None:
    """Return what is kept of the body that the caller holds (docs/protocols/isv-endpoint.md 4.4)."""
    text = fields.get("PREVIOUS_LICENSE_BODY")
    if text is None:
        return None
    text = text.translate(_LINE_BREAKS)
    letters = text.rstrip("=")
    padding = "=" * (-len(letters) % BASE64_QUANTUM)
    try:
        body = a2b_base64(letters + padding, strict_mode=True)
    except ValueError:
        raise _InvalidError("PREVIOUS_LICENSE_BODY is not Base64") from None
    if len(text) > len(letters) + len(padding):
        raise _InvalidError("PREVIOUS_LICENSE_BODY is not Base64")
    return BodyDigest(sha256=sha256(body).hexdigest(), length_bytes=len(body)) if body else None


def license_body(last_day: bytes, body: bytes) -> Answer | None:
    """Return the 200 with a license body (docs/protocols/isv-endpoint.md 5.1).

    `last_day` is `YYYY-MM-DD`. None when it is no day or the body is empty: such an answer must never be sent.
    """
    head = _license_head(last_day)
    return Answer(200, head, body) if head is not None and body else None


@lru_cache(maxsize=1024)
def _license_head(last_day: bytes) -> bytes | None:
    try:
        noon = datetime.combine(date.fromisoformat(last_day.decode("ascii")), time(12), UTC)
    except ValueError:
        return None
    return b"X-APS-Expiration-Date: " + format_datetime(noon, usegmt=True).encode("ascii") + b"\r\n" + _OCTETS


def usage_report(body: bytes) -> Answer:
    """Return the 200 with a usage report (docs/protocols/isv-endpoint.md 5.5)."""
    return Answer(200, _JSON, body)


TERMINATED = Answer(204, b"", b"")


def termination_note(number: str, outcome: Literal["already_terminated", "tombstone_recorded"]) -> Answer:
    """Return the 200 of a TERMINATE that changed nothing it knew of (docs/protocols/isv-endpoint.md 5.4)."""
    if outcome == "already_terminated":
        text = f"License {number} is terminated."
    else:
        text = f"License {number} is not held here; it is recorded as terminated."
    return Answer(200, PLAIN_TEXT, text.encode("ascii"))
