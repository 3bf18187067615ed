"""The control plane `/__sandbox/`: for tests and demonstrations, never for a client.

`GET ready` always answers. Everything else exists only when the process was started with `--control`, and only for
callers on this machine; bodies are JSON, refusals are 400 with `{"error": ...}`.
Rules: docs/protocols/isplicense.md 13.5.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import TypeVar

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from keyway.sandbox.body import BodyError, read_body
from keyway.sandbox.catalog import PRODUCTS
from keyway.sandbox.control_bodies import (
    AccountOrder,
    ClockOrder,
    ResetOrder,
    ServiceOrder,
    account_after,
    service_after,
)
from keyway.sandbox.control_views import account_view, ledger_view, state_view
from keyway.sandbox.faults.modes import MODES, FaultOrder, fault_rule
from keyway.sandbox.rows import Charge, FaultRule, Gone, Profile, Row, World
from keyway.sandbox.state import sandbox_time
from keyway.sandbox.store import Store
from shared.clock import BusinessClock
from shared.settings import is_loopback

PREFIX = "/__sandbox"
BODY_BYTES_MAX = 16 * 1024 * 1024
JSON_TYPE = "application/json"
Handler = Callable[[web.Request], Awaitable[web.Response]]
Ordered = TypeVar("Ordered")

_RESET = TypeAdapter(ResetOrder)
_CLOCK = TypeAdapter(ClockOrder)
_ACCOUNT = TypeAdapter(AccountOrder)
_SERVICES: TypeAdapter[ServiceOrder | list[ServiceOrder]] = TypeAdapter(ServiceOrder | list[ServiceOrder])
_FAULTS: TypeAdapter[FaultOrder | list[FaultOrder]] = TypeAdapter(FaultOrder | list[FaultOrder])
_PROFILE = TypeAdapter(Profile)


class ControlRoutes:
    """The handlers below `/__sandbox/`."""

    def __init__(self, store: Store, business_clock: BusinessClock, *, user: str, enabled: bool) -> None:
        """Serve `store`; `user` owns licenses that are made without naming one."""
        self._store = store
        self._clock = business_clock
        self._user = user
        self._enabled = enabled

    def register(self, application: web.Application) -> None:
        """Add the routes: `ready`, and the rest when enabled."""
        router = application.router
        router.add_get(f"{PREFIX}/ready", self.handle_ready)
        if not self._enabled:
            return
        routes: tuple[tuple[str, str, Handler], ...] = (
            ("POST", "reset", self.handle_reset),
            ("GET", "state", self.handle_state),
            ("GET", "journal", self.handle_journal),
            ("GET", "ledger", self.handle_ledger),
            ("GET", "faults", self.handle_faults),
            ("POST", "faults", self.handle_set_faults),
            ("DELETE", "faults", self.handle_clear_faults),
            ("POST", "clock", self.handle_clock),
            ("POST", "accounts/{user}", self.handle_account),
            ("POST", "licenses", self.handle_licenses),
            ("POST", "licences", self.handle_licenses),  # the vendor's spelling
            ("DELETE", "licenses/{id:[0-9]+}", self.handle_remove_license),
            ("POST", "profile", self.handle_profile),
        )
        for method, path, handler in routes:
            router.add_route(method, f"{PREFIX}/{path}", _guarded(handler))

    async def handle_ready(self, _request: web.Request) -> web.Response:
        """Say that the sandbox serves, and what it holds."""
        content = {"ready": True, "control": self._enabled, "licenses": len(self._store.state.services)}
        return _json(orjson.dumps(content))

    async def handle_reset(self, request: web.Request) -> web.Response:
        """Forget everything; calls still under way end without an answer."""
        order = await _body(request, _RESET)
        seed = order.seed if order.seed is not None else self._store.seed
        world = World(seed=seed) if order.next_id is None else World(seed=seed, next_service_id=order.next_id)
        self._store.reset(world)
        return _json(b'{"reset":true}')

    async def handle_state(self, _request: web.Request) -> web.Response:
        """Show everything but secrets."""
        return _json(orjson.dumps(state_view(self._store.state, self._now())))

    async def handle_journal(self, request: web.Request) -> web.Response:
        """Show the journal, `?since=N` the entries after request N, and what no longer fitted."""
        since = request.query.get("since", "0")
        if not since.isdigit():
            raise ValueError(f"since={since!r} is not a request number")
        journal = self._store.journal
        entries = b",".join(journal.entries(int(since)))
        return _json(b'{"entries":[' + entries + b'],"forgotten":%d}' % journal.forgotten)

    async def handle_ledger(self, _request: web.Request) -> web.Response:
        """Show every charge and their sum."""
        return _json(orjson.dumps(ledger_view(self._store.state)))

    async def handle_faults(self, _request: web.Request) -> web.Response:
        """Show the faults that are set with their counts, and the modes that there are."""
        modes = {name: {"phases": mode.phases, "usual": mode.usual, "args": mode.args} for name, mode in MODES.items()}
        return _json(orjson.dumps({"faults": list(self._store.state.faults.values()), "modes": modes}))

    async def handle_set_faults(self, request: web.Request) -> web.Response:
        """Set one fault or a list of them, all or none."""
        given = await _body(request, _FAULTS)
        orders = given if isinstance(given, list) else [given]
        world = self._store.state.world
        rules: list[FaultRule] = []
        for order in orders:
            rules.append(fault_rule(order, world.next_fault_id))
            world = replace(world, next_fault_id=world.next_fault_id + 1)
        await self._keep([*rules, world])
        return _json(orjson.dumps({"faults": rules}))

    async def handle_clear_faults(self, request: web.Request) -> web.Response:
        """Remove all faults, or `?id=N`."""
        wanted = request.query.get("id")
        ids = [key for key in self._store.state.faults if wanted in {None, str(key)}]
        await self._keep([Gone(table="faults", key=str(key)) for key in ids])
        return _json(orjson.dumps({"removed": ids}))

    async def handle_clock(self, request: web.Request) -> web.Response:
        """Move the sandbox's clock, or stop it."""
        order = await _body(request, _CLOCK)
        world, base = self._store.state.world, self._clock.now()
        if order.at is not None:
            at = order.at
        elif order.advance_seconds is not None:
            at = sandbox_time(world, base) + timedelta(seconds=order.advance_seconds)
        else:
            at = base + timedelta(seconds=order.offset_seconds or 0.0)
        offset_seconds = (at - base).total_seconds()
        moved = replace(world, offset_seconds=offset_seconds, frozen_at=at if order.frozen else None)
        await self._keep([moved])
        return _json(orjson.dumps({"now": at, "frozen": order.frozen, "offset_seconds": offset_seconds}))

    async def handle_account(self, request: web.Request) -> web.Response:
        """Make an account, or change what is given of it."""
        order = await _body(request, _ACCOUNT)
        user = request.match_info["user"]
        account = account_after(self._store.state.accounts.get(user), user, order)
        await self._keep([account])
        return _json(orjson.dumps(account_view(account)))

    async def handle_licenses(self, request: web.Request) -> web.Response:
        """Make or change licenses, one or a list, all or none."""
        given = await _body(request, _SERVICES)
        rows: list[Row] = []
        ids: list[int] = []
        world = self._store.state.world
        for wanted in given if isinstance(given, list) else [given]:
            order = wanted
            if order.id is None:
                order = order.model_copy(update={"id": world.next_service_id})
            assert order.id is not None  # noqa: S101 - given or drawn above
            world = replace(world, next_service_id=max(world.next_service_id, order.id + 1))
            known = self._store.state.services.get(order.id)
            service = service_after(known, order, user=self._user, seed=world.seed, now=self._now())
            if service.user not in self._store.state.accounts:
                raise ValueError(f"there is no account {service.user!r}: make it first")
            rows.append(service)
            ids.append(service.id)
            if order.charged:
                charge = Charge(
                    number=world.next_charge_number,
                    at=service.created_at,
                    user=service.user,
                    amount=PRODUCTS[service.pricelist].price(service.period),
                    reason="order",
                    service_id=service.id,
                    pricelist=service.pricelist,
                    period=service.period,
                    request_number=0,
                )
                rows.append(charge)
                world = replace(world, next_charge_number=world.next_charge_number + 1)
        await self._keep([*rows, world])
        return _json(orjson.dumps({"ids": ids}))

    async def handle_remove_license(self, request: web.Request) -> web.Response:
        """Remove a license without a trace, as no function of the panel can."""
        key = request.match_info["id"]
        if int(key) not in self._store.state.services:
            raise ValueError(f"there is no license {key}")
        await self._keep([Gone(table="services", key=key)])
        return _json(orjson.dumps({"removed": int(key)}))

    async def handle_profile(self, request: web.Request) -> web.Response:
        """Change the given members of the profile; return it whole."""
        changes = orjson.loads(await _raw_body(request) or b"{}")
        if not isinstance(changes, dict):
            raise TypeError("the profile is an object")
        current = asdict(self._store.state.profile)
        activation = changes.get("activation")
        if isinstance(activation, str):
            changes = {**changes, "activation": {"mode": activation}}
        profile = _PROFILE.validate_python({**current, **changes})
        await self._keep([profile])
        return _json(orjson.dumps(profile))

    async def _keep(self, rows: list[Row]) -> None:
        self._store.commit(rows)
        await self._store.durable()

    def _now(self) -> datetime:
        return sandbox_time(self._store.state.world, self._clock.now())


def _guarded(handler: Handler) -> Handler:
    """Return the handler for callers on this machine only, with complaints as JSON."""

    async def handle(request: web.Request) -> web.Response:
        if not is_loopback(request.remote or "") or not is_loopback(request.url.host or ""):
            return _json(b'{"error":"the control plane answers this machine only"}', status=403)
        try:
            return await handler(request)
        except BodyError as error:
            return _json(orjson.dumps({"error": str(error)}), status=error.status)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            return _json(orjson.dumps({"error": "the body does not fit", "details": details}), status=400)
        except (ValueError, TypeError) as error:
            return _json(orjson.dumps({"error": str(error)}), status=400)

    return handle


async def _raw_body(request: web.Request) -> bytes:
    return await read_body(request, BODY_BYTES_MAX)


async def _body(request: web.Request, adapter: "TypeAdapter[Ordered]") -> Ordered:
    return adapter.validate_json(await _raw_body(request) or b"{}")


def _json(content: bytes, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=content, content_type=JSON_TYPE)
