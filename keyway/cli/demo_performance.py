"""One performance of `keyway demo`: every act on a license of its own, every answer, event and charge judged."""

import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import orjson

from keyway.cli.demo_clock import DemoClock
from keyway.cli.demo_page import Page
from keyway.ka import http
from keyway.ka.acts import ACTS, Act
from keyway.ka.client import Exchange, KeyAdministrator, Outcome
from keyway.ka.forms import encode
from keyway.ka.license_body import BodyRefusedError, read_claims
from keyway.ka.local_stack import Stack
from keyway.ka.month import Scene, Step, charge_faults, event_faults, faults
from keyway.ka.panel_books import PanelBooks
from keyway.ka.public_topics import EventFollower, event_id, report_usage, usage_event
from shared.contracts.topics import USAGE_REPORTED
from shared.errors import UnavailableError
from shared.settings import load_settings

if TYPE_CHECKING:
    from rich.console import Console

ANSWER_SECONDS = 30.0
SETTLED_SECONDS = 60.0
ASK_AGAIN_SECONDS = 0.5
EVENTS_SECONDS = 30.0
RELEASED_SECONDS = 90.0
LOST_REPLY_SETTLES_SECONDS = 0.3
NUMBERS = 10**8
SERVERS = 254 * 256
"""Addresses from 198.19.0.0 on: a range for bench tests, no customer has one."""
NO_SANDBOX = "the provider of this stack is no sandbox, and orders there may cost real money"


async def perform(stack: Stack, clock: DemoClock, console: "Console") -> list[str]:
    """Play every act and return what was wrong. Raises `UnavailableError` when a part of the stack does not answer."""
    drawn: set[int] = set()
    while len(drawn) < len(ACTS):
        drawn.add(secrets.randbelow(NUMBERS))
    numbers = [f"{number:08}" for number in drawn]
    prefix = load_settings().topic_prefix
    licenses = [f"{stack.account}:{number}" for number in numbers]
    page = Page(console)
    keys = await _published_keys(stack)
    found: list[str] = []
    async with EventFollower.following(stack.kafka, licenses, clock=clock.system, topic_prefix=prefix) as follower:
        for act, number in zip(ACTS, numbers, strict=True):
            if act.needs_panel and stack.panel is None:
                page.left_out(act.title, NO_SANDBOX)
                continue
            performance = Performance(
                stack=stack, clock=clock, page=page, keys=keys, follower=follower, number=number, topic_prefix=prefix
            )
            found += await performance.play(act)
    return found


