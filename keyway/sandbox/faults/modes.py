"""The fault modes: their phases and arguments, and the reading of a `POST /__sandbox/faults` body.

A mode that strikes before the effect or after it must be told which ("phase"): the difference is the whole point. Other
modes have one phase, or a usual one that may be changed. Rules: docs/protocols/isplicense.md 13.4.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from keyway.sandbox.rows import Argument, FaultRule

Phase = Literal["before", "after"]
BOTH: tuple[Phase, ...] = ("before", "after")
ALIASES = {"localised_status": "localized_status"}
WAIT_MS_MAX = 600_000


class FaultError(ValueError):
    """A fault that cannot be set; the text says what to write instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One fault mode. `usual` is the phase when none is named; None = it must be named. The type of an argument's
    default is its type; a tuple lists the words it may be, the first being the default."""

    phases: tuple[Phase, ...] = BOTH
    usual: Phase | None = None
    args: dict[str, Argument | tuple[str, ...]] = field(default_factory=dict)


def _after(**args: Argument | tuple[str, ...]) -> Mode:
    return Mode(phases=("after",), usual="after", args=args)


def _before(**args: Argument | tuple[str, ...]) -> Mode:
    return Mode(phases=("before",), usual="before", args=args)


def _answer(**args: Argument | tuple[str, ...]) -> Mode:
    """Return a mode that replaces the answer: the effect has happened, unless the phase says otherwise."""
    return Mode(usual="after", args=args)


def _front(**args: Argument | tuple[str, ...]) -> Mode:
    """Return a mode of the front server: the panel has not seen the call, unless the phase says otherwise."""
    return Mode(usual="before", args=args)


MODES: dict[str, Mode] = {
    "slow": Mode(args={"ms": 1000}),
    "hang": Mode(args={"max_ms": WAIT_MS_MAX}),
    "drop": Mode(),
    "reset": Mode(),
    "http_status": Mode(args={"status": 502, "retry_after": 0}),
    "error_doc": Mode(args={"type": "xml", "object": "", "msg": "Internal error", "keep_id": False}),
    "drip": _after(ms=10),
    "truncate": _after(),
    "malformed_xml": _after(kind=("unclosed", "ampersand", "nul", "two_roots")),
    "wrong_root": _answer(root=("html", "root")),
    "empty_body": _answer(),
    "bad_encoding": _answer(kind=("windows-1251", "utf-16")),
    "xxe": _answer(file="/etc/hostname"),
    "xxe_param": _answer(),
    "billion_laughs": _answer(),
    "quadratic": _answer(),
    "huge_body": _answer(mebibytes=50, gzip=False),
    "deep": _answer(levels=100_000),
    "html_login": _front(),
    "redirect": _front(to=("login", "self", "origin", "http"), status=302),
    "captcha": _front(),
    "long_page": _after(hops=1, kind=("pages", "endless", "foreign")),
    "no_id": _after(),
    "many_ids": _after(id=0),
    "bad_id": _after(id="12abc"),
    "late_visible": _after(ms=5000),
    "invisible": _after(),
    "double_effect": _after(),
    "balance_exhausted": _before(money=("profile", "payment_required", "error_money")),
    "sticky_filter": _before(list="", field="licname", value="no license is called that"),
    "short_page": _before(rows=1, lies=False),
    "namesake": _before(),
    "localized_status": _before(),
    "type_switch": _before(),
    "clock_jump": _before(days=2),
    "tls_expired": _before(),
    "tls_wrong_host": _before(),
    "tls_unknown_ca": _before(),
}
TLS_MODES = frozenset({"tls_expired", "tls_wrong_host", "tls_unknown_ca"})


class FaultMatch(BaseModel):
    """Which calls a fault strikes; `func` may hold `*`, `parameters` must all be equal."""

    model_config = ConfigDict(extra="forbid")

    func: str = "*"
    user: str = "*"
    nth: Annotated[int, Field(ge=1)] = 1
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    parameters: dict[str, str] = {}


class FaultOrder(BaseModel):
    """The body of `POST /__sandbox/faults`; the phase may also stand in `args`."""

    model_config = ConfigDict(extra="forbid")

    match: FaultMatch = FaultMatch()
    mode: str
    phase: Phase | None = None
    args: dict[str, Argument] = {}
    times: Annotated[int, Field(ge=1)] | None = 1


def fault_rule(order: FaultOrder, fault_id: int) -> FaultRule:
    """Return the rule that `order` describes. Raises `FaultError` naming what is wrong with it."""
    name = ALIASES.get(order.mode, order.mode)
    mode = MODES.get(name)
    if mode is None:
        raise FaultError(f"there is no fault mode {order.mode!r}: choose one of {', '.join(MODES)}")
    given = dict(order.args)
    phase = _checked_phase(name, mode, order.phase or given.pop("phase", None))
    args = {argument: _checked_argument(name, argument, default, given) for argument, default in mode.args.items()}
    if given:
        raise FaultError(
            f"{name} has no argument {', '.join(sorted(given))}: it knows {', '.join(mode.args) or 'none'}"
        )
    match = order.match
    return FaultRule(
        id=fault_id,
        func=match.func,
        user=match.user,
        parameters=match.parameters,
        nth=match.nth,
        probability=match.probability,
        mode=name,
        phase=phase,
        args=args,
        times=order.times,
    )


def _checked_phase(name: str, mode: Mode, given: object) -> Phase:
    if given is None and mode.usual is None:
        raise FaultError(f"{name} strikes before or after the effect: name the phase")
    for phase in mode.phases:
        if phase == (given or mode.usual):
            return phase
    raise FaultError(f"{name} has no phase {given!r}: it has {' and '.join(mode.phases)}")


def _checked_argument(
    mode: str, name: str, default: Argument | tuple[str, ...], given: dict[str, Argument]
) -> Argument:
    """Return an argument's value, taken out of `given`; its default when it is not there."""
    if name not in given:
        return default[0] if isinstance(default, tuple) else default
    value = given.pop(name)
    if isinstance(default, tuple):
        if value not in default:
            raise FaultError(f"{name} of {mode} is one of {', '.join(default)}, not {value!r}")
        return value
    if isinstance(default, str):
        return str(value)
    if isinstance(default, bool) is not isinstance(value, bool) or not isinstance(value, int | float):
        raise FaultError(f"{name} of {mode} is a {type(default).__name__}, not {value!r}")
    if name in {"ms", "max_ms"} and not 0 <= value <= WAIT_MS_MAX:
        raise FaultError(f"{name} of {mode} is 0 to {WAIT_MS_MAX} milliseconds, not {value!r}")
    return value
