"""The answer document: a tree of elements, written as XML or by the panel's mechanical JSON mapping.

Rules: docs/protocols/isplicense.md 2. In JSON an element is an object with its text under `$` and its attributes under
`$name`; equal siblings become an array and a single one stands bare.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import orjson

Attributes = tuple[tuple[str, str], ...]
JsonValue = str | list["JsonValue"] | dict[str, "JsonValue"]

XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
JSON_FORMATS = frozenset({"json", "sjson", "xjson"})

_SPECIAL = re.compile('[&<>"]|[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]')
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class Element(NamedTuple):
    """One element; a tuple because a list of ten thousand licenses has a hundred thousand of them."""

    tag: str
    text: str = ""
    attributes: Attributes = ()
    children: tuple["Element", ...] = ()


def find(document: Element, tag: str) -> Element | None:
    """Return the first child of `document` with this tag."""
    return next((child for child in document.children if child.tag == tag), None)


def without(document: Element, *tags: str) -> Element:
    """Return `document` without its children of these tags."""
    return document._replace(children=tuple(child for child in document.children if child.tag not in tags))


def with_children(document: Element, added: Iterable[Element]) -> Element:
    """Return `document` with more children at its end."""
    return document._replace(children=(*document.children, *added))


def escape(text: str) -> str:
    """Return `text` as XML character data; characters that XML 1.0 cannot carry are left out."""
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found.group(), ""), text) if _SPECIAL.search(text) else text


def render_xml(document: Element) -> bytes:
    """Return the document as UTF-8 XML with its declaration."""
    parts = [XML_HEAD]
    _write(document, parts)
    parts.append("\n")
    return "".join(parts).encode()


def render_json(document: Element) -> bytes:
    """Return the document as `{"doc": ...}`."""
    return orjson.dumps({document.tag: _as_json(document)})


def _write(element: Element, parts: list[str]) -> None:
    tag, text, attributes, children = element
    opening = tag + "".join(f' {name}="{escape(value)}"' for name, value in attributes) if attributes else tag
    if children:
        parts.append(f"<{opening}>{escape(text)}")
        for child in children:
            _write(child, parts)
        parts.append(f"</{tag}>")
    elif text:
        parts.append(f"<{opening}>{escape(text)}</{tag}>")
    else:
        parts.append(f"<{opening}/>")


def _as_json(element: Element) -> dict[str, JsonValue]:
    mapped: dict[str, JsonValue] = {f"${name}": value for name, value in element.attributes}
    if element.text:
        mapped["$"] = element.text
    for child in element.children:
        value: JsonValue = _as_json(child)
        earlier = mapped.get(child.tag)
        if earlier is None:
            mapped[child.tag] = value
        elif isinstance(earlier, list):
            earlier.append(value)
        else:
            mapped[child.tag] = [earlier, value]
    return mapped
