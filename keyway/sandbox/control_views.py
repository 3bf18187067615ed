"""What the control plane shows of the state: everything a test asks for, and no secret of an account."""

from datetime import datetime

from keyway.sandbox.catalog import money_text
from keyway.sandbox.rows import Account, Charge, Service
from keyway.sandbox.state import State
from keyway.sandbox.status import key_of, status_of

View = dict[str, object]


def state_view(state: State, now: datetime) -> View:
    """Return the whole state at the sandbox's `now`."""
    world = state.world
    return {
        "now": now,
        "clock": {"offset_seconds": world.offset_seconds, "frozen": world.frozen_at is not None},
        "seed": world.seed,
        "next_id": world.next_service_id,
        "listener_hits": world.listener_hits,
        "profile": state.profile,
        "accounts": [account_view(account) for account in state.accounts.values()],
        "licenses": [service_view(service, now) for service in state.services.values()],
        "carts": list(state.cart_items.values()),
        "payments": list(state.payments.values()),
        "filters": list(state.filters.values()),
        "blocked": [address.address for address in state.addresses.values() if address.blocked_until is not None],
        "sessions": len(state.sessions),
        "faults": list(state.faults.values()),
    }


def account_view(account: Account) -> View:
    """Return an account without its secrets."""
    return {
        "user": account.user,
        "balance": money_text(account.balance),
        "currency": account.currency,
        "lang": account.lang,
        "allow_ips": account.allow_ips,
        "second_factor": bool(account.otp),
    }


def service_view(service: Service, now: datetime) -> View:
    """Return a license with the status it has at `now`."""
    return {
        "id": service.id,
        "user": service.user,
        "type": service.kind,
        "pricelist": service.pricelist,
        "licname": service.licname,
        "remoteid": service.remoteid,
        "ip": service.ip,
        "item": service.item,
        "period": service.period,
        "autoprolong": service.autoprolong,
        "nodes": service.node_count,
        "status": int(status_of(service, now)),
        "created": service.created_at,
        "expires": service.expires_on,
        "key": key_of(service, now),
        "min_term_until": service.min_term_until,
    }


def ledger_view(state: State) -> View:
    """Return every charge in order, and what they sum up to."""
    total = sum(charge.amount for charge in state.charges)
    return {"charges": [_charge_view(charge) for charge in state.charges], "total": money_text(total)}


def _charge_view(charge: Charge) -> View:
    return {
        "number": charge.number,
        "time": charge.at,
        "user": charge.user,
        "amount": money_text(charge.amount),
        "reason": charge.reason,
        "license": charge.service_id,
        "pricelist": charge.pricelist,
        "period": charge.period,
        "request": charge.request_number,
        "attempt": charge.attempt,
    }
