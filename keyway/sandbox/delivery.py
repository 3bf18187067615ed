"""Putting an answer on the wire, whole or the way a fault wants it: dripped, cut, closed, reset, or never.

Rules: docs/protocols/isplicense.md 13.4, groups "timing" and "connection".
"""

import os
import socket
import struct
from collections.abc import Iterable
from email.utils import format_datetime

from aiohttp import web

from keyway.sandbox.answer import Answer
from keyway.sandbox.call import Call, numeric
from keyway.sandbox.faults.hostile import huge, huge_length
from keyway.sandbox.faults.plan import Plan
from keyway.sandbox.rows import FaultRule
from shared.clock import SystemClock

HANG_LOOK_SECONDS = 0.05
_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)


class NoAnswer(web.StreamResponse):
    """Stands where aiohttp wants a response although the connection is already gone: writes nothing."""

    async def prepare(self, _request: web.BaseRequest) -> None:
        """Send no head."""

    async def write_eof(self, _data: bytes = b"") -> None:
        """Send no end."""


async def send(request: web.Request, answer: Answer, plan: Plan, call: Call, clock: SystemClock) -> web.StreamResponse:
    """Deliver the answer; `truncate` and `drip` spoil the way, the rest of the plan was done before."""
    headers = {"Content-Type": answer.content_type, "Date": format_datetime(call.now, usegmt=True)}
    headers.update(answer.headers)
    drip = plan.first("drip")
    if plan.first("truncate") is not None:
        half = answer.body[: len(answer.body) // 2]
        response = await _stream(request, answer, headers, [half], len(answer.body))
        close(request)
        return response
    if drip is not None:
        return await _drip(request, answer, headers, numeric(drip.args["ms"]) / 1000, clock)
    if answer.huge_mebibytes:
        length = huge_length(answer.huge_mebibytes)
        return await _stream(request, answer, headers, huge(answer.huge_mebibytes), length)
    return web.Response(status=answer.status, headers=headers, body=answer.body)


async def interrupt(request: web.Request, rule: FaultRule, clock: SystemClock) -> web.StreamResponse:
    """End the exchange without a byte: close it, reset it, or wait until the other side has had enough."""
    match rule.mode:
        case "drop":
            close(request)
        case "reset":
            _reset(request)
        case _:
            await _hang(request, numeric(rule.args["max_ms"]) / 1000, clock)
            close(request)
    return NoAnswer()


def close(request: web.Request) -> None:
    """Close the connection in good order, without more bytes than were written."""
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.Request) -> None:
    """Close the connection with a TCP RST."""
    transport = request.transport
    if transport is None:
        return
    plain = transport.get_extra_info("socket")
    # The loop's own socket object refuses options; a duplicate descriptor reaches the same kernel socket.
    with socket.socket(fileno=os.dup(plain.fileno())) as handle:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
    transport.abort()


async def _hang(request: web.Request, seconds: float, clock: SystemClock) -> None:
    ends_at = clock.monotonic() + seconds
    while clock.monotonic() < ends_at and request.transport is not None and not request.transport.is_closing():
        await clock.sleep(HANG_LOOK_SECONDS)


async def _stream(
    request: web.Request, answer: Answer, headers: dict[str, str], pieces: Iterable[bytes], length: int
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = length
    try:
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
    except ConnectionError:
        return NoAnswer()  # the other side has read enough
    return response


async def _drip(
    request: web.Request, answer: Answer, headers: dict[str, str], pause_seconds: float, clock: SystemClock
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = len(answer.body)
    try:
        await response.prepare(request)
        for index in range(len(answer.body)):
            await response.write(answer.body[index : index + 1])
            await clock.sleep(pause_seconds)
    except ConnectionError:
        return NoAnswer()  # the other side has waited enough
    return response
