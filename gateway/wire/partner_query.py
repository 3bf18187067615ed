"""Addresses and query parameters of the Partner API (docs/protocols/partner-api.md 2, 3, 5.8)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.wire.partner_errors import Fault, FaultType
from shared.contracts.key_commands import KeyReference
from shared.domain.key_details import KEY_ID_DIGITS_MAX

PARAMETERS_MAX = 64
PARAMETER_LENGTH_MAX = 255
ALL_PARAMETERS = "(all)"

_KEY_ID = re.compile(r"[0-9]+", re.ASCII)
_CODE = re.compile(r"[A-Z0-9]{6}(?:-[A-Z0-9]{6}){4}")
_WHOLE = re.compile(r"[0-9]{1,15}")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

SPELLINGS: Final[Mapping[str, bool]] = {
    "true": True,
    "yes": True,
    "1": True,
    "false": False,
    "no": False,
    "0": False,
}
"""Boolean parameters, in any case."""


def read_address(text: str) -> KeyReference | None:
    """Return which key a path segment names: digits are a key id, all else an activation code, in any case.

    None when no key can have that name.
    """
    if _KEY_ID.fullmatch(text) is not None:
        return KeyReference(key_id=int(text)) if len(text) <= KEY_ID_DIGITS_MAX else None
    code = text.upper() if text.isascii() else ""
    return KeyReference(activation_code=code) if _CODE.fullmatch(code) else None


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of a request, decoded once. Names are case-sensitive."""

    values: Mapping[str, tuple[str, ...]]

    def text(self, name: str) -> str | Fault | None:
        """Return a parameter, None when it is not given; twice is a fault."""
        given = self.values.get(name)
        if given is None:
            return None
        if len(given) > 1 or len(given[0]) > PARAMETER_LENGTH_MAX or "\0" in given[0]:
            return parameter_fault(name)
        return given[0]

    def flag(self, name: str) -> bool | Fault | None:
        """Return a boolean parameter, None when it is not given."""
        text = self.text(name)
        if not isinstance(text, str):
            return text
        value = SPELLINGS.get(text.lower())
        return parameter_fault(name) if value is None else value

    def whole(self, name: str, *, maximum: int) -> int | Fault | None:
        """Return a whole number from zero to `maximum`, None when it is not given."""
        text = self.text(name)
        if not isinstance(text, str):
            return text
        if _WHOLE.fullmatch(text) is None or int(text) > maximum:
            return parameter_fault(name)
        return int(text)

    def one_of(self, name: str, values: tuple[str, ...]) -> str | Fault | None:
        """Return a parameter in lower case that must be one of `values`, None when it is not given."""
        text = self.text(name)
        if not isinstance(text, str):
            return text
        return text.lower() if text.lower() in values else parameter_fault(name)


def parameter_fault(name: str) -> Fault:
    """Return the fault of a parameter that is wrong, given twice, or missing."""
    return Fault(FaultType.PARAMETER, {"parameter": name})


def read_query(raw: str) -> Query | Fault:
    """Return the parameters in a raw query string. Unknown ones are kept, and looked at by nobody."""
    if raw.count("&") >= PARAMETERS_MAX or _BROKEN_ESCAPE.search(raw) is not None:
        return parameter_fault(ALL_PARAMETERS)
    values: dict[str, tuple[str, ...]] = {}
    try:
        for piece in filter(None, raw.split("&")):
            name, _, value = piece.partition("=")
            plain = _plain(name)
            values[plain] = (*values.get(plain, ()), _plain(value))
    except UnicodeDecodeError:
        return parameter_fault(ALL_PARAMETERS)
    return Query(values)


def _plain(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode()
