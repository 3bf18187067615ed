"""Who calls: `authinfo`, sessions, address lists, second factor, the optional ban.

Rules: docs/protocols/isplicense.md 4, 13.3.
"""

import hashlib
import hmac
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from keyway.sandbox.call import Call, Draft, PanelError
from keyway.sandbox.document import Element
from keyway.sandbox.forms import Form
from keyway.sandbox.rows import Account, Address, Session
from keyway.sandbox.state import State
from keyway.sandbox.texts import Text

SESSION_IDLE = timedelta(hours=1)
SESSION_LEVEL = "16"


def claimed_user(form: Form, state: State) -> str:
    """Return the user that the call names, proven or not: faults are matched before anybody is authenticated."""
    authinfo = form.value("authinfo")
    if authinfo:
        return authinfo.partition(":")[0]
    session = state.sessions.get(form.value("auth"))
    return session.user if session is not None else form.value("username")


def authenticate(call: Call, draft: Draft) -> tuple[Account, bool]:
    """Return the caller's account, and whether a second factor is still wanted. Raises `PanelError`."""
    _refuse_blocked(call, draft.state)
    authinfo = call.form.value("authinfo")
    if authinfo:
        user, _, password = authinfo.partition(":")
        account = _checked(call, draft.state, user, password)
        return account, bool(account.otp)
    session = draft.state.sessions.get(call.form.value("auth"))
    if session is None or session.address != call.address or call.now - session.used_at > SESSION_IDLE:
        raise _wrong(call, draft.state)
    draft.put(replace(session, used_at=call.now))
    account = draft.state.accounts[session.user]
    _refuse_address(call, account)
    return account, not session.confirmed


def log_in(call: Call, draft: Draft) -> tuple[Element, ...]:
    """Answer `func=auth`: a session for user name and password (12, example 21)."""
    _refuse_blocked(call, draft.state)
    account = _checked(call, draft.state, call.value("username"), call.form.parameters.get("password", ""))
    return (_open_session(call, draft, account, confirmed=not account.otp),)


def confirm_second_factor(call: Call, draft: Draft, account: Account) -> tuple[Element, ...]:
    """Answer `func=totp.confirm`: a new, confirmed session for the right code."""
    if not call.is_submit:
        return (Element("qrcode"),)
    if not account.otp or not hmac.compare_digest(call.value("qrcode").encode(), account.otp.encode()):
        raise PanelError("value", "qrcode", Text.BAD_VALUE)
    return (_open_session(call, draft, account, confirmed=True), Element("ok"))


def _open_session(call: Call, draft: Draft, account: Account, *, confirmed: bool) -> Element:
    digest = hashlib.sha256(f"{draft.world.seed}:session:{draft.token()}:{account.password}".encode())
    session_id = digest.hexdigest()[:24]
    draft.put(Session(id=session_id, user=account.user, address=call.address, used_at=call.now, confirmed=confirmed))
    return Element("auth", session_id, (("id", session_id), ("level", SESSION_LEVEL)))


def _checked(call: Call, state: State, user: str, password: str) -> Account:
    account = state.accounts.get(user)
    if account is None or not hmac.compare_digest(account.password.encode(), password.encode("utf-8", "replace")):
        raise _wrong(call, state)
    _refuse_address(call, account)
    return account


def _refuse_address(call: Call, account: Account) -> None:
    if account.allow_ips and not any(
        ip_address(call.address) in ip_network(allowed, strict=False) for allowed in account.allow_ips
    ):
        raise PanelError("access", "authinfo", Text.NO_ACCESS)


def _refuse_blocked(call: Call, state: State) -> None:
    address = state.addresses.get(call.address)
    if (
        state.profile.ban
        and address is not None
        and address.blocked_until is not None
        and call.now < address.blocked_until
    ):
        raise PanelError("auth", "blocked", Text.BLOCKED, value=f"remote_addr: [{call.address}]", detailed=True)


def _wrong(call: Call, state: State) -> PanelError:
    """Return the refusal of wrong credentials; where the ban is on it also remembers the failure."""
    rows = (_after_failure(call.address, call.now, state),) if state.profile.ban else ()
    value = f"remote_addr: [{call.address}]"
    return PanelError("auth", "badpassword", Text.WRONG_PAIR, value=value, rows=rows, detailed=True)


def _after_failure(address: str, now: datetime, state: State) -> Address:
    profile = state.profile
    known = state.addresses.get(address, Address(address=address))
    window_start = now - timedelta(seconds=profile.ban_window_seconds)
    failed_at = (*(moment for moment in known.failed_at if moment > window_start), now)
    if len(failed_at) < profile.ban_failures:
        return replace(known, failed_at=failed_at)
    return replace(known, failed_at=(), blocked_until=now + timedelta(seconds=profile.ban_seconds))
