"""The public port: TLS, time limits on everything a caller may do slowly, and the end of service in order.

The library's own site object cannot limit the TLS handshake and its own error pages name their software; so the
sockets are opened here and its protocol class gets our last resort.
"""

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import structlog
from aiohttp import web

from gateway.problems import REFUSED, Refused
from gateway.routes.whole_response import DateLine, WholeResponse
from shared.clock import SystemClock
from shared.errors import ConfigurationError

HANDSHAKE_SECONDS = 3.0
IDLE_SECONDS = 5.0
"""For the head of a request to arrive, and between two requests of one connection."""
LINGER_SECONDS = 1.0
"""How long the rest of a refused body is read before the connection is cut."""
BACKLOG = 4096
ACCEPTORS = 16
"""Times that the listening socket is watched: uvloop accepts one caller for each of them in a turn of the loop.

With one alone, callers who come while the loop is busy, so in any overload, would wait for seconds or be lost unheard.
"""
OTHER_FILES_MAX = 512
"""Files that are no callers: servers behind us, listening sockets, what the interpreter opens."""
BAD_REQUEST = 400

log = structlog.get_logger()


@dataclass(slots=True)
class Connections:
    """How many connections are open, and how many may be."""

    limit: int
    open: int = 0


class GatewayProtocol(web.RequestHandler):
    """One connection. Adds a bound on their number, and error pages of our own."""

    __slots__ = ("_connections", "_counted", "_date", "_time")

    def __init__(self, server: web.Server, connections: Connections, date_line: DateLine, clock: SystemClock) -> None:
        """Count towards `connections`."""
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # None is how the library turns it off
        )
        self._connections = connections
        self._counted = False
        self._date = date_line
        self._time = clock

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or cut the connection at once when there are too many."""
        super().connection_made(transport)
        # What the system does not take at once pauses writing, so that `WholeResponse` waits for it, within limits.
        # (1, because with 0 the TLS layer would pause for ever.)
        cast("asyncio.WriteTransport", transport).set_write_buffer_limits(high=1, low=0)
        self._counted = True
        self._connections.open += 1
        if self._connections.open > self._connections.limit:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self._counted:
            self._counted = False
            self._connections.open -= 1
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the library's signature; its text may quote the request
    ) -> web.StreamResponse:
        """Return the answer to what is no HTTP (400), or to our own mistake (500, logged)."""
        if status != BAD_REQUEST:
            log.error("gateway.request.crashed", exc_info=exc, path=request.path)
        refused = Refused.BAD_HTTP if status == BAD_REQUEST else Refused.INTERNAL
        return WholeResponse(REFUSED[refused], self._date.current(self._time.monotonic()), close=True)

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[None, None, tuple[web.StreamResponse, bool]]:
        """Send `resp`; where the library itself refuses (`OPTIONS *`, `CONNECT`, doubtful HTTP), our own words."""
        if isinstance(resp, web.HTTPException):
            refused = Refused.BAD_HTTP if resp.status == BAD_REQUEST else Refused.NOT_FOUND
            resp = WholeResponse(REFUSED[refused], self._date.current(self._time.monotonic()), close=True)
        return super().finish_response(request, resp, start_time)


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the TLS settings of the public port. Raises `ConfigurationError` when the files are not usable."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"KEYWAY_TLS_CERT={certificate} and KEYWAY_TLS_KEY={key} are not usable: {type(error).__name__}"
        ) from None
    return context


def make_room_for(connections: int) -> None:
    """Raise the number of files that this process may open, as far as it may itself, so that all connections fit.

    Systems begin with 1024. Callers alone would use them up, and Kafka and PostgreSQL could not be reached again.
    """
    wanted = connections + OTHER_FILES_MAX
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "gateway.files.few", count=allowed, detail=f"{wanted} open files would be enough for all connections"
        )


class PublicServer:
    """Serves one application on one address: `open`, later `close`."""

    def __init__(
        self, application: web.Application, *, connections_max: int, date_line: DateLine, clock: SystemClock
    ) -> None:
        """Listen on nothing yet."""
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, handle_signals=False)
        self._connections = Connections(connections_max)
        self._date = date_line
        self._clock = clock
        self._listeners: list[asyncio.Server] = []

    @property
    def connections_open(self) -> int:
        """How many callers are connected."""
        return self._connections.open

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Accept requests on `host:port` (0: any free one); returns the port. Raises `ConfigurationError`."""
        make_room_for(self._connections.limit)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101 - set up in the line before
        loop, handshake_seconds = asyncio.get_running_loop(), None if tls is None else HANDSHAKE_SECONDS

        def connection() -> GatewayProtocol:
            return GatewayProtocol(server, self._connections, self._date, self._clock)

        try:
            first = await loop.create_server(
                connection, host, port, ssl=tls, ssl_handshake_timeout=handshake_seconds, backlog=BACKLOG
            )
            self._listeners.append(first)
            for number in [listening.fileno() for listening in first.sockets] * (ACCEPTORS - 1):
                again = socket.socket(fileno=os.dup(number))
                listener = await loop.create_server(
                    connection, sock=again, ssl=tls, ssl_handshake_timeout=handshake_seconds, backlog=BACKLOG
                )
                self._listeners.append(listener)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port} ({error.strerror or type(error).__name__}): "
                "is KEYWAY_HTTP_PORT free and KEYWAY_HTTP_HOST an address of this machine?"
            ) from None
        bound: int = first.sockets[0].getsockname()[1]
        return bound

    async def close(self, *, answer_seconds: float) -> None:
        """Accept nobody else, let requests in flight be answered for at most `answer_seconds`, end."""
        for listener in self._listeners:
            listener.close()
        server = self._runner.server
        if server is not None:
            await asyncio.sleep(0)  # noqa: TID251 - no wait: what was accepted already gets its turn to begin
            server.pre_shutdown()
            await server.shutdown(answer_seconds)
        await self._runner.cleanup()
