"""Reading a request body with a bound on its size and on the time it may take."""

import asyncio

from aiohttp import web

BODY_READ_SECONDS = 30


class BodyError(Exception):
    """The body is too large (413) or does not arrive (408)."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def read_body(request: web.Request, bytes_max: int) -> bytes:
    """Return the body. Raises `BodyError` beyond `bytes_max` or after `BODY_READ_SECONDS`."""
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_READ_SECONDS):
            async for piece in request.content.iter_any():
                size += len(piece)
                if size > bytes_max:
                    raise BodyError(413, f"the body is larger than {bytes_max} bytes")
                pieces.append(piece)
    except TimeoutError:
        raise BodyError(408, f"the body took longer than {BODY_READ_SECONDS} seconds") from None
    return b"".join(pieces)
