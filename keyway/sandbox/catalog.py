"""What the panel sells: the 23 products and 4 node codes of docs/protocols/isplicense.md 6.1, with invented prices.

Money is counted in ten-thousandths of a euro (the panel writes up to four decimals) and never in floats.
"""

import calendar
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum

CURRENCY = "EUR"
UNIT = 10_000
CENT = UNIT // 100
LIFETIME = 0
MONTHS_OF_A_YEAR = 12
# What a period costs in months: longer ones are cheaper, a lifetime costs forty months.
MONTHS_PAID = {1: 1, 3: 3, 6: 6, 12: 10, 24: 19, 36: 27, LIFETIME: 40}


class Kind(StrEnum):
    """The product types, named as their list functions."""

    SOFTEXTERNAL = "softexternal"
    PARALLELSLIC = "parallelslic"
    ADDITION = "addition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One tariff. Prices per month in ten-thousandths of a euro; `periods` in months, 0 is for a lifetime."""

    code: int
    name: str
    kind: Kind
    monthly: int
    periods: tuple[int, ...]
    node_code: int | None = None
    node_monthly: int = 0

    def price(self, period: int) -> int:
        """Return what one license costs for `period`."""
        return self.monthly * MONTHS_PAID[period]

    def node_price(self, period: int) -> int:
        """Return what one node costs for `period`."""
        return self.node_monthly * MONTHS_PAID[period]


def money_text(amount: int) -> str:
    """Return an amount as decimal text with two to four places, such as `5.00` or `913.9286`."""
    sign, amount = ("-", -amount) if amount < 0 else ("", amount)
    places = f"{amount % UNIT:04d}"
    return f"{sign}{amount // UNIT}.{places[:2]}{places[2:].rstrip('0')}"


def money(text: str) -> int:
    """Return the amount that a decimal text names. Raises `ValueError` for anything but a number of four places."""
    try:
        scaled = Decimal(text) * UNIT
        whole = int(scaled)
    except (InvalidOperation, OverflowError, ValueError):
        raise ValueError(f"{text!r} is not an amount: write a decimal number such as 12.50") from None
    if scaled != whole:
        raise ValueError(f"{text!r} has more than four decimal places")
    return whole


def months_later(day: date, months: int) -> date:
    """Return the same day `months` later, the last of the month where that day does not exist."""
    ordinal = day.year * MONTHS_OF_A_YEAR + day.month - 1 + months
    year, month = divmod(ordinal, MONTHS_OF_A_YEAR)
    month += 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _vendor(code: int, name: str, cents: int, periods: tuple[int, ...], *node: int) -> Product:
    node_code, node_cents = node or (None, 0)
    return Product(
        code=code,
        name=name,
        kind=Kind.SOFTEXTERNAL,
        monthly=cents * CENT,
        periods=periods,
        node_code=node_code,
        node_monthly=node_cents * CENT,
    )


def _foreign(code: int, name: str, kind: Kind, cents: int, periods: tuple[int, ...]) -> Product:
    return Product(code=code, name=name, kind=kind, monthly=cents * CENT, periods=periods)


_PLAIN = (1, 12)
_LONG = (1, 3, 6, 12, 24, 36)
_EVER = (1, 12, LIFETIME)

PRODUCTS: dict[int, Product] = {
    product.code: product
    for product in (
        _vendor(229, "ISPmanager 5 Lite", 400, _EVER),
        _vendor(273, "ISPmanager 5 Business", 1200, _EVER, 274, 250),
        _vendor(546, "ISPmanager 6 Lite", 500, _LONG),
        _vendor(547, "ISPmanager 6 Pro", 800, _LONG),
        _vendor(548, "ISPmanager 6 Host", 1100, _LONG),
        _vendor(549, "ISPmanager 6 Business", 1500, _LONG, 550, 300),
        _vendor(276, "BILLmanager", 1900, _EVER),
        _vendor(277, "BILLmanager Corporate", 9500, _PLAIN),
        _vendor(166, "DNSmanager 5", 300, _EVER),
        _vendor(170, "VMmanager KVM", 1400, _PLAIN, 172, 450),
        _vendor(195, "VMmanager OVZ", 1300, _PLAIN, 197, 425),
        _foreign(250, "Plesk Panel 12/Onyx Web Admin Edition", Kind.PARALLELSLIC, 750, _PLAIN),
        _foreign(322, "Plesk Panel 12/Onyx Web Pro Edition VPS", Kind.PARALLELSLIC, 1025, _PLAIN),
        _foreign(264, "Plesk Panel 12/Onyx Web Pro Edition", Kind.PARALLELSLIC, 1450, _PLAIN),
        _foreign(243, "Plesk Panel 12/Onyx Web Host Edition VPS", Kind.PARALLELSLIC, 1775, _PLAIN),
        _foreign(236, "Plesk Panel 12/Onyx Web Host Edition", Kind.PARALLELSLIC, 2950, _PLAIN),
        _foreign(369, "CloudLinux for ISPmanager Business", Kind.ADDITION, 1150, _PLAIN),
        _foreign(354, "VirusDie for ISPmanager 5 Lite", Kind.ADDITION, 225, (1,)),
        _foreign(367, "VirusDie for ISPmanager 5 Business", Kind.ADDITION, 475, (1,)),
        _foreign(356, "Softaculous for ISPmanager 5", Kind.ADDITION, 150, _PLAIN),
        _foreign(371, "KernelCare for ISPmanager", Kind.ADDITION, 395, _PLAIN),
        _foreign(383, "DDoS-GUARD", Kind.ADDITION, 5000, (1,)),
        _foreign(397, "Revisium Antivirus", Kind.ADDITION, 340, (1,)),
    )
}
