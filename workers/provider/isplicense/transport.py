"""One HTTP exchange: a fresh connection, one request, one bounded answer, and certainty about "not sent".

aiohttp sends a GET again by itself when a connection dies, and its exceptions carry addresses and headers. So every
exchange has a connector of its own that hands out exactly one connection, retrying is switched off, nothing follows
redirects, and failures become values that name a class and an error number, nothing else.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlencode

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from pydantic import SecretStr
from yarl import URL

from workers.provider.isplicense.endpoint import Endpoint, Lookup, PinningResolver
from workers.provider.ports import Fence

BODY_BYTES_MAX = 1_048_576
READ_CHUNK_BYTES = 65_536
HEADERS = MappingProxyType(
    {
        "Accept": "text/xml",
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": "keyway",
    }
)
GZIP_WINDOW_BITS = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An answer, whatever it says."""

    status: int
    body: bytes
    """After decoding; empty when `problem` is set."""
    sha256: str
    """Over the bytes as they came."""
    problem: str = ""
    """Why the body was not taken: too large, an encoding that was not asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """No answer, or half of one."""

    detail: str
    """Class of the failure and its error number."""
    maybe_sent: bool
    """False only if no byte of the request can have left."""


class FenceClosedError(Exception):
    """The fence did not open: nothing is sent."""


class OneConnection(aiohttp.TCPConnector):
    """A connector for one request: it connects once, asks the fence, and only then hands the connection over.

    The fence stands here, and not in aiohttp's trace hook `on_connection_create_end`, because a connection made under
    a hook that raises is never closed.
    """

    def __init__(self, endpoint: Endpoint, fence: Fence, lookup: Lookup | None) -> None:
        super().__init__(
            resolver=PinningResolver(loopback_allowed=endpoint.loopback_allowed, lookup=lookup),
            ssl=endpoint.tls if endpoint.tls is not None else True,
            force_close=True,
            use_dns_cache=False,
            limit=1,
        )
        self._fence = fence
        self.handed_over = False
        """From here on a byte may be out. Set before any is written, so it errs on the careful side only."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:  # noqa: ASYNC109 - aiohttp's own signature
        """Return the one connection. Raises `FenceClosedError`, or what aiohttp raises for a failed connection."""
        if self.handed_over:
            raise FenceClosedError("a second connection for one request")
        connection = await super().connect(req, traces, timeout)
        try:
            await self._pass_fence()
        except BaseException:
            connection.close()
            raise
        self.handed_over = True
        return connection

    async def _pass_fence(self) -> None:
        try:
            opened = await self._fence()
        except Exception as error:  # noqa: BLE001 - a fence that cannot be asked is closed, whatever the reason
            opened, detail = False, f"fence failed: {type(error).__name__}"
        else:
            detail = "fence closed"
        if not opened:
            raise FenceClosedError(detail)


class Transport:
    """Exchanges with one endpoint on behalf of one user."""

    def __init__(
        self, endpoint: Endpoint, authinfo: SecretStr, *, connect_timeout_seconds: float, lookup: Lookup | None = None
    ) -> None:
        self._endpoint = endpoint
        self._authinfo = authinfo
        self._connect_timeout_seconds = connect_timeout_seconds
        self._lookup = lookup

    async def post(
        self, parameters: Sequence[tuple[str, str]], *, timeout_seconds: float, fence: Fence
    ) -> Received | Broken:
        """Send one POST with everything in the body and return what came back; raises only when canceled."""
        body = urlencode([("authinfo", self._authinfo.get_secret_value()), *parameters]).encode("ascii")
        return await self._exchange("POST", self._endpoint.url, body, timeout_seconds=timeout_seconds, fence=fence)

    async def get(self, url: URL, *, timeout_seconds: float) -> Received | Broken:
        """Fetch a page of the same origin, as `post` does but without any parameter."""
        return await self._exchange("GET", url, None, timeout_seconds=timeout_seconds, fence=always_open)

    async def _exchange(
        self, method: str, url: URL, body: bytes | None, *, timeout_seconds: float, fence: Fence
    ) -> Received | Broken:
        connector = OneConnection(self._endpoint, fence, self._lookup)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=timeout_seconds, connect=self._connect_timeout_seconds),
        )
        session._retry_connection = False  # noqa: SLF001 - there is no public switch; a test counts requests on the wire
        async with session:
            try:
                async with session.request(method, url, data=body, headers=HEADERS, allow_redirects=False) as response:
                    return await _read(response)
            except Exception as error:  # noqa: BLE001 - whatever it is, the request may be out: a value says so
                return Broken(detail=describe(error), maybe_sent=connector.handed_over)


async def always_open() -> bool:
    """Return True: the fence of calls that charge nothing."""
    return True


def describe(error: BaseException) -> str:
    """Return the class of a failure and its error number: its text may hold addresses and secrets."""
    if isinstance(error, FenceClosedError):
        return str(error)
    number = getattr(error, "errno", None)
    return f"{type(error).__name__}, errno {number}" if isinstance(number, int) else type(error).__name__


async def _read(response: aiohttp.ClientResponse) -> Received:
    declared = response.content_length
    raw = bytearray()
    too_large = declared is not None and declared > BODY_BYTES_MAX
    if not too_large:
        async for chunk in response.content.iter_chunked(READ_CHUNK_BYTES):
            raw += chunk
            if len(raw) > BODY_BYTES_MAX:
                too_large = True
                break
    if too_large:
        response.close()
    sha256 = hashlib.sha256(raw).hexdigest()
    problem = "body over the limit" if too_large else ""
    body = b""
    if not problem:
        body, problem = _decoded(bytes(raw), response.headers.get("Content-Encoding", "").strip().lower())
    return Received(status=response.status, body=body, sha256=sha256, problem=problem)


def _decoded(raw: bytes, encoding: str) -> tuple[bytes, str]:
    """Return the decoded body and no problem, or nothing and the problem. Gzip is read though it was not asked for."""
    if encoding in ("", "identity"):
        return raw, ""
    if encoding != "gzip":
        return b"", "content encoding that was not asked for"
    inflater = zlib.decompressobj(GZIP_WINDOW_BITS)
    try:
        body = inflater.decompress(raw, BODY_BYTES_MAX + 1)
    except zlib.error:
        return b"", "broken gzip"
    if len(body) > BODY_BYTES_MAX:
        return b"", "body over the limit after decoding"
    return (body, "") if inflater.eof and not inflater.unused_data else (b"", "broken gzip")
