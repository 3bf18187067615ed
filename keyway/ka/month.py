"""A KA's month as data: what it asks, when, what a good endpoint answers and tells. `keyway demo` plays it.

A step is one exchange. New products or protocols are more steps, not more code; those beside the standard product
stand in `keyway.ka.acts`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from keyway.ka.client import Exchange
from keyway.ka.forms import Form, Order, operation_form, termination_form

GRACE = timedelta(days=10)
PERIOD = timedelta(days=28)
"""Four weeks, so that no calendar is needed (KA's own adds calendar months): never longer than a provider's month."""
EVENT_PREFIX = "keyway.license."


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where the month plays: its first day, the license number, and what was answered so far by step name."""

    first_day: date
    number: str
    address: str = "198.18.0.1"
    """The customer's server."""
    answers: Mapping[str, Exchange] = field(default_factory=dict)

    def order(self, product: str, *, day: int, periods: int, previous: str = "") -> Order:
        """Return an order placed on that day of the month, paid for so many periods from the first day on.

        `previous` names the step whose body KA holds.
        """
        return Order(
            number=self.number,
            product=product,
            purchase_on=self.first_day + timedelta(days=day),
            subscription_on=self.first_day,
            start_on=self.first_day + PERIOD * (periods - 1),
            expires_on=self.first_day + PERIOD * periods + GRACE,
            previous_body=self.answers[previous].body if previous else None,
        )


@dataclass(frozen=True, slots=True)
class Licensed:
    """The answer is a license body with these claims."""

    product: str
    revision: int
    periods: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One usage event of another system (docs/protocols/usage.md 1). The same name again: sent again."""

    name: str
    """The part of its id that tells it from others of the license."""
    kind: str
    """`level` or `increment`."""
    counter: str
    value: float
    hours_ago: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One exchange of the month, with what other systems do before it and see after it."""

    name: str
    title: str
    day: int
    request: Callable[[Scene], Form]
    status: int
    licensed: Licensed | None = None
    same_as: str = ""
    """Name of the step whose bytes this answer repeats."""
    text: str = ""
    """The answer's text, `{number}` in it."""
    reply_is_lost: bool = False
    """KA sends the request and hears nothing: the connection is cut."""
    asks_again: bool = False
    """5xx may be answered at first: nothing is refused, KA asks until it knows."""
    reports: tuple[Report, ...] = ()
    """Usage reported before the request."""
    events: tuple[str, ...] = ()
    """Types of the public events that follow, without their prefix."""
    charges: tuple[str, ...] = ()
    """Everything that the panel charged for this license up to now, by reason; looked at when there is any."""
    released: bool = False
    """The panel ends the service after this step."""


def _purchase(scene: Scene) -> Form:
    return operation_form("PURCHASE", scene.order("Bronze", day=0, periods=1))


def _renewal(day: int) -> Callable[[Scene], Form]:
    return lambda scene: operation_form("RENEW", scene.order("Bronze", day=day, periods=2, previous="bought"))


def _upgrade(product: str, day: int, previous: str) -> Callable[[Scene], Form]:
    return lambda scene: operation_form("UPGRADE", scene.order(product, day=day, periods=2, previous=previous))


def _termination(day: int) -> Callable[[Scene], Form]:
    def form(scene: Scene) -> Form:
        held = scene.order("NFR-Gold", day=day, periods=2, previous="marked")
        return termination_form(held, scene.first_day + timedelta(days=day))

    return form


def _late_renewal(scene: Scene) -> Form:
    return operation_form("RENEW", scene.order("NFR-Gold", day=58, periods=3))


STANDARD_MONTH: tuple[Step, ...] = (
    Step(
        name="lost",
        title="A customer buys Bronze; the connection breaks before KA hears the answer",
        day=0,
        request=_purchase,
        status=200,
        reply_is_lost=True,
    ),
    Step(
        name="bought",
        title="KA asks again, as it must: one license, not two",
        day=0,
        request=_purchase,
        status=200,
        licensed=Licensed("Bronze", 1, 1),
        events=("issued",),
    ),
    Step(
        name="bought-again",
        title="And again: the same bytes",
        day=0,
        request=_purchase,
        status=200,
        licensed=Licensed("Bronze", 1, 1),
        same_as="bought",
    ),
    Step(
        name="renewed",
        title="A month later: RENEW to an absolute day",
        day=30,
        request=_renewal(30),
        status=200,
        licensed=Licensed("Bronze", 2, 2),
        events=("renewed",),
    ),
    Step(
        name="renewed-again",
        title="The next day KA repeats it, still holding the first body: no second month",
        day=31,
        request=_renewal(31),
        status=200,
        licensed=Licensed("Bronze", 2, 2),
        same_as="renewed",
    ),
    Step(
        name="upgraded",
        title="UPGRADE to Gold: the dates stay",
        day=45,
        request=_upgrade("Gold", 45, "renewed"),
        status=200,
        licensed=Licensed("Gold", 3, 2),
        events=("upgraded",),
    ),
    Step(
        name="downgrade",
        title="Downward is not offered",
        day=45,
        request=_upgrade("Silver", 45, "upgraded"),
        status=400,
        text="Error: upgrade from Gold to Silver is not offered.",
    ),
    Step(
        name="marked",
        title="Staff mark the license as not for resale",
        day=46,
        request=_upgrade("NFR-Gold", 46, "upgraded"),
        status=200,
        licensed=Licensed("NFR-Gold", 4, 2),
        events=("upgraded",),
    ),
    Step(name="terminated", title="The end", day=57, request=_termination(57), status=204, events=("terminated",)),
    Step(
        name="terminated-again",
        title="The end, repeated",
        day=57,
        request=_termination(57),
        status=200,
        text="License {number} is terminated.",
    ),
    Step(
        name="too-late",
        title="Nothing brings a terminated license back",
        day=58,
        request=_late_renewal,
        status=409,
        text="Error: license {number} is terminated and cannot be renewed.",
    ),
)


def last_day(scene: Scene, licensed: Licensed) -> date:
    """Return the last day that `licensed` says."""
    return scene.first_day + PERIOD * licensed.periods + GRACE


def faults(step: Step, exchange: Exchange, scene: Scene, claims: Mapping[str, object] | None) -> list[str]:
    """Return what is wrong with the answer to a step; `claims` are those of a genuine license body."""
    if step.reply_is_lost:
        return []
    found: list[str] = []
    if exchange.status != step.status:
        found.append(f"status {exchange.status}, expected {step.status} {exchange.problem}".rstrip())
    text = step.text.replace("{number}", scene.number)
    if text and exchange.body != text.encode():
        found.append(f"text {exchange.body[:200]!r}, expected {text!r}")
    if step.same_as and exchange.body != scene.answers[step.same_as].body:
        found.append(f"other bytes than at {step.same_as!r}")
    if step.licensed is not None:
        wanted = (step.licensed.product, step.licensed.revision)
        told = None if claims is None else (claims.get("product"), claims.get("revision"))
        if told != wanted:
            found.append(f"the body claims {told}, expected {wanted}")
    return found


def event_faults(step: Step, events: Sequence[Mapping[str, object]]) -> list[str]:
    """Return what is wrong with the public events (CloudEvents, first occurrences) that followed a step."""
    wanted = [EVENT_PREFIX + name for name in step.events]
    types = [event["type"] for event in events]
    if types != wanted:
        return [f"events {types} followed, expected {wanted}"]
    if not events or step.licensed is None:
        return []
    data = events[-1]["data"]
    told = (data.get("product"), data.get("revision")) if isinstance(data, Mapping) else None
    wanted_data = (step.licensed.product, step.licensed.revision)
    return [] if told == wanted_data else [f"the event tells {told}, expected {wanted_data}"]


def charge_faults(step: Step, charges: Sequence[str], *, ended: bool) -> list[str]:
    """Return what is wrong with the provider's books after a step: reasons of all charges, whether it is let go."""
    found = []
    if tuple(charges) != step.charges:
        found.append(f"the provider charged {list(charges)}, expected {list(step.charges)}")
    if ended != step.released:
        found.append("the service upstream is not released" if step.released else "the service upstream is gone")
    return found
