"""Orders O1-O3: validate, charge, create; or the form, the cart, the unpaid row.

Rules: docs/protocols/isplicense.md 5, 8, 13.3.

No order is recognized as a repeat of an earlier one: neither `remoteid` nor `licname` nor the address is looked at.
"""

import base64
import hashlib
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address

from keyway.sandbox.call import Call, Draft, PanelError, bad_value, no_item
from keyway.sandbox.catalog import LIFETIME, PRODUCTS, Kind, Product, months_later
from keyway.sandbox.document import Element
from keyway.sandbox.rows import CartItem, Payment, Service
from keyway.sandbox.status import Status, status_of, with_activation
from keyway.sandbox.texts import Text

LICNAME_LENGTH_MAX = 255
NEW_PAYMENT = 1
_KEY_GROUPS = 3
_KEY_GROUP_LENGTH = 4


def order(call: Call, draft: Draft, kind: Kind) -> tuple[Element, ...]:
    """Answer `<kind>.order.param`. Checks come in the order that the protocol page lists them."""
    product = _product(call, kind)
    if not call.is_submit:
        return _form(call, product)
    period = checked_period(call, product)
    address = checked_address(call, address_field(kind), required=kind is not Kind.ADDITION)
    licname = checked_licname(call, required=kind is Kind.SOFTEXTERNAL)
    item = _item(call, draft) if kind is Kind.ADDITION else None
    if call.value("clicked_button") != "finish":
        return _form(call, product)
    if draft.state.profile.unique_ip and address and _address_taken(call, draft, product, address):
        raise PanelError("exists", "ip", Text.EXISTS, value=address)
    price = product.price(period)
    if call.value("skipbasket") != "on":
        return _into_cart(call, draft, product, period)
    service = Service(
        id=draft.service_id(),
        user=call.user,
        kind=kind,
        pricelist=product.code,
        period=period,
        created_at=call.now,
        licname=licname,
        remoteid=call.value("remoteid"),
        ip=address,
        item=item,
        autoprolong=call.value("autoprolong") or draft.state.profile.autoprolong_default,
        expires_on=None if period == LIFETIME else months_later(call.today, period),
    )
    if not draft.can_pay(call, price):
        return _without_money(call, draft, service, price)
    return _create(call, draft, service, price)


