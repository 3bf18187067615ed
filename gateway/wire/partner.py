"""The JSON bodies of the Partner API: strict about syntax, lenient in scalars (docs/protocols/partner-api.md 8).

What comes out is `KeyMembers`: known members only, of their documented types, and which of them were given, so that an
omitted member, a null and a value stay three different inputs. Judging values against the stored key is the workers'
business.
"""

import json
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeAlias

import orjson

from gateway.wire.partner_errors import Fault, FaultType
from shared.contracts.key_commands import KeyMember, KeyMembers, KeyReference, WantedActivation, WantedItem

TEXT_LENGTH_MAX = 255
ITEMS_MAX = 100
QUANTITY_MAX = 1_000_000
WHOLE_DIGITS_MAX = 15
"""Whole numbers are below 10^15: every JSON reader holds them exactly."""

_WHOLE = re.compile(rf"[0-9]{{1,{WHOLE_DIGITS_MAX}}}")

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Object: TypeAlias = "dict[str, Json]"


class _FaultError(Exception):
    """Leaves a nested check; never leaves this module."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault


class _Odd(float):
    """A number that is no documented value: a fraction, an exponent, minus zero, or too long."""


def read_new_key(body: bytes) -> KeyMembers | Fault:
    """Return the members of a key to be created (partner-api 3, 4), or why they cannot be read."""
    try:
        members = _members(_object(body))
        _check_new_key(members)
    except _FaultError as error:
        return error.fault
    return members


def read_change(body: bytes) -> KeyMembers | Fault:
    """Return the members of a PUT (partner-api 5), or why they cannot be read."""
    try:
        return _members(_object(body))
    except _FaultError as error:
        return error.fault


def _check_new_key(members: KeyMembers) -> None:
    if members.guard is not None and members.guard != KeyReference():
        raise _FaultError(Fault(FaultType.IDENTIFIERS_ON_CREATE, {"field": "keyIdentifiers"}))
    if KeyMember.ITEMS in members.given and members.items is None:
        raise _null("items")
    if not members.items:
        raise _wrong("items")
    if members.terminated:
        raise _wrong("terminated")
    if members.suspended:
        raise _wrong("suspended")


def _object(body: bytes) -> Object:
    """Return the one non-empty object in `body`, every member named once."""
    try:
        document = json.loads(
            body.decode(),
            object_pairs_hook=_named_once,
            parse_constant=_no_number,
            parse_float=_Odd,
            parse_int=_whole_or_odd,
        )
        orjson.dumps(document, default=float)  # refuses lone surrogates, and deeper nesting than anybody means
    except (ValueError, TypeError, RecursionError):
        raise _FaultError(Fault(FaultType.BODY)) from None
    if not isinstance(document, dict) or not document:
        raise _FaultError(Fault(FaultType.BODY))
    return document


def _named_once(pairs: list[tuple[str, Json]]) -> Object:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _FaultError(Fault(FaultType.BODY))
    return members


def _no_number(_text: str) -> Json:
    raise _FaultError(Fault(FaultType.BODY))


def _whole_or_odd(text: str) -> int | _Odd:
    return int(text) if len(text) <= WHOLE_DIGITS_MAX and text != "-0" else _Odd(text)


WIRE_NAMES: Final = {
    KeyMember.OWNER: "ownerId",
    KeyMember.GUARD: "keyIdentifiers",
    KeyMember.PARENT: "parentKeyIdentifiers",
    KeyMember.ACTIVATION: "activationInfo",
    KeyMember.ADDRESS: "ipAddressBinding",
    KeyMember.RESTRICT_ADDRESS: "restrictIPBinding",
    KeyMember.NICKNAME: "nickname",
    KeyMember.CONFIGURATION: "productConfigurationId",
    KeyMember.ITEMS: "items",
    KeyMember.TERMINATED: "terminated",
    KeyMember.SUSPENDED: "suspended",
    KeyMember.AUTO_RENEW: "autoRenew",
}
"""Every member with which a request can mean something; all others are ignored (partner-api 5.5)."""
NEVER_NULL: Final = frozenset(
    {
        KeyMember.OWNER,
        KeyMember.GUARD,
        KeyMember.RESTRICT_ADDRESS,
        KeyMember.TERMINATED,
        KeyMember.SUSPENDED,
        KeyMember.AUTO_RENEW,
    }
)


@dataclass(frozen=True, slots=True)
class _Given:
    """The members of a request by our names, nulls checked."""

    members: dict[KeyMember, Json]

    @classmethod
    def of(cls, document: Object) -> "_Given":
        members = {member: document[name] for member, name in WIRE_NAMES.items() if name in document}
        for member, value in members.items():
            if value is None and member in NEVER_NULL:
                raise _null(WIRE_NAMES[member])
        return cls(members)

    def flag(self, member: KeyMember) -> bool | None:
        value = self.members.get(member)
        return None if value is None else _flag(WIRE_NAMES[member], value)

    def value(self, member: KeyMember) -> Json:
        return self.members.get(member)


def _members(document: Object) -> KeyMembers:
    given = _Given.of(document)
    owner, address, nickname = (
        given.value(KeyMember.OWNER),
        given.value(KeyMember.ADDRESS),
        given.value(KeyMember.NICKNAME),
    )
    configuration = given.value(KeyMember.CONFIGURATION)
    return KeyMembers(
        given=tuple(given.members),
        owner_id=None if owner is None else _id_text("ownerId", owner),
        guard=_reference("keyIdentifiers", given.value(KeyMember.GUARD)),
        parent=_parent(given.value(KeyMember.PARENT)),
        activation=_activation(given.value(KeyMember.ACTIVATION)),
        address=None if address is None else _address(address),
        restrict_address=given.flag(KeyMember.RESTRICT_ADDRESS),
        nickname=None if nickname is None else _text("nickname", nickname),
        configuration_id=None if configuration is None else _whole("productConfigurationId", configuration),
        items=_items(given.value(KeyMember.ITEMS)),
        terminated=given.flag(KeyMember.TERMINATED),
        suspended=given.flag(KeyMember.SUSPENDED),
        auto_renew=given.flag(KeyMember.AUTO_RENEW),
    )


def _wrong(field: str) -> _FaultError:
    return _FaultError(Fault(FaultType.FIELD_WRONG, {"field": field}))


def _null(field: str) -> _FaultError:
    return _FaultError(Fault(FaultType.FIELD_NULL, {"field": field}))


def _flag(field: str, value: Json) -> bool:
    match value:
        case bool():
            return value
        case str() if value.lower() in {"true", "false"}:
            return value.lower() == "true"
        case int() if value in {0, 1}:
            return value == 1
        case _:
            raise _wrong(field)


def _whole(field: str, value: Json) -> int:
    match value:
        case bool():
            raise _wrong(field)
        case str() if _WHOLE.fullmatch(value) is not None:
            return int(value)
        case int() if value >= 0:
            return value
        case _:
            raise _wrong(field)


def _text(field: str, value: Json) -> str:
    if not isinstance(value, str) or len(value) > TEXT_LENGTH_MAX or "\0" in value:
        raise _wrong(field)
    return value


def _id_text(field: str, value: Json) -> str:
    """Return a text id, which may also be written as a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(field, value)


