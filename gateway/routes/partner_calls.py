"""What a Partner API request asks: its path, method, parameters and body as one value, and the command made of it.

Methods and parameters: docs/protocols/partner-api.md 3. Nothing here waits or looks anything up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Final, assert_never
from urllib.parse import unquote

from aiohttp import hdrs

from gateway.wire.partner import read_change, read_new_key
from gateway.wire.partner_errors import Fault, FaultType
from gateway.wire.partner_query import Query, parameter_fault
from shared.contracts.key_commands import (
    ConvertToEdition,
    CreateKey,
    Edition,
    Idempotency,
    KeyCommand,
    KeyMembers,
    ModifyKey,
    PlanKey,
    ReinstateSus,
    RenewKey,
    RenewSus,
    SetRemainingActivations,
    TerminateKey,
)
from shared.domain.key_modification import canonical_address
from shared.domain.key_queries import FoundKey, FraudKind, KeyFilter, KeyType

BASE = "/30/"
COLLECTION = "keys"
RETURN_STATE = "return-key-state"
DRY_RUN = "dry-run"
STATUSES = ("active", "expired", "expiring", "terminated", "suspended")
SHOWN_KEY_LENGTH_MAX = 64
ACTIVATIONS_MAX = 1_000_000
KEY_SEGMENTS = 2
"""`keys/<ID>`"""


class Action(StrEnum):
    """The twelve commands of docs/protocols/partner-api.md 3; values are names in logs and metrics."""

    CREATE = "create_key"
    SEARCH = "search_keys"
    GET = "get_key"
    MODIFY = "modify_key"
    TERMINATE = "terminate_key"
    RETRIEVE = "retrieve_key"
    RENEW = "renew_key"
    RENEW_SUS = "renew_sus"
    REINSTATE_SUS = "reinstate_sus"
    CONVERT = "convert_to_edition"
    READ_ACTIVATIONS = "read_activations"
    SET_ACTIVATIONS = "set_activations"


ACTIONS: Final[Mapping[str, Mapping[str, Action]]] = {
    "": {hdrs.METH_GET: Action.SEARCH, hdrs.METH_POST: Action.CREATE},
    "key": {hdrs.METH_GET: Action.GET, hdrs.METH_PUT: Action.MODIFY, hdrs.METH_DELETE: Action.TERMINATE},
    "retrieve": {hdrs.METH_GET: Action.RETRIEVE},
    "renew": {hdrs.METH_GET: Action.RENEW},
    "renew-sus": {hdrs.METH_POST: Action.RENEW_SUS},
    "reinstate-sus": {hdrs.METH_POST: Action.REINSTATE_SUS},
    "convert-to-edition": {hdrs.METH_POST: Action.CONVERT},
    "remaining-activations": {hdrs.METH_GET: Action.READ_ACTIVATIONS, hdrs.METH_POST: Action.SET_ACTIVATIONS},
}
"""By the last part of the path, then by method."""
WITH_BODY = frozenset({Action.CREATE, Action.MODIFY})
NAMEABLE = frozenset(
    {
        Action.CREATE,
        Action.MODIFY,
        Action.RENEW_SUS,
        Action.REINSTATE_SUS,
        Action.CONVERT,
        Action.SET_ACTIVATIONS,
    }
)
"""Those that take an `Idempotency-Key` (3.2)."""
STATELESS = frozenset({Action.SEARCH, Action.GET, Action.RETRIEVE, Action.READ_ACTIVATIONS, Action.SET_ACTIVATIONS})
"""Those for which `return-key-state` means nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the path and method name."""

    action: Action
    key: str
    """The path's name of the key, decoded; empty for the collection."""


def read_place(raw_path: str, method: str) -> Place | Fault:
    """Return what to do where, or the 404 or 405 (5.6, step 2)."""
    segments = raw_path.removeprefix(BASE).split("/")
    if segments[0] != COLLECTION or "" in segments[1:] or len(segments) > KEY_SEGMENTS + 1:
        return Fault(FaultType.NOT_FOUND)
    last = segments[-1] if len(segments) > KEY_SEGMENTS else "key" if len(segments) == KEY_SEGMENTS else ""
    methods = None if len(segments) > KEY_SEGMENTS and last == "key" else ACTIONS.get(last)
    if methods is None:
        return Fault(FaultType.NOT_FOUND)
    action = methods.get(method)
    if action is None:
        return Fault(FaultType.METHOD, {"allowed": ", ".join(methods)})
    return Place(action, unquote(segments[1]) if len(segments) > 1 else "")


