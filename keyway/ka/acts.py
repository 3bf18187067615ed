"""The acts of `keyway demo`: one license each, from its purchase to its end.

A standard product, two that are paid by use (docs/protocols/usage.md) and one of an upstream provider
(docs/protocols/isplicense.md 9). Every act begins on the same first day: other licenses shall not grow old meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from keyway.ka.forms import REPORTING, Form, Order, info_form, operation_form, termination_form
from keyway.ka.month import STANDARD_MONTH, Licensed, Report, Scene, Step

TRANSFER, BACKUP, ISPMANAGER = "CloudTransfer", "CloudBackup", "ISPMGR6-LITE"
FIGURES = '{"version":"isv-reportable-1","usage":{%s}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """The life of one license."""

    title: str
    steps: tuple[Step, ...]
    needs_panel: bool = False
    """It orders upstream: only where that is a sandbox, which takes no real money."""


def _used(product: str, scene: Scene, *, day: int) -> Order:
    return replace(scene.order(product, day=day, periods=1), model=REPORTING)


def _use_purchase(product: str) -> Callable[[Scene], Form]:
    return lambda scene: operation_form("PURCHASE", _used(product, scene, day=0))


def _question(product: str, day: int) -> Callable[[Scene], Form]:
    return lambda scene: info_form(_used(product, scene, day=day))


def _use_end(product: str, day: int) -> Callable[[Scene], Form]:
    def form(scene: Scene) -> Form:
        held = replace(_used(product, scene, day=day), previous_body=scene.answers["bought"].body)
        return termination_form(held, scene.first_day + timedelta(days=day))

    return form


def _figures(**counters: int) -> str:
    return FIGURES % ",".join(f'"{name}":{value}' for name, value in counters.items())


def _sent(name: str, value: float) -> Report:
    return Report(name=name, kind="increment", counter="sentGigabytes", value=value)


def _stored(name: str, value: float, hours_ago: int = 0) -> Report:
    return Report(name=name, kind="level", counter="storedGigabytes", value=value, hours_ago=hours_ago)


SUMS: tuple[Step, ...] = (
    Step(
        name="bought",
        title="A customer gets CloudTransfer: free today, billed by what is used",
        day=0,
        request=_use_purchase(TRANSFER),
        status=200,
        licensed=Licensed(TRANSFER, 1, 1),
        events=("issued",),
    ),
    Step(
        name="used",
        title="Another system reports, one event twice; KA asks: each counts once, fractions are told rounded up",
        day=1,
        reports=(
            _sent("morning", 1.5),
            _sent("noon", 2),
            _sent("noon", 2),
            Report(name="inward", kind="increment", counter="receivedGigabytes", value=12),
        ),
        request=_question(TRANSFER, 1),
        status=200,
        text=_figures(sentGigabytes=4, receivedGigabytes=12),
        asks_again=True,
    ),
    Step(
        name="used-more",
        title="The next day, and that event once more: the exact sum is 9.5",
        day=2,
        reports=(_sent("evening", 6), _sent("noon", 2)),
        request=_question(TRANSFER, 2),
        status=200,
        text=_figures(sentGigabytes=10, receivedGigabytes=12),
        asks_again=True,
    ),
    Step(
        name="terminated",
        title="The end",
        day=3,
        request=_use_end(TRANSFER, 3),
        status=204,
        events=("terminated",),
    ),
    Step(
        name="too-late",
        title="A terminated license reports nothing: KA keeps what it stored last",
        day=4,
        request=_question(TRANSFER, 4),
        status=410,
        text="Error: license {number} is terminated and reports no usage.",
    ),
)

LEVELS: tuple[Step, ...] = (
    Step(
        name="bought",
        title="CloudBackup is billed by levels",
        day=0,
        request=_use_purchase(BACKUP),
        status=200,
        licensed=Licensed(BACKUP, 1, 1),
        events=("issued",),
    ),
    Step(
        name="used",
        title="Reports arrive in the wrong order: the latest by its own time is in force; never reported is 0",
        day=1,
        reports=(_stored("new", 117.2), _stored("late", 90, hours_ago=3)),
        request=_question(BACKUP, 1),
        status=200,
        text=_figures(storedGigabytes=118, protectedServers=0),
        asks_again=True,
    ),
    Step(
        name="silent",
        title="Two days of silence: no figure rather than an old one",
        day=3,
        request=_question(BACKUP, 3),
        status=503,
        text="Error: usage data are temporarily unavailable.",
    ),
    Step(
        name="used-again",
        title="The reports are back",
        day=3,
        reports=(_stored("back", 121),),
        request=_question(BACKUP, 3),
        status=200,
        text=_figures(storedGigabytes=121, protectedServers=0),
        asks_again=True,
    ),
    Step(
        name="terminated",
        title="The end",
        day=4,
        request=_use_end(BACKUP, 4),
        status=204,
        events=("terminated",),
    ),
)


def _order_upstream(scene: Scene) -> Form:
    return operation_form("PURCHASE", replace(scene.order(ISPMANAGER, day=0, periods=1), activation_data=scene.address))


def _renewal_upstream(day: int) -> Callable[[Scene], Form]:
    def form(scene: Scene) -> Form:
        held = scene.order(ISPMANAGER, day=day, periods=2, previous="bought")
        return operation_form("RENEW", replace(held, activation_data=scene.address))

    return form


def _end_upstream(scene: Scene) -> Form:
    held = scene.order(ISPMANAGER, day=35, periods=2, previous="renewed")
    return termination_form(held, scene.first_day + timedelta(days=35))


PROVIDER: tuple[Step, ...] = (
    Step(
        name="bought",
        title="ISPmanager for the customer's server is ordered at the provider, for money",
        day=0,
        request=_order_upstream,
        status=200,
        licensed=Licensed(ISPMANAGER, 1, 1),
        events=("issued",),
        charges=("order",),
        asks_again=True,
    ),
    Step(
        name="bought-again",
        title="KA repeats it: the same bytes, nothing is ordered twice",
        day=0,
        request=_order_upstream,
        status=200,
        licensed=Licensed(ISPMANAGER, 1, 1),
        same_as="bought",
        charges=("order",),
        asks_again=True,
    ),
    Step(
        name="renewed",
        title="A month later: one more period upstream",
        day=28,
        request=_renewal_upstream(28),
        status=200,
        licensed=Licensed(ISPMANAGER, 2, 2),
        events=("renewed",),
        charges=("order", "prolong"),
        asks_again=True,
    ),
    Step(
        name="renewed-again",
        title="The next day KA repeats it: one charge per period",
        day=29,
        request=_renewal_upstream(29),
        status=200,
        licensed=Licensed(ISPMANAGER, 2, 2),
        same_as="renewed",
        charges=("order", "prolong"),
        asks_again=True,
    ),
    Step(
        name="terminated",
        title="The end; upstream it is kept for another 30 days, should it have been a mistake",
        day=35,
        request=_end_upstream,
        status=204,
        events=("terminated",),
        charges=("order", "prolong"),
    ),
    Step(
        name="terminated-again",
        title="A month later the provider is told to let it go",
        day=66,
        request=_end_upstream,
        status=200,
        text="License {number} is terminated.",
        charges=("order", "prolong"),
        released=True,
    ),
)

ACTS: tuple[Act, ...] = (
    Act(title="A standard product", steps=STANDARD_MONTH),
    Act(title="Paid by use: sums", steps=SUMS),
    Act(title="Paid by use: levels", steps=LEVELS),
    Act(title="A product of an upstream provider", steps=PROVIDER, needs_panel=True),
)