def _address(value: Json) -> str:
    if not isinstance(value, str) or "%" in value:
        raise _wrong("ipAddressBinding")
    try:
        return str(ip_address(value))
    except ValueError:
        raise _wrong("ipAddressBinding") from None


def _reference(field: str, value: Json) -> KeyReference | None:
    if value is None:
        return None
    members = _nested(field, value, never_null=("keyId", "keyNumber", "activationCode"))
    key_id, number, code = (members.get(name) for name in ("keyId", "keyNumber", "activationCode"))
    return KeyReference(
        key_id=None if key_id is None else _whole(f"{field}.keyId", key_id),
        key_number=None if number is None else _text(f"{field}.keyNumber", number),
        activation_code=None if code is None else _text(f"{field}.activationCode", code),
    )


def _parent(value: Json) -> KeyReference | None:
    reference = _reference("parentKeyIdentifiers", value)
    if reference == KeyReference():
        raise _wrong("parentKeyIdentifiers")
    return reference


def _activation(value: Json) -> WantedActivation | None:
    if value is None:
        return None
    members = _nested("activationInfo", value, never_null=("activated",))
    uid, activated = members.get("uid"), members.get("activated")
    return WantedActivation(
        uid=None if uid is None else _text("activationInfo.uid", uid),
        activated=None if activated is None else _flag("activationInfo.activated", activated),
    )


def _items(value: Json) -> tuple[WantedItem, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > ITEMS_MAX:
        raise _wrong("items")
    return tuple(_item(f"items[{position}]", item) for position, item in enumerate(value))


def _item(field: str, value: Json) -> WantedItem:
    members = _nested(field, value, never_null=("item", "quantity"))
    constant, external = _text(f"{field}.item", members.get("item")), members.get("externalId")
    quantity = _whole(f"{field}.quantity", members.get("quantity", 1))
    if not constant:
        raise _wrong(f"{field}.item")
    if not 1 <= quantity <= QUANTITY_MAX:
        raise _wrong(f"{field}.quantity")
    return WantedItem(
        item=constant,
        quantity=quantity,
        external_id=None if external is None else _id_text(f"{field}.externalId", external),
        external_id_given="externalId" in members,
    )


def _nested(field: str, value: Json, *, never_null: tuple[str, ...]) -> Object:
    if not isinstance(value, dict):
        raise _wrong(field)
    for name in never_null:
        if name in value and value[name] is None:
            raise _null(f"{field}.{name}")
    return value
