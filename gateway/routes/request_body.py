"""Reading a request body within its limits: never more bytes and never more seconds than allowed."""

import asyncio

from aiohttp import web

from gateway.problems import Refused

BODY_SECONDS = 5.0
"""A body that is not there by then never comes; without a limit it would hold its handler for ever."""


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
