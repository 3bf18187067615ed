"""Reading a request's parameters: query string and body are one list, and the first value of a name wins.

Rules: docs/protocols/isplicense.md 1, 13.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

BODY_BYTES_MAX = 256 * 1024
PARAMETERS_MAX = 1000


class FormError(Exception):
    """The parameters cannot be read at all; the front server answers, not the panel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The parameters of one request, and which of them stood in the query string."""

    parameters: Mapping[str, str]
    query_names: frozenset[str]

    def value(self, name: str) -> str:
        """Return the value of `name` without surrounding blanks; a missing parameter is an empty one."""
        return self.parameters.get(name, "").strip()


def read_form(query: str, body: bytes) -> Form:
    """Return the merged parameters. Raises `FormError` for more than `PARAMETERS_MAX` of them."""
    merged: dict[str, str] = {}
    in_query = _pairs(storable(query))
    for name, value in (*in_query, *_pairs(body.decode("utf-8", "replace"))):
        merged.setdefault(name, value)
    return Form(parameters=merged, query_names=frozenset(name for name, _ in in_query))


def storable(text: str) -> str:
    """Return text without the stand-ins for undecodable bytes that HTTP parsing leaves: no file takes them."""
    return text.encode("utf-8", "replace").decode()


def _pairs(encoded: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(encoded, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise FormError(f"more than {PARAMETERS_MAX} parameters") from None
