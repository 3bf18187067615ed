"""The form fields of the five requests, in the order in which KA writes them (docs/protocols/isv-endpoint.md 4.1).

One of the few places where the protocol's own field names may stand.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from urllib.parse import urlencode

Form = tuple[tuple[str, str], ...]
"""Field names and values, decoded, in the order in which they are sent."""

STANDARD = "2"
REPORTING = "3"
ALIKE_FIELDS = frozenset({"APS_ACTION", "APS_PROTOCOL_MODEL", "APS_TEST_MODE", "REG_NAME"})
"""Fields that a reader of many requests need not see again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What KA wants for one license; absent members leave their field out."""

    number: str
    product: str
    model: str | None = STANDARD
    test: bool | None = False
    """None leaves the flag out, which means a real order."""
    purchase_on: date | None = None
    subscription_on: date | None = None
    start_on: date | None = None
    expires_on: date | None = None
    activation_data: str | None = None
    previous_body: bytes | None = None
    reg_name: str | None = "60321"


def operation_form(action: str, order: Order) -> Form:
    """Return the fields of a PURCHASE, RENEW or UPGRADE."""
    return _present(
        ("APS_PROTOCOL_MODEL", order.model),
        ("APS_ACTION", action),
        ("APS_TEST_MODE", _flag(test=order.test)),
        ("PURCHASE_ID", order.number),
        ("PRODUCT_ID", order.product),
        ("PURCHASE_DATE", _written(order.purchase_on)),
        ("SUBSCRIPTION_DATE", _written(order.subscription_on)),
        ("START_DATE", _written(order.start_on)),
        ("EXPIRY_DATE", _written(order.expires_on)),
        ("PREVIOUS_LICENSE_BODY", _encoded(order.previous_body)),
        ("REG_NAME", order.reg_name),
        ("ACTIVATION_DATA", order.activation_data),
    )


def termination_form(order: Order, terminated_on: date | None) -> Form:
    """Return the fields of a TERMINATE: no model, no owner (isv-endpoint 5.4)."""
    return _present(
        ("APS_ACTION", "TERMINATE"),
        ("APS_TEST_MODE", _flag(test=order.test)),
        ("PURCHASE_ID", order.number),
        ("PRODUCT_ID", order.product),
        ("APS_TERMINATION_DATE", _written(terminated_on)),
        ("PREVIOUS_LICENSE_BODY", _encoded(order.previous_body)),
    )


def info_form(order: Order) -> Form:
    """Return the fields of a GET-INFO: the model is always 3 (isv-endpoint 5.5)."""
    return _present(
        ("APS_PROTOCOL_MODEL", REPORTING),
        ("APS_ACTION", "GET-INFO"),
        ("APS_TEST_MODE", _flag(test=order.test)),
        ("PURCHASE_ID", order.number),
        ("PRODUCT_ID", order.product),
        ("REG_NAME", order.reg_name),
    )


def action_of(form: Form) -> str:
    """Return the operation that `form` asks for, empty when it names none."""
    return dict(form).get("APS_ACTION", "")


def number_of(form: Form) -> str:
    """Return the license number that `form` names, empty when it names none."""
    return dict(form).get("PURCHASE_ID", "")


def encode(form: Form) -> bytes:
    """Return `form` as an `application/x-www-form-urlencoded` body."""
    return urlencode(form).encode("ascii")


def _present(*fields: tuple[str, str | None]) -> Form:
    return tuple(_given(fields))


def _given(fields: Iterable[tuple[str, str | None]]) -> Iterable[tuple[str, str]]:
    for name, value in fields:
        if value is not None:
            yield name, value


def _flag(*, test: bool | None) -> str | None:
    return None if test is None else "Y" if test else "N"


def _written(day: date | None) -> str | None:
    return None if day is None else f"{day.day:02}/{day.month:02}/{day.year:04}"


def _encoded(body: bytes | None) -> str | None:
    return None if body is None else base64.b64encode(body).decode("ascii")
