"""Which function answers which `func` (docs/protocols/isplicense.md 5.1, 7.1); log-in functions stand in `panel`."""

from collections.abc import Callable
from functools import partial

from keyway.sandbox.call import Call, Draft
from keyway.sandbox.catalog import Kind
from keyway.sandbox.document import Element
from keyway.sandbox.functions import office, orders, upkeep, views

Function = Callable[[Call, Draft], tuple[Element, ...]]

LIST_FUNCTIONS = ("softexternal", "soft", "parallelslic", "addition")


def panel_functions() -> dict[str, Function]:
    """Return the table of everything that needs a logged-in user."""
    table: dict[str, Function] = {
        "service.prolong": upkeep.prolong,
        "soft.checkip": orders.check_address,
        "expense": views.list_charges,
        "expense.filter": views.save_filter,
        "payment": office.list_payments,
        "subaccount": office.subaccount,
        "whoami": office.whoami,
        "basket": office.basket,
        "menu": office.menu,
    }
    for kind in Kind:
        table[f"{kind.value}.order.param"] = partial(orders.order, kind=kind)
    # `soft` is the vendor's own family; here it works on the same services as `softexternal` (5.1, O4 beside O5).
    for family, kind in (*((kind.value, kind) for kind in Kind), ("soft", Kind.SOFTEXTERNAL)):
        table[family] = views.list_services
        table[f"{family}.filter"] = views.save_filter
        table[f"{family}.edit"] = partial(upkeep.edit, kind=kind)
        table[f"{family}.delete"] = partial(upkeep.delete, kind=kind)
        table[f"{family}.suspend"] = partial(upkeep.suspend, kind=kind, suspended=True)
        table[f"{family}.resume"] = partial(upkeep.suspend, kind=kind, suspended=False)
    return table
