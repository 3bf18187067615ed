"""Which faults strike a call: matched on arrival, in the order they were set, the same ones for the same seed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase

from keyway.sandbox.call import Mischief, numeric
from keyway.sandbox.faults.modes import TLS_MODES, Phase
from keyway.sandbox.forms import Form
from keyway.sandbox.rows import FaultRule, MoneyMode
from keyway.sandbox.state import State

_DRAW_BYTES = 8
_INTERRUPTING = frozenset({"drop", "reset", "hang"})
_REPLACING = frozenset(
    {
        "http_status",
        "error_doc",
        "malformed_xml",
        "wrong_root",
        "empty_body",
        "bad_encoding",
        "xxe",
        "xxe_param",
        "billion_laughs",
        "quadratic",
        "huge_body",
        "deep",
        "html_login",
        "redirect",
        "captcha",
        "long_page",
    }
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults that strike one call."""

    rules: tuple[FaultRule, ...] = ()

    def of(self, *modes: str, phase: Phase | None = None) -> Iterator[FaultRule]:
        """Return the striking faults of these modes, all phases or one."""
        return (rule for rule in self.rules if rule.mode in modes and phase in {None, rule.phase})

    def first(self, *modes: str, phase: Phase | None = None) -> FaultRule | None:
        """Return the first striking fault of these modes."""
        return next(self.of(*modes, phase=phase), None)

    def replacing(self, phase: Phase) -> FaultRule | None:
        """Return the fault that puts another answer in place of the panel's."""
        return self.first(*_REPLACING, phase=phase)

    def interrupting(self, phase: Phase) -> FaultRule | None:
        """Return the fault that ends the exchange without an answer."""
        return self.first(*_INTERRUPTING, phase=phase)

    def wait_seconds(self, phase: Phase) -> float:
        """Return how long the call is held up in this phase."""
        return sum(numeric(rule.args["ms"]) for rule in self.of("slow", phase=phase)) / 1000

    def clock_jump(self) -> timedelta:
        """Return by how much the panel's day is wrong for this call."""
        return timedelta(days=sum(numeric(rule.args["days"]) for rule in self.of("clock_jump")))

    def mischief(self) -> Mischief:
        """Return the faults that change what the panel does."""
        broke, late = self.first("balance_exhausted"), self.first("late_visible")
        short, sticky = self.first("short_page"), self.first("sticky_filter")
        return Mischief(
            balance_exhausted=broke is not None,
            money_mode=_money_mode(broke),
            double_effect=self.first("double_effect") is not None,
            listed_after_ms=numeric(late.args["ms"]) if late is not None else None,
            unlisted=self.first("invisible") is not None,
            namesake=self.first("namesake") is not None,
            sticky_filter={str(sticky.args["field"]): str(sticky.args["value"])} if sticky is not None else None,
            sticky_list=str(sticky.args["list"]) if sticky is not None else "",
            short_by=numeric(short.args["rows"]) if short is not None else 0,
            short_page_lies=short is not None and bool(short.args["lies"]),
            localized_status=self.first("localized_status") is not None,
            type_switch=self.first("type_switch") is not None,
        )

    def described(self) -> list[dict[str, object]]:
        """Return what the journal says of the striking faults."""
        return [{"id": rule.id, "mode": rule.mode, "phase": rule.phase} for rule in self.rules]


def plan_for(state: State, *, func: str, user: str, form: Form) -> tuple[Plan, list[FaultRule]]:
    """Return the faults that strike this call, and all that counted it: rows to commit."""
    counted: list[FaultRule] = []
    striking: list[FaultRule] = []
    for rule in state.faults.values():
        if rule.mode not in TLS_MODES and _matches(rule, func, user, form):
            after = _count(rule, state.world.seed)
            counted.append(after)
            if after.strikes > rule.strikes:
                striking.append(after)
    return Plan(tuple(striking)), counted


def plan_for_handshake(state: State) -> tuple[FaultRule | None, list[FaultRule]]:
    """Return the certificate fault that strikes a TLS connection, and the rules that counted it."""
    counted: list[FaultRule] = []
    for rule in state.faults.values():
        if rule.mode in TLS_MODES:
            after = _count(rule, state.world.seed)
            counted.append(after)
            if after.strikes > rule.strikes:
                return after, counted
    return None, counted


def _matches(rule: FaultRule, func: str, user: str, form: Form) -> bool:
    return (
        fnmatchcase(func, rule.func)
        and fnmatchcase(user, rule.user)
        and all(form.value(name) == value for name, value in rule.parameters.items())
    )


def _count(rule: FaultRule, seed: str) -> FaultRule:
    """Return the rule after one more matching call, with one more strike where it strikes."""
    seen = rule.seen + 1
    digest = hashlib.sha256(f"{seed}:fault:{rule.id}:{seen}".encode()).digest()
    drawn = int.from_bytes(digest[:_DRAW_BYTES], "big") / 256**_DRAW_BYTES < rule.probability
    strikes = seen >= rule.nth and drawn and (rule.times is None or rule.strikes < rule.times)
    return replace(rule, seen=seen, strikes=rule.strikes + strikes)


def _money_mode(broke: FaultRule | None) -> MoneyMode | None:
    match broke.args["money"] if broke is not None else None:
        case "payment_required":
            return "payment_required"
        case "error_money":
            return "error_money"
        case _:
            return None
