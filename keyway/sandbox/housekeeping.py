"""What the panel does by itself when days pass: renewals that were left switched on, and the end of expired licenses.

Rules: docs/protocols/isplicense.md 5.2 (`autoprolong`), 8. A license whose `autoprolong` is a period is renewed and
charged unasked; without it an expired one is suspended and deleted 30 days later where the profile says `expiry_acts`.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from keyway.sandbox.catalog import LIFETIME, PRODUCTS, months_later
from keyway.sandbox.rows import Account, Charge, Row, Service
from keyway.sandbox.state import State
from keyway.sandbox.status import Status, status_of

DELETED_AFTER = timedelta(days=30)
RENEWALS_MAX = 120


def overdue_rows(state: State, now: datetime) -> list[Row]:
    """Return the rows that the passing of days up to `now` brings; empty when nothing is due."""
    rows: list[Row] = []
    accounts = dict(state.accounts)
    world = state.world
    for service in state.services.values():
        if not _is_due(service, now):
            continue
        renewed = service
        for charge in _unasked_renewals(service, accounts[service.user], now):
            charge_row = replace(charge, number=world.next_charge_number)
            world = replace(world, next_charge_number=world.next_charge_number + 1)
            account = accounts[service.user]
            accounts[service.user] = replace(account, balance=account.balance - charge.amount)
            renewed = _extended(renewed, charge.period)
            rows.append(charge_row)
        if renewed is service and state.profile.expiry_acts:
            renewed = _ended(service, now)
        if renewed is not service:
            rows.append(renewed)
    if not rows:
        return []
    return [*rows, *(account for user, account in accounts.items() if account is not state.accounts[user]), world]


def _is_due(service: Service, now: datetime) -> bool:
    return (
        service.expires_on is not None
        and service.expires_on < now.date()
        and status_of(service, now) in {Status.ACTIVE, Status.SUSPENDED}
    )


def _unasked_renewals(service: Service, account: Account, now: datetime) -> Iterator[Charge]:
    product = PRODUCTS[service.pricelist]
    period = int(service.autoprolong) if service.autoprolong.isdigit() else LIFETIME
    if period == LIFETIME or period not in product.periods or service.suspended:
        return
    amount = product.price(period) + product.node_price(period) * service.node_count
    balance = account.balance
    for _ in range(RENEWALS_MAX):
        if service.expires_on is None or service.expires_on >= now.date() or balance < amount:
            return
        yield Charge(
            number=0,
            at=now,
            user=service.user,
            amount=amount,
            reason="autoprolong",
            service_id=service.id,
            pricelist=service.pricelist,
            period=period,
            request_number=0,
        )
        balance -= amount
        service = _extended(service, period)


def _extended(service: Service, period: int) -> Service:
    assert service.expires_on is not None  # noqa: S101 - lifetimes are never due
    return replace(service, expires_on=months_later(service.expires_on, period))


def _ended(service: Service, now: datetime) -> Service:
    if service.expires_on is not None and service.expires_on + DELETED_AFTER < now.date():
        return replace(service, deleted_at=now)
    return service if service.suspended else replace(service, suspended=True)
