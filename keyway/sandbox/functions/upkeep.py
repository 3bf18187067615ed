"""Edits, nodes, renewal, deletion, suspension of services that exist (docs/protocols/isplicense.md 5, 13.3)."""

from dataclasses import replace

from keyway.sandbox.call import Call, Draft, PanelError, bad_value, no_item
from keyway.sandbox.catalog import PRODUCTS, Kind, Product, months_later
from keyway.sandbox.document import Element
from keyway.sandbox.functions.orders import (
    address_field,
    checked_address,
    checked_licname,
    checked_period,
    make_key,
    park_for_payment,
    refuses_money,
)
from keyway.sandbox.functions.views import shown_expiry
from keyway.sandbox.rows import Service
from keyway.sandbox.status import Status, key_of, status_of
from keyway.sandbox.texts import Text

NODES_MAX = 10_000
ELIDS_MAX = 1000
_ID_DIGITS_MAX = 18


def edit(call: Call, draft: Draft, kind: Kind) -> tuple[Element, ...]:
    """Answer `<kind>.edit`: the form without `sok`; with it new values, a new key, or more nodes for money."""
    service = _one(call, draft, kind)
    product = PRODUCTS[service.pricelist]
    if not call.is_submit:
        return _form(call, service, product)
    if call.value("clicked_button") == "newkey":
        return _new_key(call, draft, service)
    changed = _with_given_values(call, service)
    wanted = _wanted_nodes(call, service, product)
    changed = replace(changed, node_count=wanted)
    price = product.node_price(service.period) * (wanted - service.node_count)
    if price and not draft.can_pay(call, price):
        refusal = refuses_money(call, draft)
        if refusal is not None:
            raise refusal
        return park_for_payment(call, draft, price)
    draft.put_service(changed, "edited")
    if price:
        draft.charge(call, price, "nodes", changed, period=service.period)
    return (Element("id", str(service.id)), Element("ok")) if call.func == "soft.edit" else (Element("ok"),)


