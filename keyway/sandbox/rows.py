"""Everything the panel remembers, as rows: frozen values, one class per table (docs/protocols/isplicense.md 13.2).

A row is replaced whole, never changed. `Gone` stands for the removal of one. Times are aware UTC, days are panel days
(UTC), amounts are ten-thousandths of a euro.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import ClassVar, Literal

from pydantic import ConfigDict

from keyway.sandbox.catalog import CURRENCY, Kind

ActivationMode = Literal["instant", "delayed", "stuck", "unpaid", "fails"]
MoneyMode = Literal["payment_required", "error_money"]
Argument = str | int | float | bool | list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A panel user: our account at the provider."""

    user: str
    password: str
    balance: int
    currency: str = CURRENCY
    lang: str = "ru"
    allow_ips: tuple[str, ...] = ()
    otp: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One license upstream.

    The status is never stored but derived from the moments below (`status.status_of`). `node_count` belongs to the
    product's node code. A service is out of lists before `listed_at` or while `unlisted`; with `shown_expires_on` it
    stays in them, but with that older date.
    """

    id: int
    user: str
    kind: Kind
    pricelist: int
    period: int
    created_at: datetime
    licname: str = ""
    remoteid: str = ""
    ip: str = ""
    item: int | None = None
    autoprolong: str = "null"
    node_count: int = 0
    expires_on: date | None = None
    paid: bool = True
    processing_at: datetime | None = None
    active_at: datetime | None = None
    key_at: datetime | None = None
    activation_fails: bool = False
    suspended: bool = False
    deleted_at: datetime | None = None
    min_term_until: date | None = None
    key: str = ""
    key_number: int = 1
    listed_at: datetime | None = None
    unlisted: bool = False
    shown_expires_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One line of the ledger: money taken, for what, and by which request (and lab attempt) it was asked for."""

    number: int
    at: datetime
    user: str
    amount: int
    reason: Literal["order", "nodes", "prolong", "autoprolong"]
    service_id: int
    pricelist: int
    period: int
    request_number: int
    attempt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CartItem:
    """An order that waits in the cart; nothing was charged."""

    id: int
    user: str
    bill_id: int
    func: str
    pricelist: int
    period: int
    amount: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment: 1 new, 4 credited."""

    id: int
    user: str
    created_at: datetime
    status: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A log-in; it dies after an idle hour and serves one address only."""

    id: str
    user: str
    address: str
    used_at: datetime
    confirmed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedFilter:
    """A sticky filter: it silently applies to every later reading of that list by that user."""

    user: str
    list_func: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A remote address and its failed log-ins."""

    address: str
    failed_at: tuple[datetime, ...] = ()
    blocked_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPage:
    """A finished answer that is handed out only after `hops` more readings of a waiting page; -1 is never."""

    token: str
    hops: int
    content_type: str
    body_base64: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """One piece of mischief: which calls it strikes, and how.

    `nth` counts the calls that match from 1, `times` bounds the strikes (None = no bound), `probability` draws among
    the matching calls by the seed. `seen` and `strikes` count what happened.
    """

    id: int
    func: str = "*"
    user: str = "*"
    parameters: dict[str, str] = field(default_factory=dict)
    nth: int = 1
    probability: float = 1.0
    mode: str
    phase: Literal["before", "after"]
    args: dict[str, Argument] = field(default_factory=dict)
    times: int | None = 1
    seen: int = 0
    strikes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """How new services come alive (13.3.5). The three times follow one another, in milliseconds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mode: ActivationMode = "instant"
    ms_ordered: int = 0
    ms_processing: int = 0
    ms_key: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The behavior that is switched for everybody at once (13.3); every member has the faithful default."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    activation: Activation = Activation()
    money_mode: MoneyMode = "payment_required"
    answer_id: bool = True
    unique_ip: bool = False
    split_types: bool = False
    module_requires_item: bool = True
    list_remoteid: bool = True
    balance_readable: bool = True
    missing_functions: tuple[str, ...] = ()
    min_term_days: int = 0
    deleted_linger_seconds: int = 86_400
    page_size: int = 50
    autoprolong_default: str = "null"
    expiry_acts: bool = False
    noise: bool = False
    ban: bool = False
    ban_failures: int = 5
    ban_window_seconds: int = 600
    ban_seconds: int = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Counters, clock and seed. `frozen_at` stops the sandbox's clock; else it runs `offset_seconds` off the base."""

    seed: str
    next_service_id: int = 40_001
    next_bill_id: int = 8801
    next_payment_id: int = 5501
    next_charge_number: int = 1
    next_fault_id: int = 1
    next_token: int = 1
    offset_seconds: float = 0.0
    frozen_at: datetime | None = None
    listener_hits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The removal of one row."""

    table: Literal["services", "cart_items", "faults", "filters"]
    key: str


Row = (
    Account
    | Service
    | Charge
    | CartItem
    | Payment
    | Session
    | SavedFilter
    | Address
    | LongPage
    | FaultRule
    | Profile
    | World
    | Gone
)
