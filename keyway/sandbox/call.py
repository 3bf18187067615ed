"""What a panel function gets and gives: the call, the draft of its changes, and the error that ends it.

A function reads the call and the state, writes rows into the draft and returns elements; nothing else changes until the
panel commits the draft, so a function that raises `PanelError` has changed nothing (but for the rows that the error
carries: a failed log-in is remembered).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Literal

from keyway.sandbox.catalog import Kind
from keyway.sandbox.document import Element
from keyway.sandbox.forms import Form
from keyway.sandbox.rows import Account, Argument, Charge, MoneyMode, Row, Service
from keyway.sandbox.state import State
from keyway.sandbox.texts import Text, say

Reason = Literal["order", "nodes", "prolong", "autoprolong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mischief:
    """The faults that change what the panel does, not how the answer travels (13.4)."""

    balance_exhausted: bool = False
    money_mode: MoneyMode | None = None
    double_effect: bool = False
    listed_after_ms: int | None = None
    unlisted: bool = False
    namesake: bool = False
    sticky_filter: dict[str, str] | None = None
    sticky_list: str = ""
    short_by: int = 0
    short_page_lies: bool = False
    localized_status: bool = False
    type_switch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as the panel sees it. `user` is empty until it is authenticated; `url` is where the panel stands."""

    form: Form
    func: str
    lang: str
    user: str
    address: str
    url: str
    now: datetime
    request_number: int
    attempt: str
    mischief: Mischief

    @property
    def today(self) -> date:
        """The panel's day."""
        return self.now.date()

    @property
    def is_submit(self) -> bool:
        """Whether this is a submit (`sok`, any value) and not the wish to see the form."""
        return bool(self.form.value("sok"))

    def value(self, name: str) -> str:
        """Return a parameter, trimmed; a missing one is empty."""
        return self.form.value(name)


class PanelError(Exception):
    """A business error, answered with HTTP 200 (docs/protocols/isplicense.md 3.1)."""

    def __init__(
        self, kind: str, about: str, text: Text, *, value: str = "", rows: Iterable[Row] = (), detailed: bool = False
    ) -> None:
        """`kind` is the error's type, `about` its object, `rows` what is remembered of it all the same."""
        super().__init__(f"{kind}/{about}")
        self.kind = kind
        self.about = about
        self.text = text
        self.value = value
        self.rows = tuple(rows)
        self.detailed = detailed

    def element(self, *, lang: str, func: str) -> Element:
        """Return the `<error>` element."""
        message = say(self.text, lang, about=self.about, value=self.value)
        attributes = [("type", self.kind), ("object", self.about), ("lang", lang)]
        parts: list[Element] = []
        if self.about:
            parts.append(Element("param", self.about, (("name", "object"), ("type", "msg"))))
        if self.value:
            parts.append(Element("param", self.value, (("name", "value"),)))
        if self.detailed:
            attributes.append(("code", "1"))
            action = Element("action", func, (("level", "0"), ("user", "")))
            parts += [Element("stack", children=(action,)), Element("detail", message.strip())]
        parts.append(Element("msg", message))
        return Element("error", attributes=tuple(attributes), children=tuple(parts))


class Draft:
    """The changes that one call wants; later reads of the same call see them through the draft."""

    def __init__(self, state: State) -> None:
        """Start without changes on top of `state`."""
        self.state = state
        self.world = state.world
        self.effects: list[str] = []
        self._rows: list[Row] = []
        self._account: Account | None = None
        self.charged = 0

    def put(self, *rows: Row) -> None:
        """Add rows to the changes."""
        self._rows.extend(rows)

    def put_service(self, service: Service, effect: str) -> None:
        """Add a service and the word for what happened to it."""
        self._rows.append(service)
        self.effects.append(f"{effect} {service.id}")

    def service_id(self) -> int:
        """Return a fresh service id."""
        self.world = replace(self.world, next_service_id=self.world.next_service_id + 1)
        return self.world.next_service_id - 1

    def bill_id(self) -> int:
        """Return a fresh bill id."""
        self.world = replace(self.world, next_bill_id=self.world.next_bill_id + 1)
        return self.world.next_bill_id - 1

    def payment_id(self) -> int:
        """Return a fresh payment id."""
        self.world = replace(self.world, next_payment_id=self.world.next_payment_id + 1)
        return self.world.next_payment_id - 1

    def token(self) -> int:
        """Return a fresh number for a token."""
        self.world = replace(self.world, next_token=self.world.next_token + 1)
        return self.world.next_token - 1

    def can_pay(self, call: Call, amount: int) -> bool:
        """Whether the caller's balance covers `amount`."""
        return not call.mischief.balance_exhausted and self._balance_of(call.user) >= amount

    def charge(self, call: Call, amount: int, reason: Reason, service: Service, *, period: int) -> None:
        """Take `amount` from the balance and write the ledger line."""
        account = self._account or self.state.accounts[call.user]
        self._account = replace(account, balance=account.balance - amount)
        self.charged += amount
        self._rows.append(
            Charge(
                number=self.world.next_charge_number,
                at=call.now,
                user=call.user,
                amount=amount,
                reason=reason,
                service_id=service.id,
                pricelist=service.pricelist,
                period=period,
                request_number=call.request_number,
                attempt=call.attempt,
            )
        )
        self.world = replace(self.world, next_charge_number=self.world.next_charge_number + 1)

    def rows(self) -> list[Row]:
        """Return all changes."""
        rows = list(self._rows)
        if self._account is not None:
            rows.append(self._account)
        if self.world != self.state.world:
            rows.append(self.world)
        return rows

    def _balance_of(self, user: str) -> int:
        return (self._account or self.state.accounts[user]).balance


def bad_value(about: str, value: str) -> PanelError:
    """Return the error for a parameter with a bad value (12, example 12)."""
    return PanelError("value", about, Text.BAD_VALUE, value=value)


def no_item(about: str, value: str) -> PanelError:
    """Return the error for something that is not there (12, example 10)."""
    return PanelError("missed", about, Text.NO_ITEM, value=value)


def listed_kind(func: str) -> Kind | None:
    """Return the product type that a function's first word names; the `soft` family works on the external ones."""
    family = func.partition(".")[0]
    if family == "soft":
        return Kind.SOFTEXTERNAL
    return Kind(family) if family in set(Kind) else None


def numeric(value: Argument) -> int:
    """Return a fault argument as a whole number; arguments were checked when the fault was set."""
    return int(value) if not isinstance(value, list) else len(value)
