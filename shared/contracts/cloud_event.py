"""Public events of other systems, read: CloudEvents 1.0 in structured mode (the record value is the JSON event).

Strict in what the attributes must be, lenient in what it does not know. What cannot be read raises
`InvalidRecordError` with a reason that fits a dead letter: `not_json`, `version`, `envelope`, `payload`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from shared.errors import InvalidRecordError

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/cloudevents+json"
"""Record header `content-type` of an event in structured mode. JSON is UTF-8 anyway: no parameter is added."""
ATTRIBUTE_BYTES_MAX = 1000
"""Of `source` and of `id`, in UTF-8: together they are an index key for as long as the data lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """One event as its sender wrote it. `source` and `id` together name it."""

    source: str
    id: str
    type: str
    time: datetime | None
    """Aware UTC, by the sender's clock; None when it did not say."""
    data: Mapping[str, Any]


def read_cloud_event(value: bytes | None) -> CloudEvent:
    """Return the event in a record value. Raises `InvalidRecordError`."""
    members = read_object(value)
    version = members.get("specversion")
    if version != SPEC_VERSION:
        raise InvalidRecordError("version", f"CloudEvents specversion {str(version)[:80]!r}, read here: {SPEC_VERSION}")
    return CloudEvent(
        source=_text(members, "source"),
        id=_text(members, "id"),
        type=_text(members, "type"),
        time=_time(members.get("time")),
        data=_data(members),
    )


def read_object(value: bytes | None) -> dict[str, Any]:
    """Return the members of the JSON object that a record value must be. Raises `InvalidRecordError` (`not_json`)."""
    if value is None:
        raise InvalidRecordError("not_json", "the value is null")
    try:
        members = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise InvalidRecordError("not_json", f"{error.msg} at {error.pos}") from None
    if not isinstance(members, dict):
        raise InvalidRecordError("not_json", f"a JSON {type(members).__name__}, not an object")
    return members


def _text(members: Mapping[str, Any], name: str) -> str:
    text = members.get(name)
    if not isinstance(text, str) or not text:
        raise InvalidRecordError("envelope", f"{name} is missing, empty or no text")
    if len(text.encode()) > ATTRIBUTE_BYTES_MAX:
        raise InvalidRecordError("envelope", f"{name} is longer than {ATTRIBUTE_BYTES_MAX} bytes")
    if any(ord(letter) < ord(" ") or ord("\x7f") <= ord(letter) <= ord("\x9f") for letter in text):
        raise InvalidRecordError("envelope", f"{name} holds a control character")
    return text


def _time(text: object) -> datetime | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidRecordError("envelope", "time is no text")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise InvalidRecordError("envelope", f"time {text[:80]!r} has no zone")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRecordError("envelope", f"time {text[:80]!r} is no RFC 3339 time") from None


def _data(members: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = members.get("datacontenttype", "application/json")
    plain = kind.partition(";")[0].strip().lower() if isinstance(kind, str) else ""
    if plain != "application/json" and not plain.endswith("+json"):
        raise InvalidRecordError("payload", f"datacontenttype {str(kind)[:80]!r} is not JSON")
    data = members.get("data")
    if not isinstance(data, dict):
        raise InvalidRecordError("payload", "data is missing or no JSON object")
    return data
