"""A response whose head and body leave in one write, and the `Date` that they carry.

The library's own response builds a header map, runs hooks and writes in several steps: a quarter of the gateway's time
per request. Ours knows its bytes beforehand. Nothing here can be influenced by a caller except whether the connection
stays open.
"""

import asyncio
import socket
import struct
from email.utils import format_datetime
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from gateway.wire.answer import Answer
from shared.clock import SystemClock

STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode("ascii")) for status in HTTPStatus
}
BODILESS = frozenset({HTTPStatus.NO_CONTENT.value, HTTPStatus.NOT_MODIFIED.value})


TAKE_SECONDS = 5.0
TAKE_BYTES_MIN = 64 * 1024
"""A caller who takes fewer bytes of an answer in `TAKE_SECONDS`, and not the rest of it either, is cut off.

Without that a caller who sends and does not read would hold its connection and the answer for ever.
"""


class DateLine:
    """The `Date` header line, made once a second."""

    __slots__ = ("_clock", "_line", "_until")

    def __init__(self, clock: SystemClock) -> None:
        """Read the time from `clock`."""
        self._clock = clock
        self._line = b""
        self._until = float("-inf")

    def current(self, now: float) -> bytes:
        """Return the line for `now`, the clock's own monotonic seconds."""
        if now >= self._until:
            moment = self._clock.now()
            self._line = b"Date: " + format_datetime(moment, usegmt=True).encode("ascii") + b"\r\n"
            self._until = now + 1 - moment.microsecond / 1_000_000
        return self._line


def _hang_up(transport: asyncio.Transport) -> None:
    """End the connection so that the system, too, forgets the bytes it still has for the caller."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class WholeResponse(web.StreamResponse):
    """`answer` as an HTTP/1.1 response; `close` ends the connection after it."""

    def __init__(self, answer: Answer, date_line: bytes, *, close: bool = False) -> None:
        """Take the bytes; the base class's own state is not needed and not made."""
        self._status = answer.status
        self._answer = answer
        self._date_line = date_line
        self._keep_alive = not close

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write everything. Raises `ConnectionResetError` when the caller is gone; the library then ends quietly."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller is gone")
        self._keep_alive = self._keep_alive and request.keep_alive
        transport.write(self._bytes(request))
        if request.protocol.writing_paused:  # nearly never: the system takes a whole answer at once
            await self._taken(request, transport)
        return None

    async def _taken(self, request: web.BaseRequest, transport: asyncio.Transport) -> None:
        """Wait until the system has all bytes. Raises `ConnectionResetError` when the caller does not read."""
        left = transport.get_write_buffer_size()
        while request.protocol.writing_paused:
            try:
                async with asyncio.timeout(TAKE_SECONDS):
                    await request.writer.drain()
            except TimeoutError:
                before, left = left, transport.get_write_buffer_size()
                if before - left < TAKE_BYTES_MIN:
                    _hang_up(transport)
                    raise ConnectionResetError("the caller does not read") from None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - the library's signature
        """Mark the end; all bytes are out."""
        self._eof_sent = True

    def _bytes(self, request: web.BaseRequest) -> bytes:
        answer = self._answer
        body = answer.body
        if not self._keep_alive:
            connection = b"Connection: close\r\n"
        elif request.version == HttpVersion11:
            connection = b""
        else:
            connection = b"Connection: keep-alive\r\n"
        length = b"" if answer.status in BODILESS else b"Content-Length: %d\r\n" % len(body)
        if request.method == hdrs.METH_HEAD:
            body = b""
        return b"".join(
            (STATUS_LINES[answer.status], self._date_line, answer.head, connection, length, b"\r\n", body),
        )
