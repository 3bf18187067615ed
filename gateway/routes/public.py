"""The public application: which address leads to which endpoint; every other is "nothing here"."""

from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, hdrs, web

from gateway.problems import REFUSED, Refused
from gateway.routes import isv, jwks, partner_keys
from gateway.routes.whole_response import DateLine, WholeResponse
from shared.clock import SystemClock

CONTINUE = "100-continue"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def public_application(
    isv_endpoint: Handler,
    jwks_endpoint: Handler,
    *,
    partner_endpoint: Handler | None = None,
    clock: SystemClock,
    date_line: DateLine,
) -> web.Application:
    """Return the application of the public port. The endpoints judge the method themselves.

    Without a `partner_endpoint` there is nothing below `/30/`.
    """

    def refuse(reason: Refused) -> WholeResponse:
        return WholeResponse(REFUSED[reason], date_line.current(clock.monotonic()))

    async def nothing_here(_request: web.Request) -> web.StreamResponse:
        return refuse(Refused.NOT_FOUND)

    async def expectation(request: web.Request) -> web.StreamResponse | None:
        if request.headers[hdrs.EXPECT].lower() != CONTINUE:
            return refuse(Refused.EXPECTATION)
        if request.transport is not None and request.version == HttpVersion11:  # older callers know no such answer
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    application = web.Application()
    router = application.router
    router.add_route("*", isv.PATH, isv_endpoint, expect_handler=expectation)
    router.add_route("*", jwks.PATH, jwks_endpoint, expect_handler=expectation)
    if partner_endpoint is not None:
        router.add_route("*", partner_keys.PATH, partner_endpoint, expect_handler=expectation)
    router.add_route("*", r"/{anything:[\s\S]*}", nothing_here, expect_handler=expectation)
    return application
