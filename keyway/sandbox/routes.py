"""The panel's HTTP side: one exchange from the request's arrival to the last byte, with the order of mischief.

arrival (journal, faults matched) -> before: wait, interrupt, replace -> the panel acts, its rows are on disk ->
after: wait, spoil, interrupt -> the wire. A caller that goes away stops nothing: like a real panel, the sandbox
finishes what it was asked. Rules: docs/protocols/isplicense.md 1, 13.1, 13.4.
"""

from dataclasses import dataclass, replace

from aiohttp import web

from keyway.sandbox.answer import Answer, html_page, rendered
from keyway.sandbox.auth import claimed_user
from keyway.sandbox.body import BodyError, read_body
from keyway.sandbox.call import Call, Draft, Mischief
from keyway.sandbox.catalog import money_text
from keyway.sandbox.delivery import NoAnswer, close, interrupt, send
from keyway.sandbox.document import Element
from keyway.sandbox.faults.plan import Plan, plan_for
from keyway.sandbox.faults.spoil import Surroundings, error_in_place, spoiled_answer, spoiled_document
from keyway.sandbox.forms import BODY_BYTES_MAX, Form, FormError, read_form, storable
from keyway.sandbox.journal import LAB_HEADER, JournalEntry, has_secret, redacted
from keyway.sandbox.long_pages import LONG_FUNC, fetched, parked
from keyway.sandbox.panel import Panel
from keyway.sandbox.rows import FaultRule
from keyway.sandbox.state import sandbox_time
from keyway.sandbox.store import Store
from keyway.sandbox.texts import RUSSIAN
from shared.clock import BusinessClock, SystemClock

