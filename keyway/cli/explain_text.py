"""The story of a license in lines for people: when, who asked what, what became of it and why, what to do now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import orjson

from gateway import partner_problems, problems
from shared.contracts.codec import encode_details
from shared.contracts.replies import Reply, ReplyStatus
from shared.contracts.topics import PROVIDER_REQUESTS

if TYPE_CHECKING:
    from shared.database.license_queries import (
        AuditFacts,
        EventFacts,
        LicenseFacts,
        LicenseStory,
        ResultFacts,
        RevisionFacts,
    )
    from shared.database.provider_oversight import StoryLine


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStory:
    """One order at the provider and everything that happened to it."""

    order_id: UUID
    account: str
    """The provider account."""
    step: str
    product: str
    state: str
    service: int | None
    refusal: str | None
    intended_at: datetime
    pause: tuple[datetime, str] | None
    """Until when and why its account calls nothing at present."""
    lines: "Sequence[StoryLine]"


OUR_ROLES: Mapping[str, str] = {
    "record_provider_outcome": "the provider role",
    "lapse_license": "the scheduler",
    "close_upstream": "the scheduler",
}
"""Commands that no caller sends."""
UNSAID = frozenset({"type", "asked_by"})
MEANINGS: Mapping[str, str] = {
    "pending": "waits for the provider",
    "waiting": "waits in line behind the operation under way",
    "repeated": "known before: answered alike, nothing changed",
    "noted": "taken in",
}
"""Outcomes that need a word more."""
DECIDED = frozenset({"confirmed", "refused"})
"""States of an order that has ended."""
CLOCKS_APART = timedelta(minutes=1)


def told(story: "LicenseStory", orders: Sequence[OrderStory]) -> list[str]:
    """Return the whole story."""
    lines = [*_headline(story), ""]
    parts = _Parts(story)
    for link in story.audit:
        lines += parts.told(link)
    lines += [*_told_orders(orders), ""]
    if story.license is not None:
        lines.append(f"remembered operations: {len(story.operations)}")
    if story.audit_fault is None:
        lines.append(f"audit chain: whole, {len(story.audit)} entries")
    return lines + _what_now(story, orders)


class _Parts:
    """What stands beside the audit, by the command that wrote it."""

    def __init__(self, story: "LicenseStory") -> None:
        self._results: Mapping[object, ResultFacts] = {result.command_id: result for result in story.results}
        self._revisions: Mapping[object, RevisionFacts] = {
            revision.body_sha256: revision for revision in story.revisions
        }
        self._by_number: Mapping[object, RevisionFacts] = {revision.revision: revision for revision in story.revisions}
        self._events: dict[object, list[EventFacts]] = {}
        for event in story.events:
            self._events.setdefault(event.command_id, []).append(event)

    def told(self, link: "AuditFacts") -> list[str]:
        entry = parsed(link.entry)
        if not isinstance(entry, dict):
            return [f"{_moment(link.recorded_at)}  unreadable audit entry: ?"]
        asked = entry.get("asked")
        asked = asked if isinstance(asked, dict) else {}
        outcome = str(entry.get("outcome", "?"))
        lines = [f"{_moment(link.recorded_at)}  {asked.get('type', '?')}: {outcome}{_meaning(outcome)}"]
        lines.append(f"    {_who(entry, asked)}{_what(asked)}{_business_time(entry)}")
        answers = _answers(entry, asked)
        lines += [f"    {text}" for text in answers]
        lines.append(f"    command {link.command_id}")
        lines += self._replied(link, entry, told_already=bool(answers))
        lines += [f"    alert: {alert}" for alert in entry.get("alerts") or ()]
        lines += [f"    {_told_event(event)}" for event in self._events.get(link.command_id, ())]
        return lines

    def _replied(self, link: "AuditFacts", entry: Mapping[str, object], *, told_already: bool) -> list[str]:
        lines = []
        reply = self._results.get(link.command_id)
        issued = self._revisions.get(entry.get("body_sha256"))
        if reply is not None and reply.status not in {"noted", "pending"}:
            if not told_already:
                lines.append(f"    replied {reply.status} {reply.meta}".rstrip())
            issued = issued or self._by_number.get(reply.revision)
        if issued is not None:
            digest = f"{issued.body_bytes} bytes, SHA-256 {issued.body_sha256}"
            lines.append(f"    body of revision {issued.revision} ({issued.product}): {digest}")
        return lines


def parsed(document: bytes) -> object:
    """Return stored JSON as what it says, anything else as text."""
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError:
        return document.decode("utf-8", "replace")


def _headline(story: "LicenseStory") -> list[str]:
    if story.license is None:
        yet = "no license" if story.open is None else "no license yet: its first operation is under way"
        return [f"{story.license_id}  {yet}"]
    lines = [_license_line(story.license)]
    if story.key is not None:
        parent = "" if story.key.parent_key_id is None else f", parent {story.key.parent_key_id}"
        configuration = "" if story.key.configuration is None else f", configuration {story.key.configuration}"
        lines.append(f"key of owner {story.key.owner}: {', '.join(story.key.items)}{configuration}{parent}")
    return lines


def _license_line(license: "LicenseFacts") -> str:
    marks = "".join(f", {word}" for word, holds in (("nfr", license.nfr), ("test", license.test)) if holds)
    until = "never issued" if license.expires_on is None else f"until {license.expires_on}"
    return (
        f"{license.license}  {license.product}  {license.status}  {until}  "
        f"(revision {license.revision}, key id {license.key_id}, {license.model}{marks})"
    )


def _told_event(event: "EventFacts") -> str:
    if event.topic == PROVIDER_REQUESTS:
        return f"order {event.event_id} for the provider role"
    return f"event {event.sequence or '-'} {event.type}{'' if event.published_at else ', not yet published'}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def _meaning(outcome: str) -> str:
    return f" ({MEANINGS[outcome]})" if outcome in MEANINGS else ""


def _who(entry: Mapping[str, object], asked: Mapping[str, object]) -> str:
    request = entry.get("request")
    if isinstance(request, dict):
        return f"by {request.get('source')}, request {request.get('id')}"
    account = asked.get("asked_by") or entry.get("account", "?")
    return f"by {OUR_ROLES.get(str(asked.get('type'))) or f'account {account}'}"


def _what(asked: Mapping[str, object]) -> str:
    members = [f"{name} {_shown(value)}" for name, value in asked.items() if name not in UNSAID]
    return f": {', '.join(members)}" if members else ""


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "/".join(_shown(each) for each in value.values())
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    return "yes" if value is True else "no" if value is False else str(value)


def _business_time(entry: Mapping[str, object]) -> str:
    """Return the time of the trade where it is not that of the machines."""
    try:
        business = datetime.fromisoformat(str(entry["business_time"]))
        apart = abs(business - datetime.fromisoformat(str(entry["handled_at"])))
    except (KeyError, ValueError):
        return ""
    return f" (business time {_moment(business)})" if apart > CLOCKS_APART else ""


def _answers(entry: Mapping[str, object], asked: Mapping[str, object]) -> list[str]:
    """Return what a refusal says to its caller, and what the end of an operation says to those who waited for it."""
    code = entry.get("settled") or entry.get("outcome")
    why = entry.get("why")
    lines = []
    if entry.get("settled") is not None:
        lines.append(f"whoever waited is told: {entry['settled']}")
    if isinstance(why, dict):
        reply = Reply(ReplyStatus.REJECTED, str(code).encode(), encode_details(why))
        is_partner = "asked_by" in asked or str(asked.get("type", "")).endswith("_key")
        named = (partner_problems if is_partner else problems).rejected(reply)
        if named is not None:
            lines.append(f"answered {named[1].status}: {_text_of(named[1].body)}")
    return lines


def _text_of(body: bytes) -> str:
    """Return the text of an answer: as it is, or message and details of a Partner API problem."""
    problem = parsed(body)
    if isinstance(problem, dict):
        return f"{problem.get('message')} {problem.get('details')} (type {problem.get('type')})"
    return str(problem)


def _told_orders(orders: Sequence[OrderStory]) -> list[str]:
    """Tell what was asked of the provider, every attempt, look and change of state of it."""
    lines: list[str] = []
    for order in orders:
        service = "" if order.service is None else f", service {order.service}"
        refusal = "" if order.refusal is None else f" ({order.refusal})"
        what = f"{order.step} of {order.product} at {order.account}"
        lines += ["", f"order {order.order_id}  {what}: {order.state}{refusal}{service}"]
        for line in order.lines:
            lines.append(f"    {_moment(line.at)}  {_told_step(line)}")
    return lines


def _told_step(line: "StoryLine") -> str:
    shown = {name: _plain_fact(fact) for name, fact in line.facts.items()}
    if line.what == "step":
        before, after, trigger = (shown.pop(name, None) for name in ("before", "after", "trigger"))
        head = f"{before} -> {after} ({trigger})" if before else f"{after}"
    else:
        head = f"{line.what} {shown.pop('attempt', '')}".rstrip()
    facts = ", ".join(f"{name} {fact}" for name, fact in shown.items() if fact not in (None, "", 0, [], {}))
    return f"{head}: {facts}" if facts else head


def _plain_fact(fact: object) -> object:
    """Return evidence as one short text; all of it stands in `--json`."""
    if isinstance(fact, dict):
        return " by ".join(str(fact[name]) for name in ("detail", "by") if fact.get(name))
    return fact


def _what_now(story: "LicenseStory", orders: Sequence[OrderStory]) -> list[str]:
    """Return what is still to come, and what people can do about it."""
    lines = []
    if (opened := story.open) is not None:
        line = f", {opened.in_line} commands in line behind it" if opened.in_line else ""
        lines.append(
            f"under way since {_moment(opened.opened_at)}: {opened.type}, step {opened.step_number} of {opened.steps} "
            f"({opened.step}), order {opened.order_id}{line}"
        )
    for order in orders:
        if order.state == "manual":
            lines.append(
                f"people must decide order {order.order_id}: look for it in the panel, then"
                " `keyway provider link|release|cancel`"
            )
        elif order.state == "intended":
            lines.append(f"order {order.order_id} waits for the provider role to send it")
        elif order.state in {"sending", "unknown"}:
            lines.append(
                f"the outcome of order {order.order_id} is not known; `keyway provider reconcile` looks for it at once"
            )
        if order.pause is not None and order.state not in DECIDED:
            lines.append(f"provider account {order.account} pauses until {_moment(order.pause[0])}: {order.pause[1]}")
    if any(event.published_at is None and event.sequence is not None for event in story.events):
        lines.append("events wait to be published: the license worker or the relay does it as soon as Kafka answers")
    return lines