def unknown_key(name: str) -> Fault:
    """Return the 404 of a key; its name is shown when it is short and plain."""
    shown = name if name.isprintable() and name.isascii() and len(name) <= SHOWN_KEY_LENGTH_MAX else ""
    return Fault(FaultType.NOT_FOUND, {"key": shown})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that could be read. Members that its action does not have keep their defaults."""

    action: Action
    asked_by: str
    return_state: bool = False
    dry_run: bool = False
    previous_version: bool = False
    external_id: str | None = None
    edition: str = ""
    remaining: int = 0
    filter: KeyFilter = field(default_factory=KeyFilter)
    members: KeyMembers = field(default_factory=KeyMembers)
    idempotency: Idempotency | None = None


class _FaultError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault


def read_call(
    action: Action, *, account: str, query: Query, path: str, body: bytes, request_name: str | None
) -> Call | Fault:
    """Return what `account` asks for, or why it cannot be read: parameters first, then the body (5.6, steps 4 to 6).

    `request_name` is the `Idempotency-Key`, already checked.
    """
    try:
        call = _with_parameters(action, account, query)
        members = _members(action, body)
    except _FaultError as error:
        return error.fault
    named = None
    if request_name is not None and action in NAMEABLE:
        about = f"{action} {path} {call.edition} {call.external_id} {call.remaining} ".encode()
        named = Idempotency(key=request_name, body_sha256=sha256(about + body).hexdigest())
    return replace(call, members=members, idempotency=named)


def _with_parameters(action: Action, account: str, query: Query) -> Call:
    call = Call(action=action, asked_by=account, return_state=action not in STATELESS and _flag(query, RETURN_STATE))
    match action:
        case Action.SEARCH:
            call = replace(call, filter=_filter(query))
        case Action.RETRIEVE:
            call = replace(call, previous_version=_flag(query, "previous-version"))
        case Action.CONVERT:
            edition = _sound(query.one_of("edition", tuple(edition.value for edition in Edition)))
            if edition is None:
                raise _FaultError(parameter_fault("edition"))
            call = replace(call, edition=edition)
        case Action.SET_ACTIVATIONS:
            remaining = query.whole("remaining-activations", maximum=ACTIVATIONS_MAX)
            if remaining is None or isinstance(remaining, Fault):
                raise _FaultError(parameter_fault("remaining-activations"))
            call = replace(call, remaining=remaining)
        case Action.REINSTATE_SUS:
            call = replace(call, external_id=_sound(query.text("externalId")))
        case Action.MODIFY:
            call = replace(call, dry_run=_flag(query, DRY_RUN))
        case _:
            pass
    return call


def _members(action: Action, body: bytes) -> KeyMembers:
    match action:
        case Action.CREATE:
            members = read_new_key(body)
        case Action.MODIFY:
            members = read_change(body)
        case _:
            return KeyMembers()
    if isinstance(members, Fault):
        raise _FaultError(members)
    return members


def _filter(query: Query) -> KeyFilter:
    address = _sound(query.text("ip-address-binding"))
    status = _sound(query.one_of("status", STATUSES))
    kind = _sound(query.one_of("type", tuple(kind.value for kind in KeyType)))
    fraud = _sound(query.one_of("fraud", tuple(kind.value for kind in FraudKind)))
    return KeyFilter(
        address=None if address is None else canonical_address(address) or address,  # the latter is bound to no key
        nickname=_sound(query.text("nickname")),
        uid=_sound(query.text("uid")),
        product=_sound(query.text("product")),
        status=None if status is None else status.upper(),
        type=None if kind is None else KeyType(kind),
        fraud=None if fraud is None else FraudKind(fraud),
        restrict_address=_optional_flag(query, "restrict-ip-binding"),
        is_els=_optional_flag(query, "is-els"),
    )


def _sound(text: str | Fault | None) -> str | None:
    if isinstance(text, Fault):
        raise _FaultError(text)
    return text


def _optional_flag(query: Query, name: str) -> bool | None:
    flag = query.flag(name)
    if isinstance(flag, Fault):
        raise _FaultError(flag)
    return flag


def _flag(query: Query, name: str) -> bool:
    return _optional_flag(query, name) or False


def command_of(call: Call, key: FoundKey) -> KeyCommand | PlanKey:  # noqa: PLR0911 - one per command
    """Return the command that `call` means for `key`; for a new one, that with the number drawn for it."""
    account, number, asked_by = key.account, key.number, call.asked_by
    state, named = call.return_state, call.idempotency
    match call.action:
        case Action.CREATE:
            return CreateKey(
                account=account,
                number=number,
                asked_by=asked_by,
                members=call.members,
                return_state=state,
                idempotency=named,
            )
        case Action.MODIFY:
            return _modification(call, key)
        case Action.TERMINATE:
            return TerminateKey(account=account, number=number, asked_by=asked_by, return_state=state)
        case Action.RENEW:
            return RenewKey(account=account, number=number, asked_by=asked_by, return_state=state)
        case Action.RENEW_SUS:
            return RenewSus(account=account, number=number, asked_by=asked_by, return_state=state, idempotency=named)
        case Action.REINSTATE_SUS:
            return ReinstateSus(
                account=account,
                number=number,
                asked_by=asked_by,
                external_id=call.external_id,
                return_state=state,
                idempotency=named,
            )
        case Action.CONVERT:
            return ConvertToEdition(
                account=account,
                number=number,
                asked_by=asked_by,
                edition=Edition(call.edition),
                return_state=state,
                idempotency=named,
            )
        case Action.SET_ACTIVATIONS:
            return SetRemainingActivations(
                account=account, number=number, asked_by=asked_by, remaining=call.remaining, idempotency=named
            )
        case Action.SEARCH | Action.GET | Action.RETRIEVE | Action.READ_ACTIVATIONS:
            raise ValueError(f"{call.action} is read, not commanded")
        case _:
            assert_never(call.action)


def _modification(call: Call, key: FoundKey) -> ModifyKey | PlanKey:
    if call.dry_run:
        return PlanKey(account=key.account, number=key.number, asked_by=call.asked_by, members=call.members)
    return ModifyKey(
        account=key.account,
        number=key.number,
        asked_by=call.asked_by,
        members=call.members,
        return_state=call.return_state,
        idempotency=call.idempotency,
    )
