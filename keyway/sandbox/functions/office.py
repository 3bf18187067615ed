"""Everything beside licenses: balance, payments, cart, menu, price list (docs/protocols/isplicense.md 6.2, 7.1, 8)."""

from keyway.sandbox.call import Call, Draft, PanelError, no_item
from keyway.sandbox.catalog import CURRENCY, LIFETIME, PRODUCTS, Kind, Product, money_text
from keyway.sandbox.document import Element
from keyway.sandbox.functions.views import page
from keyway.sandbox.rows import Gone, Payment
from keyway.sandbox.texts import Text


def subaccount(call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer `subaccount`: the balance as a list of one."""
    account = draft.state.accounts[call.user]
    cells = (
        Element("id", "1"),
        Element("balance", _balance(call, draft)),
        Element("currency", account.currency),
    )
    return page(call, draft, [Element("elem", children=cells)], _itself)


def whoami(call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer `whoami`: the caller, with the balance where it may be read."""
    account = draft.state.accounts[call.user]
    attributes = [("name", account.user), ("level", "16")]
    if draft.state.profile.balance_readable:
        attributes += [("balance", _balance(call, draft)), ("currency", account.currency)]
    return (Element("user", attributes=tuple(attributes)),)


def list_payments(call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer `payment`: 1 is new, 4 is credited."""
    payments = [payment for payment in draft.state.payments.values() if payment.user == call.user]
    return page(call, draft, payments, _payment_row)


def basket(call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer `basket`: the items that wait, or the removal of one. It takes no money in any way."""
    items = [item for item in draft.state.cart_items.values() if item.user == call.user]
    if call.value("clicked_button") == "delete" and call.is_submit:
        given = call.value("id")
        if given not in {str(item.id) for item in items}:
            raise no_item("id", given)
        draft.put(Gone(table="cart_items", key=given))
        draft.effects.append(f"cart {given} dropped")
        return (Element("ok"),)
    rows = [
        Element(
            "elem",
            children=(
                Element("id", str(item.id)),
                Element("billorder", str(item.bill_id)),
                Element("pricelist", PRODUCTS[item.pricelist].name),
                Element("cost", money_text(item.amount)),
            ),
        )
        for item in items
    ]
    return page(call, draft, rows, _itself)


def menu(_call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer `menu`: which lists there are."""
    lists: list[str] = [kind.value for kind in Kind]
    if draft.state.profile.split_types:
        lists.append("soft")
    nodes = (Element("node", attributes=(("name", name),)) for name in (*lists, "expense", "payment", "subaccount"))
    return (Element("menu", children=tuple(nodes)),)


def export_prices(call: Call, _draft: Draft) -> tuple[Element, ...]:
    """Answer `pricelist.export`: the tariffs, all or those of one `itemtype`, with a price per period."""
    wanted = call.value("itemtype")
    return tuple(_tariff(product) for product in PRODUCTS.values() if wanted in {"", product.kind.value})


def _tariff(product: Product) -> Element:
    cells = [Element("id", str(product.code)), Element("name", product.name), Element("itemtype", product.kind.value)]
    cells.append(_price(product))
    if product.node_code is not None:
        node_periods = tuple(_period(period, product.node_price(period)) for period in product.periods)
        node_price = Element("price", attributes=(("currency", CURRENCY),), children=node_periods)
        cells.append(Element("addon", attributes=(("id", str(product.node_code)),), children=(node_price,)))
    return Element("elem", children=tuple(cells))


def _price(product: Product) -> Element:
    periods = tuple(_period(period, product.price(period)) for period in product.periods)
    return Element("price", attributes=(("currency", CURRENCY),), children=periods)


def _period(period: int, amount: int) -> Element:
    kind = "lifetime" if period == LIFETIME else "month"
    return Element("period", attributes=(("cost", money_text(amount)), ("type", kind), ("length", str(period))))


def _balance(call: Call, draft: Draft) -> str:
    if not draft.state.profile.balance_readable:
        raise PanelError("access", call.func, Text.NO_ACCESS)
    return money_text(0 if call.mischief.balance_exhausted else draft.state.accounts[call.user].balance)


def _payment_row(payment: Payment) -> Element:
    cells = (
        Element("id", str(payment.id)),
        Element("number", str(payment.id)),
        Element("create_date", payment.created_at.date().isoformat()),
        Element("status", str(payment.status)),
        Element("amount", money_text(payment.amount)),
    )
    return Element("elem", children=cells)


def _itself(element: Element) -> Element:
    return element
