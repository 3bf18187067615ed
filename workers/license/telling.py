"""What is told of a decision: one word for logs, the story for the audit, the public events. Nothing secret."""

from datetime import datetime
from typing import assert_never
from uuid import UUID

from shared.contracts.codec import encode_attention, encode_event, encode_intake_outcome, encode_provider_request
from shared.contracts.commands import LicenseCommand
from shared.contracts.envelope import Envelope, new_id
from shared.contracts.events import AttentionData, AttentionEvent, EventType, IntakeOutcomeEvent, intake_outcome_data
from shared.contracts.identifiers import license_id
from shared.contracts.key_commands import CreateKey, ModifyKey
from shared.contracts.topics import LICENSE_EVENTS, PROVIDER_REQUESTS
from shared.domain.case import RevisionCause
from shared.domain.decision import (
    Answer,
    CurrentBody,
    Decision,
    Done,
    KeyForecast,
    KeyState,
    Noted,
    Pending,
    Rejected,
    SameAgain,
    Termination,
    Waiting,
)
from shared.domain.effects import CommandEffect, NewRevision, OutboxEvent
from shared.domain.events import (
    KeyIssued,
    KeyRenewed,
    KeyUpgraded,
    LicenseEvent,
    LicenseIssued,
    LicenseRenewed,
    LicenseUpgraded,
)
from shared.domain.license import License
from shared.domain.open_operation import Attention
from shared.domain.outgoing import OutgoingRecord
from shared.domain.publication import event_type, public_event
from shared.domain.usage import UsageTold
from workers.license.desk import Desk

ASKED_MEMBERS = (
    "type",
    "product",
    "model",
    "test",
    "expires_on",
    "start_on",
    "subscription_on",
    "purchase_on",
    "terminated_on",
    "previous_body",
    "unknown_fields",
    "order_id",
    "confirmed",
    "service_id",
    "service_expires_on",
    "refusal",
    "seen_at",
    "asked_by",
    "edition",
    "remaining",
)
"""Members of commands that the audit tells; activation data and the registrant's name stay out."""


UNTOLD_DETAILS = frozenset({"address", "uid", "parent"})
"""Details of refusals that hold what the audit never does: addresses, machine ids, activation codes."""


def story_of(
    envelope: Envelope, decision: Decision, license: License | None, revision: NewRevision | None, desk: Desk
) -> dict[str, object]:
    """Return what the audit tells of one command: who asked what and what became of it, and nothing secret.

    `license` is as the command left it; None for a number that is none.
    """
    command = envelope.command
    return {
        "command_id": envelope.command_id,
        "correlation_id": envelope.correlation_id,
        "causation_id": envelope.causation_id,
        "request": envelope.request,
        "account": command.account,
        "asked": _asked(command),
        "handled_at": desk.system_now,
        "business_time": desk.business_now,
        "outcome": outcome_of(decision),
        "status": None if license is None else license.shown_status,
        "product": None if license is None else license.product,
        "expires_on": None if license is None else license.expires_on,
        "revision": None if license is None else license.revision,
        "body_sha256": None if revision is None else revision.body_sha256.hex(),
        "events": [kind for event in decision.events if (kind := event_type(event)) is not None],
        "orders": [step.kind for step in (*([decision.order] if decision.order else []), *decision.releases)],
        "alerts": [alert.text for alert in decision.alerts],
        **_told_to_the_caller(decision),
    }


def _told_to_the_caller(decision: Decision) -> dict[str, object]:
    """Return what those learn who waited for an operation that ended, and what a refusal names."""
    told: dict[str, object] = {}
    if decision.settled_answer is not None:
        told["settled"] = _word(decision.settled_answer, decision)
    answer = decision.settled_answer or decision.answer
    if isinstance(answer, Rejected):
        told["why"] = {name: value for name, value in answer.details.items() if name not in UNTOLD_DETAILS}
    return told


