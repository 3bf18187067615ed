"""A strict decoder of form-encoded bodies (docs/protocols/isv-endpoint.md 2.3).

Ready-made decoders guess: they keep broken escapes, replace invalid bytes and take any charset that the sender names.
A guess would change what a license is bound to, so everything doubtful is refused here.
"""

import re
from urllib.parse import unquote_to_bytes

from gateway.wire.answer import Invalid

FIELDS_MAX = 64
BYTE_ORDER_MARK = "\ufeff"

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DATE_SEPARATORS = ((b"%2F", b"/"), (b"%2f", b"/"), (b"%5C", b"\\"), (b"%5c", b"\\"))
"""The escapes in every request. In a form without broken escapes nothing else can look like one of these."""


def decode_form(body: bytes) -> list[tuple[str, str]] | Invalid:
    """Return the fields of `body` in order, decoded once; repeated and empty ones included."""
    if body.count(b"&") >= FIELDS_MAX:
        return Invalid(f"the form has more than {FIELDS_MAX} fields")
    if b"%" in body:
        if _BROKEN_ESCAPE.search(body) is not None:
            return Invalid("the form holds an incomplete percent escape")
        for escape, character in _DATE_SEPARATORS:
            body = body.replace(escape, character)
    try:
        fields = []
        for piece in body.decode().replace("+", " ").split("&"):
            name, equals, value = piece.partition("=")
            if not equals or not name:
                return Invalid("the form is not made of name=value pairs joined by &")
            if "%" in piece:
                name, value = unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()
            fields.append((name, value))
    except UnicodeDecodeError:
        return Invalid("the form is not valid UTF-8")
    if fields[0][0].startswith(BYTE_ORDER_MARK):
        return Invalid("the form begins with a byte order mark")
    return fields