LISTENER_PATH = "/__sandbox/listener"
NAME_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request on its way: its call, its journal entry, the faults that strike it, and the reset it belongs to."""

    request: web.Request
    call: Call
    entry: JournalEntry
    plan: Plan
    around: Surroundings
    epoch: int


class PanelRoutes:
    """The handlers of `/manager/billmgr`, `/billmgr` and the long pages."""

    def __init__(self, store: Store, panel: Panel, business_clock: BusinessClock, system_clock: SystemClock) -> None:
        """Serve `panel` on `store`."""
        self.listener_url = LISTENER_PATH  # whole once the plain port is known: a parser has no trust in our TLS
        self._store = store
        self._panel = panel
        self._business_clock = business_clock
        self._system_clock = system_clock

    def register(self, application: web.Application) -> None:
        """Add the routes."""
        for path in ("/manager/billmgr", "/billmgr"):
            application.router.add_get(path, self.handle_call)
            application.router.add_post(path, self.handle_call)
        # Wherever a client resolves the relative address, from the panel's path or from the last page's, it arrives.
        application.router.add_get(
            r"/{above:(manager/)?(long/[0-9a-f]+/)*}long/{token:[0-9a-f]+}/billmgr", self.handle_long
        )
        application.router.add_get(LISTENER_PATH, self.handle_listener)

    async def handle_call(self, request: web.Request) -> web.StreamResponse:
        """Answer one panel call."""
        try:
            body = await read_body(request, BODY_BYTES_MAX)
            form = read_form(request.rel_url.raw_query_string, body)
        except BodyError as error:
            return page_response(html_page(error.status, text=str(error)))
        except FormError as error:
            return page_response(html_page(400, text=str(error)))
        exchange = self._arrive(request, form, form.value("func"))
        early = await self._before(exchange)
        if early is not None:
            return early
        return await self._act(exchange)

    async def handle_long(self, request: web.Request) -> web.StreamResponse:
        """Answer a GET that follows a long page; faults may strike it under the function name `long`."""
        exchange = self._arrive(request, Form(parameters={}, query_names=frozenset()), LONG_FUNC)
        early = await self._before(exchange)
        if early is not None:
            return early
        page = self._store.state.long_pages.get(request.match_info["token"])
        if page is None:
            return await self._finish(exchange, html_page(404), "no such page")
        draft = Draft(self._store.state)
        answer = fetched(page, draft)
        self._store.commit(draft.rows())
        return await self._after(exchange, answer, "ok")

    async def handle_listener(self, _request: web.Request) -> web.StreamResponse:
        """Count a visit that only a parser following external entities makes."""
        world = self._store.state.world
        self._store.commit([replace(world, listener_hits=world.listener_hits + 1)])
        return web.Response(text="seen")

    def _arrive(self, request: web.Request, form: Form, func: str) -> Exchange:
        """Return the exchange, with the faults that strike it counted and its journal entry on file."""
        state = self._store.state
        call = self._call(request, form, func)
        plan, counted = plan_for(state, func=func, user=call.user, form=form)
        self._store.commit(counted)
        entry = JournalEntry(
            number=call.request_number,
            at=call.now,
            method=request.method,
            path=request.path,
            func=func[:NAME_LENGTH_MAX],
            user=call.user[:NAME_LENGTH_MAX],
            names=sorted(form.parameters),
            values=redacted(form),
            is_submit=call.is_submit,
            secrets_in_query=has_secret(form.query_names),
            connection=_connection(request),
            tls=request.secure,
            attempt=call.attempt,
            faults=plan.described(),
        )
        self._store.record(entry)
        host = storable(request.host)
        return Exchange(
            request=request,
            call=replace(call, now=call.now + plan.clock_jump(), mischief=plan.mischief()),
            entry=entry,
            plan=plan,
            around=Surroundings(
                path=request.path,
                host=host,
                listener_url=self.listener_url,
                accepts_gzip="gzip" in request.headers.get("Accept-Encoding", ""),
            ),
            epoch=self._store.epoch,
        )

    def _call(self, request: web.Request, form: Form, func: str) -> Call:
        state = self._store.state
        user = claimed_user(form, state)
        account = state.accounts.get(user)
        lang = form.value("lang") or (account.lang if account is not None else RUSSIAN)
        return Call(
            form=form,
            func=func,
            lang=RUSSIAN if lang == RUSSIAN else "en",
            user=user,
            address=request.remote or "",
            url=f"{request.scheme}://{storable(request.host)}{request.path}",
            now=sandbox_time(state.world, self._business_clock.now()),
            request_number=self._store.journal.next_number,
            attempt=storable(request.headers.get(LAB_HEADER, ""))[:NAME_LENGTH_MAX],
            mischief=Mischief(),
        )

    async def _before(self, exchange: Exchange) -> web.StreamResponse | None:
        """Hold the call up, or end it before the panel has seen it; None = go on."""
        plan, call = exchange.plan, exchange.call
        await self._wait(plan.wait_seconds("before"))
        if exchange.epoch != self._store.epoch:
            return _nothing(exchange.request)
        interrupting = plan.interrupting("before")
        if interrupting is not None:
            return await self._interrupt(exchange, interrupting)
        replacing = plan.replacing("before")
        if replacing is None:
            return None
        if replacing.mode in {"error_doc", "captcha"}:
            answer = rendered(error_in_place(replacing, call), call.value("out"))
        else:
            answer = spoiled_answer(rendered(Element("doc"), ""), replacing, exchange.around)
        return await self._finish(exchange, answer, f"fault {replacing.mode}")

    async def _act(self, exchange: Exchange) -> web.StreamResponse:
        """Let the panel act, then answer."""
        entry, call = exchange.entry, exchange.call
        handled = self._panel.answer(call)
        entry.effects = list(handled.effects)
        entry.charge = money_text(handled.charged) if handled.charged else ""
        document = spoiled_document(handled.document, exchange.plan, call)
        return await self._after(exchange, rendered(document, call.value("out")), handled.outcome)

    async def _after(self, exchange: Exchange, answer: Answer, outcome: str) -> web.StreamResponse:
        """Spoil and deliver the answer of a call that has had its effect."""
        plan = exchange.plan
        for rule in plan.rules:
            if rule.phase == "after":
                answer = spoiled_answer(answer, rule, exchange.around)
        parking = plan.first("long_page")
        if parking is not None and exchange.call.func != LONG_FUNC:
            draft = Draft(self._store.state)
            answer = parked(answer, parking, draft)
            self._store.commit(draft.rows())
        return await self._finish(exchange, answer, outcome)

    async def _finish(self, exchange: Exchange, answer: Answer, outcome: str) -> web.StreamResponse:
        exchange.entry.outcome = outcome
        self._store.record(exchange.entry)
        await self._store.durable()
        await self._wait(exchange.plan.wait_seconds("after"))
        if exchange.epoch != self._store.epoch:
            return _nothing(exchange.request)
        interrupting = exchange.plan.interrupting("after")
        if interrupting is not None:
            return await interrupt(exchange.request, interrupting, self._system_clock)
        return await send(exchange.request, answer, exchange.plan, exchange.call, self._system_clock)

    async def _interrupt(self, exchange: Exchange, rule: FaultRule) -> web.StreamResponse:
        exchange.entry.outcome = f"fault {rule.mode}"
        self._store.record(exchange.entry)
        await self._store.durable()
        return await interrupt(exchange.request, rule, self._system_clock)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await self._system_clock.sleep(seconds)


def _nothing(request: web.Request) -> web.StreamResponse:
    """End a call that began before a reset: it belongs to a world that is gone."""
    close(request)
    return NoAnswer()


def page_response(answer: Answer) -> web.Response:
    """Return a front server's page as a response."""
    return web.Response(status=answer.status, headers={"Content-Type": answer.content_type}, body=answer.body)


def _connection(request: web.Request) -> str:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return f"{peer[0]}:{peer[1]}" if peer else ""
