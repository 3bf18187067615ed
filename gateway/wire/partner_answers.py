"""The successes of the Partner API in bytes, and the two headers by which callers and we agree on JSON."""

import re
from base64 import b64encode
from collections.abc import Sequence
from xml.sax.saxutils import escape

import orjson

from gateway.wire.answer import JSON_TEXT, NO_SNIFF, Answer
from shared.domain.key_queries import ActivationsLeft, KeyFile

_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_JSON_RANGES = frozenset({"application/json", "application/*", "*/*"})
_ZERO = re.compile(r"0(?:\.0{0,3})?")
CHARSETS = frozenset({"utf-8", "utf8"})


def is_json(content_types: Sequence[str]) -> bool:
    """Whether the `Content-Type` headers say JSON in UTF-8 (docs/protocols/partner-api.md 8)."""
    if len(content_types) != 1:
        return False
    media_type, *parameters = content_types[0].split(";")
    if media_type.strip().lower() != "application/json":
        return False
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in CHARSETS:
            return False
    return True


def admits_json(accepts: Sequence[str]) -> bool:
    """Whether the `Accept` headers, if any, let an answer be JSON. The most specific range that fits decides."""
    ranges = [part for accept in accepts for part in accept.split(",") if part.strip()]
    if not ranges:
        return True
    fitting: dict[str, bool] = {}
    for part in ranges:
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        if media_range.lower() in _JSON_RANGES:
            refused = any(_is_zero_quality(parameter) for parameter in parameters)
            fitting.setdefault(media_range.lower(), not refused)
    for media_range in ("application/json", "application/*", "*/*"):
        if media_range in fitting:
            return fitting[media_range]
    return False


def _is_zero_quality(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip().lower() == "q" and _ZERO.fullmatch(value.strip()) is not None


def state_answer(status: int, structure: bytes, extra_head: bytes = b"") -> Answer:
    """Return a success with a structure, or with an empty body when there is none to show (5.8)."""
    return Answer(status, (JSON_TEXT if structure else NO_SNIFF) + extra_head, structure)


def location_head(scheme: str, host: str, key_id: bytes) -> bytes:
    """Return the `Location` of a new key; without a host name that can be one, relative to the server."""
    base = f"{scheme}://{host}" if _HOST.fullmatch(host) is not None else ""
    return b"Location: %s/30/keys/%s\r\n" % (base.encode("ascii"), key_id)


def activations_answer(left: ActivationsLeft) -> Answer:
    """Return the remaining activations as the vendor's array of one (docs/protocols/partner-api.md 3)."""
    return state_answer(200, orjson.dumps([{"keyNumber": left.key_id, "remainingActivations": left.remaining}]))


def key_file_answer(file: KeyFile, *, previous_version: bool) -> Answer:
    """Return the key file: XML around the license body, or with `previous_version` the bare body."""
    head = b"Content-Type: application/octet-stream\r\n" + NO_SNIFF
    head += b"Content-Disposition: attachment; filename=%s.xml\r\n" % file.key_number.encode("ascii")
    return Answer(200, head, file.body if previous_version else _document(file))


def _document(file: KeyFile) -> bytes:
    try:
        encoding, text = "text", escape(file.body.decode())
    except UnicodeDecodeError:
        encoding, text = "base64", b64encode(file.body).decode("ascii")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<license-key number="{file.key_number}" revision="{file.revision}">\n'
        f'  <body encoding="{encoding}">{text}</body>\n'
        "</license-key>\n"
    ).encode()
