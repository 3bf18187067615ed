"""Reads XML of a system that is not ours: nothing is expanded, fetched or believed, and everything has a limit.

A declaration of types or entities is refused before any parser sees it (docs/protocols/isplicense.md 10). The parser
reports to our own target, which counts as it goes, so that a hostile document never becomes a tree.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

DEPTH_MAX = 64
ELEMENTS_MAX = 20_000
ATTRIBUTES_MAX = 100
TEXT_BYTES_MAX = 65_536
BUDGET_SECONDS = 2.0
FEED_BYTES = 16_384

UTF8_BOM = b"\xef\xbb\xbf"
OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
DECLARED_TYPES = re.compile(rb"<!(?:doctype|entity)", re.IGNORECASE)
HTML_PAGE = re.compile(rb"\s{0,200}<!doctype\s{1,20}html(?:\s[^\[>]{0,200})?>", re.IGNORECASE)
XML_DECLARATION = re.compile(rb"<\?xml[^>]{0,200}\?>")
ENCODING = re.compile(rb"encoding\s{0,8}=\s{0,8}[\"']([^\"']{0,40})[\"']")
ENCODINGS = frozenset({b"utf-8", b"us-ascii"})


@dataclass(frozen=True, slots=True)
class Element:
    """One element, read. `text` is its own text, without that of its children, trimmed."""

    name: str
    attributes: Mapping[str, str]
    text: str
    children: tuple["Element", ...]

    def all(self, name: str) -> tuple["Element", ...]:
        """Return the children called `name`."""
        return tuple(child for child in self.children if child.name == name)

    def value(self, name: str) -> str:
        """Return the text of the first child called `name` that has any; missing and empty mean the same."""
        return next((child.text for child in self.children if child.name == name and child.text), "")


class UnreadableAnswerError(Exception):
    """A document that is not read; the text says why, in our words only."""

    def __init__(self, reason: str, *, hostile: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hostile = hostile
        """It is built to harm its reader; belongs in the security log."""


async def read_document(body: bytes) -> Element:
    """Return the root element of `body`, read off the event loop. Raises `UnreadableAnswerError`."""
    try:
        async with asyncio.timeout(BUDGET_SECONDS):
            return await asyncio.to_thread(parse, body, BUDGET_SECONDS)
    except TimeoutError:
        raise UnreadableAnswerError("reading took too long", hostile=True) from None


def parse(body: bytes, budget_seconds: float = BUDGET_SECONDS) -> Element:
    """Return the root element of `body`. Raises `UnreadableAnswerError`."""
    text = _checked_bytes(body)
    target = _LimitedTarget(time.monotonic() + budget_seconds)
    parser = etree.XMLParser(
        target=target,
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        recover=False,
    )
    reason = ""
    try:
        for start in range(0, len(text), FEED_BYTES):
            parser.feed(text[start : start + FEED_BYTES])
        parser.close()
    except (etree.XMLSyntaxError, ValueError) as error:
        reason = f"not well-formed: {type(error).__name__}"
    if reason:
        raise UnreadableAnswerError(reason)
    if target.root is None:
        raise UnreadableAnswerError("no element")
    return target.root


def _checked_bytes(body: bytes) -> bytes:
    """Return the bytes to parse: UTF-8 without its mark, without declared types."""
    declared = DECLARED_TYPES.findall(body.replace(b"\0", b""))
    if declared:
        html = len(declared) == 1 and HTML_PAGE.match(body) is not None
        raise UnreadableAnswerError("an HTML page" if html else "declares types or entities", hostile=not html)
    text = body.removeprefix(UTF8_BOM)
    if text.startswith(OTHER_BOMS) or b"\0" in text:
        raise UnreadableAnswerError("not UTF-8")
    declaration = XML_DECLARATION.match(text.lstrip())
    if declaration is not None:
        encoding = ENCODING.search(declaration.group())
        if encoding is not None and encoding.group(1).lower() not in ENCODINGS:
            raise UnreadableAnswerError("declares another encoding than UTF-8")
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableAnswerError("not UTF-8") from None
    if not text.strip():
        raise UnreadableAnswerError("empty")
    return text.lstrip()


@dataclass(slots=True)
class _Open:
    """An element whose end has not come."""

    name: str
    attributes: Mapping[str, str]
    text: list[str] = field(default_factory=list)
    text_bytes: int = 0
    children: list[Element] = field(default_factory=list)


class _LimitedTarget:
    """What the parser reports to: builds elements, counts everything, stops at the first excess."""

    def __init__(self, deadline: float) -> None:
        self.root: Element | None = None
        self._deadline = deadline
        self._open: list[_Open] = []
        self._elements = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        if self._elements > ELEMENTS_MAX:
            raise UnreadableAnswerError(f"more than {ELEMENTS_MAX} elements", hostile=True)
        if len(self._open) >= DEPTH_MAX:
            raise UnreadableAnswerError(f"deeper than {DEPTH_MAX}", hostile=True)
        if len(attributes) > ATTRIBUTES_MAX:
            raise UnreadableAnswerError(f"more than {ATTRIBUTES_MAX} attributes", hostile=True)
        if any(len(value.encode()) > TEXT_BYTES_MAX for value in attributes.values()):
            raise UnreadableAnswerError(f"an attribute of more than {TEXT_BYTES_MAX} bytes", hostile=True)
        if time.monotonic() > self._deadline:
            raise UnreadableAnswerError("reading took too long", hostile=True)
        self._open.append(_Open(tag, dict(attributes)))

    def data(self, text: str) -> None:
        current = self._open[-1]
        current.text_bytes += len(text.encode())
        if current.text_bytes > TEXT_BYTES_MAX:
            raise UnreadableAnswerError(f"a text of more than {TEXT_BYTES_MAX} bytes", hostile=True)
        current.text.append(text)

    def end(self, _tag: str) -> None:
        done = self._open.pop()
        element = Element(done.name, done.attributes, "".join(done.text).strip(), tuple(done.children))
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element

    def close(self) -> None:
        """Part of the parser's protocol; everything is done by then."""
