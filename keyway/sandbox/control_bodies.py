"""The JSON bodies that the control plane takes, and what they make of a row."""

from dataclasses import replace
from datetime import date, datetime
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from keyway.sandbox.catalog import LIFETIME, PRODUCTS, money, months_later
from keyway.sandbox.functions.orders import make_key
from keyway.sandbox.rows import Account, Service
from keyway.sandbox.status import Status

Id = Annotated[int, Field(ge=1, lt=10**18)]


class Body(BaseModel):
    """A control body: unknown members are typing slips."""

    model_config = ConfigDict(extra="forbid")


class ResetOrder(Body):
    """`POST reset`: where ids start, and another seed for this life."""

    next_id: Id | None = None
    seed: str | None = None


class ClockOrder(Body):
    """`POST clock`: exactly one way to say the moment, and whether the clock stands still there."""

    offset_seconds: float | None = None
    advance_seconds: float | None = None
    at: AwareDatetime | None = None
    frozen: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> "ClockOrder":
        if sum(given is not None for given in (self.offset_seconds, self.advance_seconds, self.at)) != 1:
            raise ValueError("give one of offset_seconds, advance_seconds, at")
        return self


class AccountOrder(Body):
    """`POST accounts/<user>`: only what is given changes; a new user needs a password."""

    password: Annotated[str, Field(min_length=1)] | None = None
    balance: str | int | float | None = None
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None = None
    lang: Literal["en", "ru"] | None = None
    allow_ips: tuple[str, ...] | None = None
    otp: str | None = None

    @field_validator("balance")
    @classmethod
    def _is_money(cls, value: str | float | None) -> str | float | None:
        if value is not None:
            money(str(value))
        return value

    @field_validator("allow_ips")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for network in value or ():
            ip_network(network, strict=False)
        return value


class ServiceOrder(Body):
    """One row of `POST licenses`: a new one, or with a known `id` the members of it that change.

    Nothing is charged unless `charged` asks for the ledger line of an order. `expires` null is a lifetime.
    """

    id: Id | None = None
    user: str | None = None
    pricelist: int | None = None
    licname: str = ""
    remoteid: str = ""
    ip: str = ""
    item: int | None = None
    period: int = 1
    autoprolong: str = "null"
    nodes: Annotated[int, Field(ge=0)] = 0
    status: Annotated[int, Field(ge=1, le=5)] = Status.ACTIVE
    created: date | None = None
    expires: date | None = None
    key: str = ""
    min_term_until: date | None = None
    charged: bool = False

    @field_validator("pricelist")
    @classmethod
    def _is_sold(cls, value: int | None) -> int | None:
        if value is not None and value not in PRODUCTS:
            raise ValueError(f"{value} is no tariff: choose one of {', '.join(map(str, PRODUCTS))}")
        return value


def account_after(known: Account | None, user: str, order: AccountOrder) -> Account:
    """Return the account after `order`. Raises `ValueError` for a new one without password."""
    if known is None:
        if order.password is None:
            raise ValueError(f"there is no account {user!r} yet: a new one needs a password")
        if ":" in user or not user:
            raise ValueError(f"{user!r} cannot be a user name: it is empty or holds a colon")
        known = Account(user=user, password=order.password, balance=0)
    return Account(
        user=user,
        password=order.password if order.password is not None else known.password,
        balance=money(str(order.balance)) if order.balance is not None else known.balance,
        currency=order.currency if order.currency is not None else known.currency,
        lang=order.lang if order.lang is not None else known.lang,
        allow_ips=order.allow_ips if order.allow_ips is not None else known.allow_ips,
        otp=order.otp if order.otp is not None else known.otp,
    )


def service_after(known: Service | None, order: ServiceOrder, *, user: str, seed: str, now: datetime) -> Service:
    """Return the service after `order`. Raises `ValueError` for a new one without tariff."""
    service = known if known is not None else _fresh(order, user=user, seed=seed, now=now)
    given = order.model_fields_set
    for name in ("licname", "remoteid", "ip", "item", "period", "autoprolong", "key", "min_term_until"):
        if name in given:
            service = replace(service, **{name: getattr(order, name)})
    if known is not None and order.pricelist is not None:
        service = replace(service, pricelist=order.pricelist, kind=PRODUCTS[order.pricelist].kind)
    if known is not None and order.user is not None:
        service = replace(service, user=order.user)
    if "nodes" in given:
        service = replace(service, node_count=order.nodes)
    if order.created is not None:
        service = replace(service, created_at=_midnight(order.created, now))
    if "expires" in given:
        service = replace(service, expires_on=order.expires)
    return _with_status(service, order.status, now) if "status" in given or known is None else service


def _fresh(order: ServiceOrder, *, user: str, seed: str, now: datetime) -> Service:
    if order.pricelist is None or order.id is None:
        raise ValueError("a new license needs a pricelist")
    created_at = _midnight(order.created, now) if order.created is not None else now
    return Service(
        id=order.id,
        user=order.user or user,
        kind=PRODUCTS[order.pricelist].kind,
        pricelist=order.pricelist,
        period=order.period,
        created_at=created_at,
        expires_on=None if order.period == LIFETIME else months_later(created_at.date(), max(order.period, 1)),
        key=make_key(seed, order.id, 1),
    )


def _with_status(service: Service, status: int, now: datetime) -> Service:
    living = replace(
        service, paid=True, active_at=service.created_at, activation_fails=False, suspended=False, deleted_at=None
    )
    match Status(status):
        case Status.ORDERED:
            return replace(living, paid=False)
        case Status.ACTIVE:
            return living
        case Status.SUSPENDED:
            return replace(living, suspended=True)
        case Status.DELETED:
            return replace(living, deleted_at=now)
        case Status.PROCESSING:
            return replace(living, active_at=None)


def _midnight(day: date, now: datetime) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)
