"""Hostile bodies: documents made to read files, reach out, or blow up whoever parses them.

Rules: docs/protocols/isplicense.md 13.4, group "hostile XML".
"""

import zlib
from collections.abc import Iterator

from keyway.sandbox.document import escape

ENTITY_LEVELS = 10
ENTITY_FAN = 10
QUADRATIC_ENTITY_BYTES = 100 * 1024
QUADRATIC_USES = 10_000
MEBIBYTE = 1024 * 1024

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_HUGE_START = b'<?xml version="1.0" encoding="UTF-8"?>\n<doc><id>1</id><ok/>'
_HUGE_END = b"</doc>"
_HUGE_ROW = b"<elem><id>1</id><licname>filler of a huge answer</licname></elem>"


def external_entities(file: str, listener_url: str) -> bytes:
    """Return a document whose entities name a local file and our listener."""
    return (
        f'{_HEAD}<!DOCTYPE doc [<!ENTITY file SYSTEM "file://{escape(file)}">'
        f'<!ENTITY net SYSTEM "{escape(listener_url)}">]>\n<doc><id>&file;</id><ok>&net;</ok></doc>'
    ).encode()


def external_subset(listener_url: str) -> bytes:
    """Return a document with an external DTD and an external parameter entity, both at our listener."""
    url = escape(listener_url)
    return (
        f'{_HEAD}<!DOCTYPE doc SYSTEM "{url}?dtd" [<!ENTITY % net SYSTEM "{url}?parameter"> %net;]>\n'
        "<doc><id>1</id><ok/></doc>"
    ).encode()


def billion_laughs() -> bytes:
    """Return nested entities that expand tenfold on each of ten levels."""
    entities = ['<!ENTITY l0 "ha">']
    entities += [f'<!ENTITY l{level} "{f"&l{level - 1};" * ENTITY_FAN}">' for level in range(1, ENTITY_LEVELS + 1)]
    return f"{_HEAD}<!DOCTYPE doc [{''.join(entities)}]>\n<doc><id>&l{ENTITY_LEVELS};</id></doc>".encode()


def quadratic_blowup() -> bytes:
    """Return one long entity used ten thousand times."""
    entity = "a" * QUADRATIC_ENTITY_BYTES
    return f'{_HEAD}<!DOCTYPE doc [<!ENTITY a "{entity}">]>\n<doc><id>{"&a;" * QUADRATIC_USES}</id></doc>'.encode()


def deep(levels: int) -> bytes:
    """Return elements nested `levels` deep."""
    return f"{_HEAD}<doc><id>1</id>{'<a>' * levels}{'</a>' * levels}<ok/></doc>".encode()


def huge_length(mebibytes: int) -> int:
    """Return the length of the body that `huge` gives."""
    rows = mebibytes * MEBIBYTE // len(_HUGE_ROW)
    return len(_HUGE_START) + rows * len(_HUGE_ROW) + len(_HUGE_END)


def huge(mebibytes: int) -> Iterator[bytes]:
    """Return a valid document of about that size, in pieces of about a mebibyte."""
    rows = mebibytes * MEBIBYTE // len(_HUGE_ROW)
    rows_per_piece = MEBIBYTE // len(_HUGE_ROW)
    yield _HUGE_START
    while rows > 0:
        yield _HUGE_ROW * min(rows, rows_per_piece)
        rows -= rows_per_piece
    yield _HUGE_END


def gzip_bomb(mebibytes: int) -> bytes:
    """Return the huge document compressed: a thousandth of its size."""
    squeezer = zlib.compressobj(level=6, wbits=31)
    return b"".join([*map(squeezer.compress, huge(mebibytes)), squeezer.flush()])