def _asked(command: LicenseCommand) -> dict[str, object]:
    """Return the members of a command that are no secret: names of the operation, product, dates and flags."""
    told = {name: getattr(command, name, None) for name in ASKED_MEMBERS}
    if isinstance(command, CreateKey | ModifyKey):
        told["members"] = command.members.given
    return {name: value for name, value in told.items() if value not in (None, ())}


def outcome_of(decision: Decision) -> str:
    """Return one word for logs, metrics and audit: what became of a command."""
    return _word(decision.answer, decision)


def _word(answer: Answer, decision: Decision) -> str:
    match answer:
        case CurrentBody() | KeyState():
            word = "done" if decision.events else "repeated"
        case SameAgain():
            word = "repeated"
        case Termination(outcome):
            word = outcome.value
        case Rejected(code, _):
            word = code.value
        case UsageTold():
            word = "usage_told"
        case Done(done):
            word = done.value
        case KeyForecast():
            word = "foreseen"
        case Pending() | Waiting() | Noted():
            word = type(answer).__name__.lower()
        case _:
            assert_never(answer)
    return word


def cause_of(event: LicenseEvent) -> RevisionCause | None:
    """Return what kind of revision an event issues, None when it issues none."""
    match event:
        case LicenseIssued() | KeyIssued():
            return RevisionCause.ISSUED
        case LicenseRenewed() | KeyRenewed():
            return RevisionCause.RENEWED
        case LicenseUpgraded() | KeyUpgraded():
            return RevisionCause.UPGRADED
        case _:
            return None


def outbox_events(event: LicenseEvent, after: License) -> list[OutboxEvent]:
    """Return the public event that tells of `event`, which left the license as `after`; none for an internal one."""
    public = public_event(event, after, new_id())
    if public is None:
        return []
    return [
        OutboxEvent(event_id=public.event_id, type=public.type, sequence=public.sequence, value=encode_event(public))
    ]


def intake_outcome(envelope: Envelope, decision: Decision, business_now: datetime) -> list[OutboxEvent]:
    """Return the event that answers the public request behind a command; none where none is, or it is not decided."""
    if envelope.request is None or isinstance(decision.answer, Pending | Waiting):
        return []
    command = envelope.command
    event = IntakeOutcomeEvent(
        event_id=new_id(),
        accepted=not isinstance(decision.answer, Rejected),
        subject=envelope.license_id,
        time=business_now,
        data=intake_outcome_data(command.account, command.number, envelope.request, outcome_of(decision)),
    )
    return [
        OutboxEvent(event_id=event.event_id, type=event.type, sequence=None, value=encode_intake_outcome(event)),
    ]


def attention_event(
    account: str, number: str, attention: Attention, order_id: UUID | None, business_now: datetime
) -> OutboxEvent:
    """Return the public event that tells of a finding about a license."""
    event = AttentionEvent(
        event_id=new_id(),
        subject=license_id(account, number),
        time=business_now,
        data=AttentionData(license=number, account=account, kind=attention.kind, text=attention.text, order=order_id),
    )
    return OutboxEvent(event_id=event.event_id, type=EventType.ATTENTION, sequence=None, value=encode_attention(event))


def outgoing_bells(effect: CommandEffect) -> list[OutgoingRecord]:
    """Return the bells that the store writes into the outbox for the orders of `effect`."""
    return [
        OutgoingRecord(
            topic=PROVIDER_REQUESTS,
            license_id=effect.license_id,
            event_id=order.order_id,
            sequence=None,
            value=encode_provider_request(order.order_id),
        )
        for order in effect.orders
    ]


def outgoing_events(effect: CommandEffect) -> list[OutgoingRecord]:
    """Return the public events that the store writes into the outbox for `effect`."""
    return [
        OutgoingRecord(
            topic=LICENSE_EVENTS,
            license_id=effect.license_id,
            event_id=event.event_id,
            sequence=event.sequence,
            value=event.value,
        )
        for event in (*effect.events, *effect.attention)
    ]
