"""Lists of services and charges, with their traps: page size, sticky filters, late rows.

Rules: docs/protocols/isplicense.md 7.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from keyway.sandbox.call import Call, Draft
from keyway.sandbox.catalog import PRODUCTS, Kind, money_text
from keyway.sandbox.document import JSON_FORMATS, Element
from keyway.sandbox.rows import Charge, Gone, SavedFilter, Service
from keyway.sandbox.state import State
from keyway.sandbox.status import Status, is_listed, status_of
from keyway.sandbox.texts import status_word

Listed = TypeVar("Listed")

PAGE_ROWS_MAX = 1000
LIFETIME_WORDS = {"en": "Unlimited", "ru": "Бессрочно"}
_COLORS = {1: "gray", 2: "green", 3: "red", 4: "gray", 5: "yellow"}
_FILTER_FIELDS = ("id", "licname", "ip", "pricelist", "remoteid")


def list_services(call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer a list of services: the caller's own of that list, filtered by what was saved once, a page of them."""
    state = draft.state
    kind = kind_of_list(call.func, state)
    fields = _sticky_fields(call, state)
    shown = [
        service
        for service in state.services.values()
        if service.kind is kind
        and service.user == call.user
        and is_listed(service, state.profile, call.now)
        and _passes(service, fields)
    ]
    shown.sort(key=_by_id)
    return page(call, draft, shown, lambda service: service_row(service, call, state))


def list_charges(call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer `expense`: what was charged, per service."""
    charges = [charge for charge in draft.state.charges if charge.user == call.user]
    return page(call, draft, charges, _charge_row)


def save_filter(call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer `<list>.filter`: with `sok` it sticks to the user's list, blank fields free it; in JSON it only echoes."""
    list_func = call.func.removesuffix(".filter")
    fields = {name: call.value(name) for name in _FILTER_FIELDS if call.value(name)}
    if not call.is_submit or call.value("out") in JSON_FORMATS:
        saved = draft.state.filters.get((call.user, list_func))
        shown = fields or (saved.fields if saved is not None else {})
        return tuple(Element(name, shown.get(name, "")) for name in _FILTER_FIELDS)
    if fields:
        draft.put(SavedFilter(user=call.user, list_func=list_func, fields=fields))
    else:
        draft.put(Gone(table="filters", key=f"{call.user}\n{list_func}"))
    draft.effects.append(f"filter {list_func}")
    return (Element("ok"),)


def page(call: Call, draft: Draft, listed: list[Listed], row: Callable[[Listed], Element]) -> tuple[Element, ...]:
    """Return one page of `listed` (`p_num`, `p_cnt`) and the figures below it, cut short where mischief says so."""
    size = min(_positive(call.value("p_cnt"), draft.state.profile.page_size), PAGE_ROWS_MAX)
    number = _positive(call.value("p_num"), 1)
    total = len(listed)
    rows = listed[(number - 1) * size : number * size]
    if call.mischief.short_by:
        rows = rows[: max(len(rows) - call.mischief.short_by, 0)]
        total = len(rows) if call.mischief.short_page_lies else total
    figures = (("p_elems", total), ("p_num", number), ("p_cnt", size))
    return (*map(row, rows), *(Element(name, str(figure)) for name, figure in figures))


def kind_of_list(func: str, state: State) -> Kind | None:
    """Return what a list shows, None for nothing: `split_types` moves the vendor's own products to `soft`."""
    if func in {"soft", Kind.SOFTEXTERNAL.value}:
        own_list = "soft" if state.profile.split_types else Kind.SOFTEXTERNAL.value
        return Kind.SOFTEXTERNAL if func == own_list else None
    return Kind(func)


def shown_expiry(service: Service, call: Call) -> str:
    """Return the expiry as the panel shows it: a day, a phrase for a lifetime, or an older truth (`late_visible`)."""
    if service.shown_expires_on is not None and (
        service.unlisted or (service.listed_at is not None and call.now < service.listed_at)
    ):
        return service.shown_expires_on.isoformat()
    if service.expires_on is None:
        return LIFETIME_WORDS.get(call.lang, LIFETIME_WORDS["en"])
    return service.expires_on.isoformat()


def service_row(service: Service, call: Call, state: State) -> Element:
    """Return one row of a list of services."""
    product = PRODUCTS[service.pricelist]
    status = status_of(service, call.now)
    price = money_text(product.price(service.period))
    cells = [
        Element("id", str(service.id)),
        Element("licname", service.licname),
        Element("ip", service.ip),
        Element("pricelist", product.name),
        Element("account", service.user),
        Element("datacentername", "Sandbox"),
        Element("processingmodule", service.kind.value),
        Element("createdate", service.created_at.date().isoformat()),
        Element("expiredate", shown_expiry(service, call)),
        Element("autoprolong", service.autoprolong),
        *_status_cells(status, call),
        Element("cost", f"{price} EUR / {service.period} mo"),
    ]
    if service.expires_on is not None:
        cells.append(Element("real_expiredate", shown_expiry(service, call)))
    if service.remoteid and state.profile.list_remoteid:
        cells.append(Element("remoteid", service.remoteid))
    if service.item is not None:
        cells.append(Element("item", str(service.item)))
    if call.func == "soft":
        cells.append(Element("period", str(service.period)))
    return Element("elem", children=tuple(cells))


def _status_cells(status: Status, call: Call) -> Iterable[Element]:
    code = str(int(status))
    if call.mischief.localized_status:
        return (Element("item_status", status_word(status, "ru")),)
    word = status_word(status, call.lang)
    if call.mischief.type_switch:
        return (Element("item_status", word), Element("item_real_status", code))
    return (
        Element("status", code),
        Element("item_status", word, (("orig", f"{code}_{code}_16"), ("color", _COLORS[status]))),
    )


def _charge_row(charge: Charge) -> Element:
    name = PRODUCTS[charge.pricelist].name
    cells = (
        Element("id", str(charge.number)),
        Element("amount", money_text(charge.amount)),
        Element("intname", f"{name} #{charge.service_id} ({charge.reason})"),
        Element("main_item", str(charge.service_id)),
        Element("realdate", charge.at.strftime("%Y-%m-%d %H:%M:%S")),
    )
    return Element("elem", children=cells)


def _sticky_fields(call: Call, state: State) -> dict[str, str]:
    saved = state.filters.get((call.user, call.func))
    return saved.fields if saved is not None else {}


def _passes(service: Service, fields: dict[str, str]) -> bool:
    if not fields:
        return True
    texts = {
        "id": str(service.id),
        "licname": service.licname,
        "ip": service.ip,
        "pricelist": PRODUCTS[service.pricelist].name,
        "remoteid": service.remoteid,
    }
    return all(wanted.casefold() in texts.get(name, "").casefold() for name, wanted in fields.items())


def _by_id(service: Service) -> int:
    return service.id


def _positive(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) <= 9 and int(text) else default  # noqa: PLR2004 - digits that surely fit
