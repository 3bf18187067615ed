"""`GET /.well-known/jwks.json`: the public keys of all license bodies, old ones included (RFC 7517).

The set is read from the database at most every `CACHED_SECONDS`; while the database is away the last known set is
served on, because keys are only ever added.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

import orjson
from aiohttp import hdrs, web

from gateway.problems import REFUSED, Refused
from gateway.routes.whole_response import DateLine, WholeResponse
from gateway.wire.answer import NO_SNIFF, PLAIN_TEXT, Answer
from shared.clock import SystemClock
from shared.errors import UnavailableError

PATH = "/.well-known/jwks.json"
CACHED_SECONDS = 5.0
READERS_MAX_AGE_SECONDS = 60

_NOT_FOUND_METHOD = Answer(405, PLAIN_TEXT + b"Allow: GET, HEAD\r\n", b"Error: only GET is accepted here.")


class PublicKeys(Protocol):
    """Where the public keys are kept."""

    async def all(self) -> Sequence[dict[str, str]]:
        """Return every public key as a JWK, oldest first. Raises `UnavailableError`."""
        ...


class JwksEndpoint:
    """The handler of the key set."""

    __slots__ = ("_answer", "_clock", "_date", "_etag", "_fresh_until", "_keys")

    def __init__(self, keys: PublicKeys, *, clock: SystemClock, date_line: DateLine) -> None:
        """Read nothing yet."""
        self._keys = keys
        self._clock = clock
        self._date = date_line
        self._fresh_until = float("-inf")
        self._answer: Answer | None = None
        self._etag = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, whatever its method."""
        if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            return self._respond(_NOT_FOUND_METHOD)
        if self._clock.monotonic() >= self._fresh_until:
            await self._refresh()
        if self._answer is None:
            return self._respond(REFUSED[Refused.KEYS_UNAVAILABLE])
        if self._etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return self._respond(Answer(304, self._head(), b""))
        return self._respond(self._answer)

    async def _refresh(self) -> None:
        self._fresh_until = self._clock.monotonic() + CACHED_SECONDS  # before: one reader asks, the others do not wait
        try:
            keys = await self._keys.all()
        except UnavailableError:
            self._fresh_until = self._clock.monotonic() + 1
            return
        body = orjson.dumps({"keys": list(keys)})
        self._etag = f'"{sha256(body).hexdigest()[:32]}"'
        self._answer = Answer(200, b"Content-Type: application/jwk-set+json\r\n" + NO_SNIFF + self._head(), body)

    def _head(self) -> bytes:
        return b"Cache-Control: public, max-age=%d\r\nETag: %s\r\n" % (READERS_MAX_AGE_SECONDS, self._etag.encode())

    def _respond(self, answer: Answer) -> WholeResponse:
        return WholeResponse(answer, self._date.current(self._clock.monotonic()))
