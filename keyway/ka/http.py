"""One HTTP/1.1 exchange over a socket of its own: every byte sent is the caller's, every byte read is kept.

KA tests need what a comfortable client hides: bodies that are not well formed, answers that never come, connections
that end in the middle. So nothing is followed, repeated, decoded or pooled here.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

HEAD_LIMIT_BYTES = 65_536
BODY_LIMIT_BYTES = 4_194_304
HTTPS_PORT = 443
HTTP_PORT = 80
STATUS_LINE_WORDS = 2


class NoAnswerError(Exception):
    """No complete answer came: refused, reset, cut short or too late. What the other side did is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where requests go."""

    host: str
    port: int
    path: str
    encrypted: bool

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the address that `url` (`http` or `https`) names. Raises `ValueError` for any other."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"{url!r} is not an http or https address")
        encrypted = parts.scheme == "https"
        port = parts.port or (HTTPS_PORT if encrypted else HTTP_PORT)
        return cls(host=parts.hostname, port=port, path=parts.path or "/", encrypted=encrypted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def render(address: Address, headers: Mapping[str, str], body: bytes, *, method: str = "POST") -> bytes:
    """Return the bytes of a request; `Host`, `Content-Length` and `Connection: close` are added."""
    own = {"Host": f"{address.host}:{address.port}", **headers, "Content-Length": str(len(body))}
    lines = [f"{method} {address.path} HTTP/1.1", *(f"{name}: {value}" for name, value in own.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body


async def exchange(address: Address, request: bytes, *, timeout_seconds: float) -> Answer:
    """Send `request` on a new connection and return the answer. Raises `NoAnswerError`."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _exchange(address, request)
    except TimeoutError:
        raise NoAnswerError(f"no answer within {timeout_seconds:g} s") from None
    except asyncio.IncompleteReadError as error:
        raise NoAnswerError(f"connection closed after {len(error.partial)} bytes of an answer") from None
    except (OSError, asyncio.LimitOverrunError) as error:
        raise NoAnswerError(f"{type(error).__name__}: {error}") from None


async def send_and_leave(address: Address, request: bytes) -> None:
    """Send `request` and close the connection without waiting for the answer: a caller whose line breaks.

    Raises `OSError` when nobody listens.
    """
    tls = ssl.create_default_context() if address.encrypted else None
    _, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    writer.write(request)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _exchange(address: Address, request: bytes) -> Answer:
    tls = ssl.create_default_context() if address.encrypted else None
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls, limit=HEAD_LIMIT_BYTES)
    try:
        writer.write(request)
        await writer.drain()
        return await read_answer(reader)
    finally:
        writer.transport.abort()  # nothing of ours is unsent, and waiting for the other side's close gains nothing


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Return the answer that `reader` holds. Raises `NoAnswerError` or `asyncio.IncompleteReadError`."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    words = status_line.split(" ", STATUS_LINE_WORDS)
    if len(words) < STATUS_LINE_WORDS or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise NoAnswerError(f"not an HTTP answer: {status_line[:80]!r}")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > BODY_LIMIT_BYTES:
        raise NoAnswerError(f"unusable Content-Length {length[:40]!r}")
    return Answer(status=int(words[1]), headers=headers, body=await reader.readexactly(int(length)))
