"""May one schema follow another? Pure: the released one and the present one in, the breaks out.

What was released stays: other systems read it and write it, and stored events are published again years later. So a
schema may gain optional members and values of an enumeration, and texts may change; nothing else. A ready-made checker
was not taken: those at hand judge whether one schema accepts what another does, which lets through what breaks here (a
member that was always there becomes optional; a member becomes required although replayed events lack it).
"""

from collections.abc import Mapping
from typing import Any

TEXTS = frozenset({"$schema", "$id", "$comment", "title", "description", "examples", "default"})
Document = Mapping[str, Any]


def breaks(released: Mapping[str, Document], present: Mapping[str, Document]) -> list[str]:
    """Return one sentence per break between two sets of schemas, by type; none when the present may follow."""
    found = []
    for name, before in released.items():
        after = present.get(name)
        if after is None:
            found.append(f"{name}: the type is gone")
        else:
            found += _breaks(name, before, after)
    return found


def _breaks(place: str, before: Document, after: Document) -> list[str]:
    found = _member_breaks(place, before, after) + _requirement_breaks(place, before, after)
    if "enum" in before and "enum" in after:
        gone = [value for value in before["enum"] if value not in after["enum"]]
        found += [f"{place}: the value {value!r} is gone" for value in gone]
    keywords = (before.keys() | after.keys()) - TEXTS - {"properties", "required"}
    if "enum" in before and "enum" in after:
        keywords -= {"enum"}
    found += [
        f"{place}: {keyword} was {_shown(before, keyword)}, is {_shown(after, keyword)}"
        for keyword in sorted(keywords)
        if _plain(before.get(keyword)) != _plain(after.get(keyword))
    ]
    return found


def _member_breaks(place: str, before: Document, after: Document) -> list[str]:
    found: list[str] = []
    members = after.get("properties", {})
    for name, schema in before.get("properties", {}).items():
        if name not in members:
            found.append(f"{place}: member {name} is gone")
        else:
            found += _breaks(f"{place}.{name}", schema, members[name])
    return found


def _requirement_breaks(place: str, before: Document, after: Document) -> list[str]:
    old, new = set(before.get("required", ())), set(after.get("required", ()))
    return [f"{place}: member {name} is required now" for name in sorted(new - old)] + [
        f"{place}: member {name} is no longer always there" for name in sorted(old - new)
    ]


def _shown(schema: Document, keyword: str) -> str:
    return repr(_plain(schema[keyword])) if keyword in schema else "not there"


def _plain(value: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Return a part of a schema without its texts."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items() if name not in TEXTS}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value
