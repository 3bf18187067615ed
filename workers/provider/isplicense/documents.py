"""What the panel's elements mean: errors, ids, dates, statuses, rows and forms (docs/protocols/isplicense.md 2, 3, 7).

Tolerant by rule: unknown parts are ignored, missing and empty mean the same, words are never read.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from shared.domain.provider_operation import Elid, ServiceKind, address_of, elid_of
from shared.domain.provider_service import Balance, ChargeRow, ServiceForm, ServiceRow, ServiceStatus
from workers.provider.isplicense.xml_reading import Element

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DAY_AND_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T][0-9:.]{1,20}")
AMOUNT = re.compile(r"(-?[0-9]{1,12}(?:[.][0-9]{1,6})?)(?:\s{0,4}[^\d\s.,][^\d]{0,20})?")
NODE_FIELD = re.compile(r"addon_([1-9][0-9]{0,9})")
COUNT = re.compile(r"[0-9]{1,9}")
ITEM_NUMBER = re.compile(r"#([1-9][0-9]{0,17})\b")
OLD_ERROR_CODES = {"2": "exists", "3": "missed"}
FORM_FIELDS = frozenset(
    {"slist", "licname", "ip", "pa_ip", "period", "pricelist", "item", "elid", "autoprolong", "skipbasket"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelError:
    """An `<error>`, as far as it is branched on; its words stand in the masked excerpt only. Not yet masked."""

    type: str
    subject: str


def error_of(root: Element) -> PanelError | None:
    """Return the error that a document reports, None when it reports none (3.1)."""
    for part in _parts(root):
        for error in part.all("error"):
            kind = error.attributes.get("type", "").strip()
            subject = error.attributes.get("object", error.attributes.get("obj", "")).strip()
            if "type" not in error.attributes:
                kind = OLD_ERROR_CODES.get(error.attributes.get("code", ""), "")
            return PanelError(type=kind, subject=subject)
        if part.all("authfail"):
            return PanelError(type="auth", subject="authfail")
    return None


def ok_of(root: Element) -> str | None:
    """Return the text of `<ok>`, empty for a bare one, None when there is none."""
    found = root.all("ok")
    return " ".join(each.text for each in found if each.text) if found else None


def id_texts_of(root: Element) -> tuple[str, ...]:
    """Return the distinct texts of `/doc/id`, in order."""
    return tuple(dict.fromkeys(each.text for each in root.all("id") if each.text))


def is_form_echo(root: Element) -> bool:
    """Whether a document shows the form again instead of an answer (9.2 row 14)."""
    return not root.value("id") and any(child.name in FORM_FIELDS for child in root.children)


def payment_ids_of(root: Element) -> tuple[str, ...]:
    """Return what waits for payment, as `name=value`."""
    return tuple(
        f"{child.name}={child.text}" for child in root.children if child.name in ("billorder", "payment_id", "id")
    )


def renewed_until(root: Element) -> tuple[date | None, str]:
    """Return the last day that a renewal reports and the text it was read from."""
    texts = [text for part in _parts(root) if (text := part.value("newexpiredate"))]
    text = texts[0] if texts else ""
    return day_of(text), text


def day_of(text: str) -> date | None:
    """Return the day that `text` writes as `YYYY-MM-DD`, with or without a time; None for anything else."""
    timed = DAY_AND_TIME.fullmatch(text)
    plain = timed.group(1) if timed is not None else text
    if DAY.fullmatch(plain) is None:
        return None
    try:
        return date.fromisoformat(plain)
    except ValueError:
        return None


def row_of(element: Element, kind: ServiceKind) -> ServiceRow | None:
    """Return a list row, None without a usable id."""
    elid = elid_of(element.value("id"))
    if elid is None:
        return None
    return ServiceRow(
        elid=elid,
        kind=kind,
        status=_status_of(element),
        label=element.value("licname"),
        remote_id=element.value("remoteid"),
        address=address_of(element.value("ip") or element.value("pa_ip")),
        parent=elid_of(element.value("item")),
        tariff=element.value("pricelist"),
        created_on=day_of(element.value("createdate")),
        expires_on=_expiry_of(element),
        autoprolong=element.value("autoprolong"),
    )


def form_of(root: Element, kind: ServiceKind, elid: Elid, key_fields: Collection[str]) -> ServiceForm | None:
    """Return the form of service `elid`, None when the document is not that."""
    named = {text for text in (root.value("id"), root.value("elid")) if text}
    if named != {str(elid)}:
        return None
    pricelist = root.value("pricelist")
    return ServiceForm(
        elid=elid,
        kind=kind,
        status=_status_of(root),
        label=root.value("licname"),
        address=address_of(root.value("ip") or root.value("pa_ip")),
        parent=elid_of(root.value("item")),
        pricelist=int(pricelist) if COUNT.fullmatch(pricelist) else None,
        created_on=day_of(root.value("createdate")),
        expires_on=_expiry_of(root),
        nodes=dict(_nodes_of(root)),
        license_key=next((text for name in key_fields if (text := root.value(name))), ""),
    )


def charge_of(element: Element) -> ChargeRow:
    """Return a ledger row; whatever is missing stays empty, so that the row still counts as a charge."""
    item = element.value("main_item") or element.value("item")
    named = ITEM_NUMBER.search(item)
    return ChargeRow(
        charge_id=element.value("id"),
        amount=_amount_of(element.value("amount")),
        name=element.value("intname") or element.value("name"),
        elid=elid_of(named.group(1) if named is not None else item),
        charged_on=day_of(element.value("realdate")),
    )


def balance_of(root: Element) -> Balance | None:
    """Return the balance of `subaccount`, None when it shows none or several accounts."""
    rows = root.all("elem")
    amount = _amount_of(rows[0].value("balance")) if len(rows) == 1 else None
    return None if amount is None else Balance(amount=amount, currency=rows[0].value("currency"))


def count_of(root: Element, name: str) -> int | None:
    """Return the whole number in element `name`, None without one."""
    text = root.value(name)
    return int(text) if COUNT.fullmatch(text) else None


def _parts(root: Element) -> Iterator[Element]:
    """Yield the document and the documents of its sub-steps."""
    yield root
    for nested in root.all("doc"):
        yield from _parts(nested)


def _status_of(element: Element) -> ServiceStatus:
    marked = next((each.attributes.get("orig", "") for each in element.all("item_status")), "")
    for text in (
        element.value("status"),
        marked.partition("_")[0],
        element.value("item_status"),
        element.value("item_real_status").partition("_")[0],
    ):
        if text in {"1", "2", "3", "4", "5"}:
            return ServiceStatus(int(text))
    return ServiceStatus.UNKNOWN


def _expiry_of(element: Element) -> date | None:
    return day_of(element.value("expiredate")) or day_of(element.value("real_expiredate"))


def _nodes_of(root: Element) -> Iterator[tuple[int, int]]:
    for child in root.children:
        name = NODE_FIELD.fullmatch(child.name)
        if name is not None and COUNT.fullmatch(child.text):
            yield int(name.group(1)), int(child.text)


def _amount_of(text: str) -> Decimal | None:
    found = AMOUNT.fullmatch(text)
    return Decimal(found.group(1)) if found is not None else None