def check_address(call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer `soft.checkip`: whether this address could get that tariff."""
    product = PRODUCTS.get(_number(call.value("pricelist")))
    if product is None:
        raise bad_value("pricelist", call.value("pricelist"))
    if call.value("period"):
        checked_period(call, product)
    address = checked_address(call, "ip", required=True)
    if _address_taken(call, draft, product, address):
        raise PanelError("exists", "ip", Text.EXISTS, value=address)
    return (Element("ok"),)


def address_field(kind: Kind) -> str:
    """Return the name of the address parameter of a product type."""
    return "pa_ip" if kind is Kind.PARALLELSLIC else "ip"


def checked_period(call: Call, product: Product) -> int:
    """Return the period asked for. Raises `PanelError` unless the product is sold for it."""
    try:
        period = int(call.value("period"))
    except ValueError:
        raise bad_value("period", call.value("period")) from None
    if period not in product.periods:
        raise bad_value("period", call.value("period"))
    return period


def checked_address(call: Call, name: str, *, required: bool) -> str:
    """Return the address in parameter `name`, empty if missing. Raises `PanelError` for anything but an IP address."""
    given = call.value(name)
    if not given and not required:
        return ""
    try:
        return str(ip_address(given))
    except ValueError:
        raise bad_value(name, given) from None


def checked_licname(call: Call, *, required: bool) -> str:
    """Return the label. Raises `PanelError` when it is too long, or empty although required."""
    given = call.value("licname")
    if len(given) > LICNAME_LENGTH_MAX or (required and not given):
        raise bad_value("licname", given)
    return given


def make_key(seed: str, service_id: int, key_number: int) -> str:
    """Return a license key: it begins with the service id (7.4), the rest follows from the seed."""
    digest = hashlib.sha256(f"{seed}:key:{service_id}:{key_number}".encode()).digest()
    letters = base64.b32encode(digest).decode()
    groups = [letters[index * _KEY_GROUP_LENGTH :][:_KEY_GROUP_LENGTH] for index in range(_KEY_GROUPS)]
    return "-".join([str(service_id), *groups])


def park_for_payment(call: Call, draft: Draft, amount: int) -> tuple[Element, ...]:
    """Return the elements of an answer that asks for payment (12, example 14), with its bill and payment rows."""
    bill_id, payment_id = draft.bill_id(), draft.payment_id()
    draft.put(Payment(id=payment_id, user=call.user, created_at=call.now, status=NEW_PAYMENT, amount=amount))
    draft.effects.append(f"bill {bill_id}")
    return (
        Element("billorder", str(bill_id)),
        Element("payment_id", str(payment_id)),
        Element("ok", f"{call.url}?func=payment.add&billorder={bill_id}"),
    )


def refuses_money(call: Call, draft: Draft) -> PanelError | None:
    """Return the error of money mode `error_money` (12, example 15), None where the panel asks for payment instead."""
    mode = call.mischief.money_mode or draft.state.profile.money_mode
    return PanelError("sandbox_no_money", "balance", Text.NO_MONEY) if mode == "error_money" else None


def _create(call: Call, draft: Draft, service: Service, price: int) -> tuple[Element, ...]:
    profile = draft.state.profile
    created = replace(
        with_activation(service, profile.activation, call.now),
        key=make_key(draft.world.seed, service.id, service.key_number),
        min_term_until=call.today + timedelta(days=profile.min_term_days) if profile.min_term_days else None,
    )
    draft.put_service(created, "created")
    draft.charge(call, price, "order", created, period=created.period)
    return (Element("id", str(created.id)), Element("ok")) if profile.answer_id else (Element("ok"),)


def _without_money(call: Call, draft: Draft, service: Service, price: int) -> tuple[Element, ...]:
    refusal = refuses_money(call, draft)
    if refusal is not None:
        raise refusal
    draft.put_service(replace(service, paid=False), "unpaid")
    return (Element("id", str(service.id)), *park_for_payment(call, draft, price))


def _into_cart(call: Call, draft: Draft, product: Product, period: int) -> tuple[Element, ...]:
    bill_id = draft.bill_id()
    draft.put(
        CartItem(
            id=bill_id,
            user=call.user,
            bill_id=bill_id,
            func=call.func,
            pricelist=product.code,
            period=period,
            amount=product.price(period),
            created_at=call.now,
        )
    )
    draft.effects.append(f"cart {bill_id}")
    return (Element("billorder", str(bill_id)), Element("ok", "func=basket"))


def _product(call: Call, kind: Kind) -> Product:
    given = call.value("pricelist")
    if not given:
        raise PanelError("wizard_unavailable", "", Text.WIZARD)
    product = PRODUCTS.get(_number(given))
    if product is None or product.kind is not kind:
        raise bad_value("pricelist", given)
    return product


def _item(call: Call, draft: Draft) -> int | None:
    given = call.value("item")
    if not given:
        if draft.state.profile.module_requires_item:
            raise bad_value("item", given)
        return None
    parent = draft.state.services.get(_number(given))
    if parent is None or parent.user != call.user or status_of(parent, call.now) is Status.DELETED:
        raise no_item("item", given)
    return parent.id


def _address_taken(call: Call, draft: Draft, product: Product, address: str) -> bool:
    return any(
        service.pricelist == product.code and service.ip == address and status_of(service, call.now) != Status.DELETED
        for service in draft.state.services.values()
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _ID_DIGITS_MAX else 0


_ID_DIGITS_MAX = 19


def _form(call: Call, product: Product) -> tuple[Element, ...]:
    """Return the order form (12, example 19): what was given, echoed, and the choices."""
    choices = [Element("val", "disabled", (("key", "null"),))]
    choices += [Element("val", f"{period} mo", (("key", str(period)),)) for period in product.periods if period]
    fields = [address_field(product.kind), "licname"]
    if product.kind is Kind.ADDITION:
        fields.append("item")
    return (
        *(Element(name, call.value(name)) for name in fields),
        Element("period", call.value("period") or str(product.periods[0])),
        Element("pricelist", str(product.code)),
        Element("slist", attributes=(("name", "autoprolong"),), children=tuple(choices)),
    )