@dataclass(slots=True, kw_only=True)
class Performance:
    """One act, played on the license of one number."""

    stack: Stack
    clock: DemoClock
    page: Page
    keys: Mapping[str, object]
    """JWK set of the gateway."""
    follower: EventFollower
    number: str
    topic_prefix: str
    _reported: dict[str, bytes] = field(default_factory=dict, init=False)
    """Usage events by id: the same event sent again has the same bytes."""

    @property
    def license(self) -> str:
        """The license id."""
        return f"{self.stack.account}:{self.number}"

    async def play(self, act: Act) -> list[str]:
        """Play every step and return what was wrong."""
        await self.clock.reach(0)
        scene = Scene(first_day=self.clock.now().date(), number=self.number, address=_drawn_address())
        self.page.act(act.title, self.license)
        found: list[str] = []
        for place, step in enumerate(act.steps, 1):
            await self.clock.reach(step.day)
            self.page.step(place, step, scene.first_day + timedelta(days=step.day))
            await self._report(step)
            exchange, wrong = await self._exchange(step, scene)
            wrong += await self._events(step)
            wrong += await self._charges(step, scene)
            self.page.wrong(wrong)
            found += [f"{act.title}, {step.name}: {fault}" for fault in wrong]
            scene = replace(scene, answers={**scene.answers, step.name: exchange})
        extra = await self.follower.rest(self.license, seconds=EVENTS_SECONDS)
        self.page.followed(extra)
        story = self.follower.stories[self.license]
        self.page.ended(story)
        late = [f"event {event['sequence']} ({event['type']}) came at the end" for event in extra]
        return found + [f"{act.title}: {fault}" for fault in (*story.faults, *late)]

    async def _exchange(self, step: Step, scene: Scene) -> tuple[Exchange, list[str]]:
        """Ask, show and judge; return the last exchange and what was wrong with it."""
        found: list[str] = []
        claims = None
        async for exchange in self._asked(step, scene):
            self.page.asked(exchange)
            claims = None
            if step.licensed is not None and exchange.outcome is Outcome.OK:
                try:
                    claims = read_claims(exchange.body, self.keys)
                except BodyRefusedError as error:
                    found.append(str(error))
            self.page.answered(exchange, claims)
        if step.same_as:
            self.page.compared(step.same_as, same=exchange.body == scene.answers[step.same_as].body)
        return exchange, found + faults(step, exchange, scene, claims)

    async def _asked(self, step: Step, scene: Scene) -> AsyncIterator[Exchange]:
        """Yield the exchanges of a step: one, or as many as it takes until KA knows."""
        form = step.request(scene)
        ka: KeyAdministrator = self.stack.administrator(patience_seconds=ANSWER_SECONDS)
        system = self.clock.system
        if step.reply_is_lost:
            address = http.Address.of(ka.url)
            await http.send_and_leave(address, http.render(address, ka.headers(), encode(form)))
            await system.sleep(LOST_REPLY_SETTLES_SECONDS)
            yield Exchange(form=form, sent_at=0.0, seconds=0.0, answer=None, problem="the connection broke")
            return
        deadline = system.monotonic() + SETTLED_SECONDS
        while True:
            exchange = await ka.send(form)
            yield exchange
            if not step.asks_again or exchange.outcome is not Outcome.INFO or system.monotonic() > deadline:
                return
            await system.sleep(ASK_AGAIN_SECONDS)

    async def _report(self, step: Step) -> None:
        """Publish the usage events of a step, as another system."""
        now = self.clock.now()
        said: list[tuple[str, str]] = []
        for report in step.reports:
            name = event_id(report, self.number)
            again = name in self._reported
            if not again:
                event = usage_event(report, account=self.stack.account, number=self.number, now=now)
                self._reported[name] = event
            ago = f", {report.hours_ago} h ago" if report.hours_ago else ""
            said.append((name, f"{report.kind} {report.counter}={report.value:g}{ago}{', again' if again else ''}"))
        if said:
            events = [self._reported[name] for name, _ in said]
            await report_usage(self.stack.kafka, self.license, events, topic_prefix=self.topic_prefix)
            self.page.reported(USAGE_REPORTED, said)

    async def _events(self, step: Step) -> list[str]:
        """Wait for the public events of a step, show them, return what is wrong with them."""
        if not step.events:
            return []
        events = await self.follower.next_events(self.license, len(step.events), seconds=EVENTS_SECONDS)
        self.page.followed(events)
        return event_faults(step, events)

    async def _charges(self, step: Step, scene: Scene) -> list[str]:
        """Look into the provider's books where the step says what must stand there."""
        if not step.charges or self.stack.panel is None:
            return []
        books = PanelBooks(self.stack.panel)
        service = await books.service_at(scene.address)
        deadline = self.clock.system.monotonic() + RELEASED_SECONDS
        while step.released and not (service and service.ended) and self.clock.system.monotonic() < deadline:
            await self.clock.system.sleep(ASK_AGAIN_SECONDS)
            service = await books.service_at(scene.address)
        charges = [] if service is None else await books.charges_for(service)
        self.page.charged(service, charges)
        ended = service is not None and service.ended
        return charge_faults(step, [charge.reason for charge in charges], ended=ended)


async def _published_keys(stack: Stack) -> dict[str, object]:
    address = http.Address.of(f"{stack.gateways[0]}/.well-known/jwks.json")
    try:
        request = http.render(address, {}, b"", method="GET")
        answer = await http.exchange(address, request, timeout_seconds=ANSWER_SECONDS)
    except http.NoAnswerError as error:
        raise UnavailableError(f"the gateway at {address.host}:{address.port} does not answer: {error}") from None
    keys: dict[str, object] = orjson.loads(answer.body)
    return keys


def _drawn_address() -> str:
    high, low = divmod(secrets.randbelow(SERVERS), 256)
    return f"198.19.{high}.{low}"
