"""What of a request the library lets pass and we do not: doubtful framing, and more bytes or seconds than allowed."""

import asyncio

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from gateway.problems import Refused

BODY_SECONDS = 5.0
"""A body that is not there by then never comes; without a limit it would hold its handler for ever."""


def refuse_doubtful_framing(request: web.Request) -> None:
    """Raise the 400 for a head that another reader, such as a proxy in front of us, may understand in another way.

    That is a version of HTTP that is not spoken here, and a transfer coding besides `chunked` or in HTTP/1.0
    (RFC 9112 6.1): where such a body ends, and what it says, is not certain.
    """
    version, coding = request.version, request.headers.get(hdrs.TRANSFER_ENCODING)
    if version == HttpVersion11:
        if coding is None or coding.lower() == "chunked":
            return
    elif version == HttpVersion10 and coding is None:
        return
    raise web.HTTPBadRequest


async def read_body(request: web.Request, limit_bytes: int) -> bytes | Refused:
    """Return the body of `request`. Raises `ConnectionError` when the caller goes away meanwhile."""
    announced = request.content_length
    if announced is not None and announced > limit_bytes:
        return Refused.TOO_LARGE
    content = request.content
    try:
        if content.is_eof():  # nearly always: it came in one piece with its head
            body = content.read_nowait()
            return body if len(body) <= limit_bytes else Refused.TOO_LARGE
        gathered = bytearray()
        async with asyncio.timeout(BODY_SECONDS):
            while not content.at_eof():
                gathered += await content.readany()
                if len(gathered) > limit_bytes:
                    return Refused.TOO_LARGE
        return bytes(gathered)
    except TimeoutError:
        return Refused.BODY_LATE
    except web.RequestPayloadError:
        return Refused.BODY_BROKEN