def prolong(call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer `service.prolong`: an active service renews from its end, a suspended one from today (12, example 9)."""
    service = _one(call, draft, None)
    if not call.is_submit:
        return (Element("elid", str(service.id)), Element("expiredate", _day(service)), Element("period", "1"))
    status = status_of(service, call.now)
    if status not in {Status.ACTIVE, Status.SUSPENDED}:
        raise bad_value("elid", str(service.id))
    if service.expires_on is None or call.value("period") == "0":
        raise bad_value("period", call.value("period"))
    product = PRODUCTS[service.pricelist]
    period = checked_period(call, product)
    price = product.price(period) + product.node_price(period) * service.node_count
    if not draft.can_pay(call, price):
        refusal = refuses_money(call, draft)
        if refusal is not None:
            raise refusal
        return park_for_payment(call, draft, price)
    base = service.expires_on if status is Status.ACTIVE else call.today
    prolonged = replace(service, expires_on=months_later(base, period))
    draft.put_service(prolonged, "prolonged")
    draft.charge(call, price, "prolong", prolonged, period=period)
    dates = (
        Element("expiredate", _day(service)),
        Element("newexpiredate", _day(prolonged)),
        Element("period", str(period)),
    )
    return (Element("doc", children=dates), Element("ok"))


def delete(call: Call, draft: Draft, kind: Kind) -> tuple[Element, ...]:
    """Answer `<kind>.delete`: all the listed services or none of them."""
    services = _several(call, draft, kind)
    for service in services:
        if service.min_term_until is not None and call.today < service.min_term_until:
            days = str(draft.state.profile.min_term_days)
            raise PanelError("pricelist_min_order", call.func.partition(".")[0], Text.MINIMUM_TERM, value=days)
    for service in services:
        draft.put_service(replace(service, deleted_at=call.now), "deleted")
    return (Element("ok"),)


def suspend(call: Call, draft: Draft, kind: Kind, *, suspended: bool) -> tuple[Element, ...]:
    """Answer `<kind>.suspend` and `<kind>.resume`."""
    services = _several(call, draft, kind)
    for service in services:
        if status_of(service, call.now) not in {Status.ACTIVE, Status.SUSPENDED}:
            raise bad_value("elid", str(service.id))
    for service in services:
        draft.put_service(replace(service, suspended=suspended), "suspended" if suspended else "resumed")
    return (Element("ok"),)


def _with_given_values(call: Call, service: Service) -> Service:
    changed = service
    names = call.form.parameters
    if "licname" in names:
        changed = replace(changed, licname=checked_licname(call, required=service.kind is Kind.SOFTEXTERNAL))
    for name in dict.fromkeys((address_field(service.kind), "ip")):
        if name in names:
            changed = replace(changed, ip=checked_address(call, name, required=service.kind is not Kind.ADDITION))
    if "remoteid" in names:
        changed = replace(changed, remoteid=call.value("remoteid"))
    if "autoprolong" in names:
        changed = replace(changed, autoprolong=call.value("autoprolong") or "null")
    return changed


def _wanted_nodes(call: Call, service: Service, product: Product) -> int:
    name = f"addon_{product.node_code}"
    if product.node_code is None or name not in call.form.parameters:
        return service.node_count
    given = call.value(name)
    wanted = int(given) if given.isascii() and given.isdigit() and len(given) < _ID_DIGITS_MAX else -1
    if not service.node_count <= wanted <= NODES_MAX:
        raise bad_value(name, given)
    return wanted


def _new_key(call: Call, draft: Draft, service: Service) -> tuple[Element, ...]:
    number = service.key_number + 1
    changed = replace(service, key_number=number, key=make_key(draft.world.seed, service.id, number))
    draft.put_service(changed, "rekeyed")
    return (Element("lickey", key_of(changed, call.now)), Element("ok"))


def _one(call: Call, draft: Draft, kind: Kind | None) -> Service:
    return _known(call, draft, kind, call.value("elid"))


def _several(call: Call, draft: Draft, kind: Kind) -> list[Service]:
    given = [part.strip() for part in call.value("elid").split(",")][:ELIDS_MAX]
    return [_known(call, draft, kind, elid) for elid in dict.fromkeys(given)]


def _known(call: Call, draft: Draft, kind: Kind | None, elid: str) -> Service:
    """Return the caller's living service. A foreign, deleted or differently typed one does not exist for the caller."""
    valid = elid.isascii() and elid.isdigit() and len(elid) <= _ID_DIGITS_MAX
    service = draft.state.services.get(int(elid)) if valid else None
    if (
        service is None
        or service.user != call.user
        or (kind is not None and service.kind is not kind)
        or status_of(service, call.now) is Status.DELETED
    ):
        raise no_item("elid", elid)
    return service


def _day(service: Service) -> str:
    return service.expires_on.isoformat() if service.expires_on is not None else ""


def _form(call: Call, service: Service, product: Product) -> tuple[Element, ...]:
    """Return the edit form (12, examples 5 and 6)."""
    key_field = {Kind.SOFTEXTERNAL: "lickey", Kind.PARALLELSLIC: "activation_code"}.get(service.kind)
    fields = [
        Element("elid", str(service.id)),
        Element("id", str(service.id)),
        Element("name", f"{product.name} #{service.id}"),
        Element("licname", service.licname),
        Element(address_field(service.kind), service.ip),
        Element("status", str(int(status_of(service, call.now)))),
        Element("createdate", service.created_at.date().isoformat()),
        Element("expiredate", shown_expiry(service, call)),
        Element("period", str(service.period)),
        Element("autoprolong", service.autoprolong),
        Element("pricelist", str(service.pricelist)),
        Element("pricelist_name", product.name),
    ]
    if key_field is not None:
        fields.append(Element(key_field, key_of(service, call.now)))
    if service.remoteid:
        fields.append(Element("remoteid", service.remoteid))
    if service.item is not None:
        fields.append(Element("item", str(service.item)))
    if product.node_code is not None:
        fields.append(Element(f"addon_{product.node_code}", str(service.node_count)))
    return tuple(fields)
