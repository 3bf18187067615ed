"""Is this process alive, and is it ready? Probes, the admin pages and their server.

Ready means that every dependency answered *lately*: a probe that is not refreshed within its time goes stale by itself,
so a loop that hangs shows without anybody noticing it first.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from shared.clock import SystemClock
from shared.contracts.asyncapi import asyncapi_json
from shared.errors import ConfigurationError

STOP_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class Probe:
    """One dependency: when it last answered and what it said."""

    name: str
    stale_after_seconds: float
    clock: SystemClock
    _ok_at: float | None = field(default=None, init=False)
    _detail: str = field(default="not asked yet", init=False)

    def succeeded(self, detail: str = "") -> None:
        """Note that the dependency answered now. `detail` must be cheap and hold nothing secret."""
        self._ok_at = self.clock.monotonic()
        self._detail = detail

    def failed(self, detail: str) -> None:
        """Note that it does not work now: not ready at once, whatever it said before."""
        self._ok_at = None
        self._detail = detail

    @property
    def is_ok(self) -> bool:
        """Whether it answered within `stale_after_seconds`."""
        age = self.age_seconds
        return age is not None and age <= self.stale_after_seconds

    @property
    def age_seconds(self) -> float | None:
        """Seconds since it last answered; None when it never did or failed since."""
        return None if self._ok_at is None else self.clock.monotonic() - self._ok_at

    @property
    def detail(self) -> str:
        """What it said last."""
        return self._detail


@dataclass(slots=True)
class Readiness:
    """The probes of a process."""

    clock: SystemClock
    _probes: dict[str, Probe] = field(default_factory=dict, init=False)

    def probe(self, name: str, *, stale_after_seconds: float) -> Probe:
        """Add a dependency. Raises `ValueError` when the name is taken."""
        if name in self._probes:
            raise ValueError(f"there is a probe {name!r} already")
        probe = Probe(name=name, stale_after_seconds=stale_after_seconds, clock=self.clock)
        self._probes[name] = probe
        return probe

    @property
    def probes(self) -> tuple[Probe, ...]:
        """All probes, in the order they were added."""
        return tuple(self._probes.values())

    @property
    def is_ready(self) -> bool:
        """Whether every probe is fine; without any probe nothing is known, so not."""
        return bool(self._probes) and all(probe.is_ok for probe in self._probes.values())

    def report(self) -> bytes:
        """Return the state as a JSON object with one line per dependency."""
        lines = b",\n ".join(orjson.dumps(_line(probe)) for probe in self._probes.values())
        verdict = b"true" if self.is_ready else b"false"
        return b'{"ready":' + verdict + b',"dependencies":[\n ' + lines + b"\n]}\n"


def _line(probe: Probe) -> dict[str, str | bool | float | None]:
    age = probe.age_seconds
    return {
        "name": probe.name,
        "ok": probe.is_ok,
        "age_seconds": None if age is None else round(age, 3),
        "stale_after_seconds": probe.stale_after_seconds,
        "detail": probe.detail,
    }


def ops_application(readiness: Readiness, registry: CollectorRegistry) -> web.Application:
    """Return the admin application: `/livez`, `/readyz`, `/metrics`, `/asyncapi.json`; callers may add routes."""

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(_request: web.Request) -> web.Response:
        status = HTTPStatus.OK if readiness.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return web.Response(body=readiness.report(), status=status, content_type="application/json")

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def asyncapi(_request: web.Request) -> web.Response:
        return web.Response(body=asyncapi_json(), content_type="application/json")

    application = web.Application()
    application.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    application.add_routes([web.get("/asyncapi.json", asyncapi)])
    application.on_response_prepare.append(_without_server_name)
    return application


async def _without_server_name(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)  # it would name the library and its version


@asynccontextmanager
async def serve_ops(application: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve `application` on `host:port` (0: any free one) while the block runs; yields the port.

    Raises `ConfigurationError` when the address is taken or none of this machine.
    """
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        await _listen(runner, host, port)
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigurationError(
            f"the admin port {host}:{port} cannot be opened ({error.strerror or type(error).__name__}): "
            "is KEYWAY_ADMIN_PORT free and KEYWAY_ADMIN_HOST an address of this machine?"
        ) from None
