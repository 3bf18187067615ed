"""Composition root of the sandbox process: options in, a serving application out.

The clock that the panel shows starts from the business clock, so that moving the local stack's time moves the panel's
too; waiting and certificates use the machine's time.
"""

import asyncio
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from keyway.sandbox.answer import html_page
from keyway.sandbox.control import BODY_BYTES_MAX, ControlRoutes
from keyway.sandbox.faults.plan import plan_for_handshake
from keyway.sandbox.log import EffectLog
from keyway.sandbox.panel import PANEL_PATH, Panel
from keyway.sandbox.routes import LISTENER_PATH, PanelRoutes, page_response
from keyway.sandbox.store import Opening, Store
from keyway.sandbox.tls import server_context
from shared.clock import BusinessClock, MachineClock, SystemClock
from shared.errors import ConfigurationError
from shared.settings import is_loopback

LOGGER = logging.getLogger("keyway.sandbox")
SHUTDOWN_SECONDS = 1.0
HEADER_BYTES_MAX = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `keyway sandbox` was told. `port` 0 is a free one; `tls_port` None means no TLS listener."""

    host: str
    port: int
    tls_port: int | None
    state_dir: Path
    control: bool
    opening: Opening


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the sandbox listens; `tls_url` and `authority` are empty without TLS."""

    url: str
    tls_url: str = ""
    authority: str = ""


@asynccontextmanager
async def serving(
    options: Options, business_clock: BusinessClock, system_clock: SystemClock
) -> AsyncIterator[Addresses]:
    """Serve inside the block. Raises `ConfigurationError` for options, a state folder or a port that cannot be used."""
    if options.control and not is_loopback(options.host):
        raise ConfigurationError(f"--control with --host {options.host}: the control plane binds to loopback only")
    store = Store(EffectLog(options.state_dir), options.opening, business_clock)
    routes = PanelRoutes(store, Panel(store), business_clock, system_clock)
    control = ControlRoutes(store, business_clock, user=options.opening.user, enabled=options.control)
    runner = web.AppRunner(
        build_application(routes, control),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN_SECONDS,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
    )
    await runner.setup()
    try:
        addresses = await _listen(runner, options, store, system_clock)
        routes.listener_url = addresses.url.removesuffix(PANEL_PATH) + LISTENER_PATH
        yield addresses
    finally:
        await runner.cleanup()
        store.close()


def build_application(routes: PanelRoutes, control: ControlRoutes) -> web.Application:
    """Return the application: the panel's paths and the control plane."""
    application = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_as_web_server])
    routes.register(application)
    control.register(application)
    return application


async def run(options: Options, business_clock: BusinessClock, announce: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once the ports are open."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serving(options, business_clock, MachineClock()) as addresses:
        announce(addresses)
        await stopped.wait()


async def _listen(runner: web.AppRunner, options: Options, store: Store, clock: SystemClock) -> Addresses:
    port = await _open(runner, options.host, options.port, None)
    url = f"http://{_netloc(options.host, port)}{PANEL_PATH}"
    if options.tls_port is None:
        return Addresses(url=url)
    folder = options.state_dir / "tls"

    def fault_of_handshake() -> str | None:
        fault, counted = plan_for_handshake(store.state)
        store.commit(counted)
        return fault.mode if fault is not None else None

    context = server_context(folder, options.host, clock.now(), fault_of_handshake)
    tls_port = await _open(runner, options.host, options.tls_port, context)
    tls_url = f"https://{_netloc(options.host, tls_port)}{PANEL_PATH}"
    return Addresses(url=url, tls_url=tls_url, authority=str(folder / "ca.pem"))


async def _open(runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext | None) -> int:
    site = web.TCPSite(runner, host, port, ssl_context=context)
    try:
        await site.start()
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return int(runner.addresses[-1][1])


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@web.middleware
async def _as_web_server(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer what the panel never sees as the web server before it would: in HTML (docs/protocols/isplicense.md 1)."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return page_response(html_page(error.status))
    except OSError as error:
        LOGGER.error("the state could not be written: %s", error.strerror)  # noqa: TRY400 - the reason says it all
        return page_response(html_page(500))
