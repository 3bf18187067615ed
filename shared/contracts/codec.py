"""Bytes <-> envelope and events: the only JSON between processes.

Evolution: the rules stand on top of `envelope` (versions) and `commands` (members). Reading is strict in what a member
must be and lenient in what it does not know; whatever cannot be read raises `InvalidRecordError` with a reason that
fits a dead letter: `not_json`, `version`, `unknown_type`, `envelope`, `payload`.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from pydantic import TypeAdapter, ValidationError

from shared.contracts.bells import OrderBell, SweepBell
from shared.contracts.cloud_event import SPEC_VERSION, read_object
from shared.contracts.commands import (
    CloseUpstream,
    LapseLicense,
    LicenseCommand,
    PurchaseLicense,
    RecordActivation,
    RecordProviderOutcome,
    RenewLicense,
    ReportUsage,
    ResumeLicense,
    SuspendLicense,
    TerminateLicense,
    UpgradeLicense,
)
from shared.contracts.envelope import ENVELOPE_VERSION, Envelope
from shared.contracts.events import (
    EVENT_SOURCE,
    AttentionEvent,
    EventType,
    IntakeOutcomeEvent,
    PublicEvent,
    UsageClosedEvent,
)
from shared.contracts.identifiers import ACCOUNT_NAME, LICENSE_NUMBER, CommandId
from shared.contracts.key_commands import (
    ConvertToEdition,
    CreateKey,
    ModifyKey,
    PlanKey,
    ReinstateSus,
    RenewKey,
    RenewSus,
    SetRemainingActivations,
    TerminateKey,
)
from shared.contracts.replies import KeyPlan
from shared.contracts.requests import IntakeType, RequestReference
from shared.contracts.usage import NAME_LENGTH_MAX, ReportedUsage, UsageKey, UsageType
from shared.errors import InvalidRecordError

UUID_VERSION = 7
USAGE_REPORT_VERSION = "isv-reportable-1"
NUMBER_CONTEXT = Context(prec=400)

_COMMANDS: Mapping[str, TypeAdapter[LicenseCommand]] = {
    "purchase_license": TypeAdapter(PurchaseLicense),
    "renew_license": TypeAdapter(RenewLicense),
    "upgrade_license": TypeAdapter(UpgradeLicense),
    "terminate_license": TypeAdapter(TerminateLicense),
    "report_usage": TypeAdapter(ReportUsage),
    "record_provider_outcome": TypeAdapter(RecordProviderOutcome),
    "lapse_license": TypeAdapter(LapseLicense),
    "suspend_license": TypeAdapter(SuspendLicense),
    "resume_license": TypeAdapter(ResumeLicense),
    "record_activation": TypeAdapter(RecordActivation),
    "close_upstream": TypeAdapter(CloseUpstream),
    "create_key": TypeAdapter(CreateKey),
    "modify_key": TypeAdapter(ModifyKey),
    "terminate_key": TypeAdapter(TerminateKey),
    "renew_key": TypeAdapter(RenewKey),
    "renew_sus": TypeAdapter(RenewSus),
    "reinstate_sus": TypeAdapter(ReinstateSus),
    "convert_to_edition": TypeAdapter(ConvertToEdition),
    "set_remaining_activations": TypeAdapter(SetRemainingActivations),
    "plan_key": TypeAdapter(PlanKey),
}

_PLAN = TypeAdapter(KeyPlan)


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the record value of `envelope`."""
    request = {} if envelope.request is None else {"request": envelope.request}
    return orjson.dumps(
        {
            "version": ENVELOPE_VERSION,
            "command_id": envelope.command_id,
            "correlation_id": envelope.correlation_id,
            "causation_id": envelope.causation_id,
            "license_id": envelope.license_id,
            "account": envelope.command.account,
            "type": envelope.command.type,
            "payload": envelope.command,
            "deadline_at": envelope.deadline_at,
            "occurred_at": envelope.occurred_at,
            **request,
        }
    )


def decode_envelope(value: bytes | None) -> tuple[Envelope, bytes]:
    """Return the envelope in a record value and the SHA-256 of its payload (32 bytes).

    Raises `InvalidRecordError` for everything else.
    """
    members = read_object(value)
    if members.get("version") != ENVELOPE_VERSION:
        raise InvalidRecordError(
            "version", f"envelope version {members.get('version')!r}, read here: {ENVELOPE_VERSION}"
        )
    adapter = _COMMANDS.get(str(members.get("type")))
    if adapter is None:
        raise InvalidRecordError("unknown_type", f"command type {str(members.get('type'))[:80]!r}")
    payload = members.get("payload")
    try:
        command = adapter.validate_python(payload)
    except ValidationError as error:
        raise InvalidRecordError("payload", _faults(error)) from None
    envelope = _envelope(members, command)
    return envelope, sha256(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)).digest()


def _envelope(members: Mapping[str, Any], command: LicenseCommand) -> Envelope:
    try:
        envelope = Envelope(
            command_id=CommandId(UUID(members["command_id"])),
            correlation_id=UUID(members["correlation_id"]),
            causation_id=None if members.get("causation_id") is None else UUID(members["causation_id"]),
            command=command,
            deadline_at=None if members.get("deadline_at") is None else _moment(members["deadline_at"]),
            occurred_at=_moment(members["occurred_at"]),
            request=_request(members.get("request")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidRecordError("envelope", f"{type(error).__name__}: {str(error)[:200]}") from None
    if envelope.command_id.version != UUID_VERSION:
        raise InvalidRecordError("envelope", f"command_id is a UUID of version {envelope.command_id.version}, not 7")
    if not ACCOUNT_NAME.fullmatch(command.account) or not LICENSE_NUMBER.fullmatch(command.number):
        raise InvalidRecordError("payload", "account or number has an impossible form")
    if members.get("license_id") != envelope.license_id or members.get("account") != command.account:
        raise InvalidRecordError("envelope", "license_id or account differs from the payload's")
    return envelope


def _request(member: Mapping[str, Any] | None) -> RequestReference | None:
    if member is None:
        return None
    return RequestReference(source=str(member["source"]), id=str(member["id"]), type=IntakeType(member["type"]))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without zone")
    return moment


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['type']}"
        for item in error.errors(include_input=False, include_url=False, include_context=False)
    )[:500]


def encode_event(event: PublicEvent) -> bytes:
    """Return `event` as a CloudEvents 1.0 JSON document (structured mode)."""
    return _cloud_event(event, event.type, sequence=str(event.sequence))


def encode_attention(event: AttentionEvent) -> bytes:
    """Return a finding as a CloudEvents 1.0 JSON document (structured mode)."""
    return _cloud_event(event, EventType.ATTENTION)


def encode_intake_outcome(event: IntakeOutcomeEvent) -> bytes:
    """Return the answer to a public request as a CloudEvents 1.0 JSON document (structured mode)."""
    return _cloud_event(event, event.type)


def encode_usage_closed(event: UsageClosedEvent) -> bytes:
    """Return a closed settlement month as a CloudEvents 1.0 JSON document (structured mode)."""
    return _cloud_event(event, EventType.USAGE_CLOSED)


def _cloud_event(
    event: PublicEvent | AttentionEvent | IntakeOutcomeEvent | UsageClosedEvent, kind: EventType, **extensions: str
) -> bytes:
    """Write an event; the order of the members is part of its bytes, which never change."""
    return orjson.dumps(
        {
            "specversion": SPEC_VERSION,
            "id": event.event_id,
            "source": EVENT_SOURCE,
            "type": kind,
            "subject": event.subject,
            "time": event.time,
            "datacontenttype": "application/json",
            **extensions,
            "data": event.data,
        },
        option=orjson.OPT_UTC_Z,
    )


def encode_details(details: Mapping[str, str]) -> bytes:
    """Return the details of a rejection as the body of its reply; empty when there are none."""
    return orjson.dumps(dict(details)) if details else b""


def decode_details(body: bytes) -> dict[str, str]:
    """Return the details of a rejection from the body of its reply. Raises `InvalidRecordError`."""
    if not body:
        return {}
    return {str(name): str(value) for name, value in read_object(body).items()}


def encode_key_structure(structure: Mapping[str, object]) -> bytes:
    """Return a key structure (`domain.key_structure`) as the JSON that callers get."""
    return orjson.dumps(dict(structure))


def encode_key_plan(plan: KeyPlan) -> bytes:
    """Return what a modification would do as the body of the reply to `PlanKey`."""
    return orjson.dumps(plan)


def decode_key_plan(body: bytes) -> KeyPlan:
    """Return the plan in the body of a reply. Raises `InvalidRecordError`, also for an unknown refusal."""
    try:
        return _PLAN.validate_json(body)
    except ValidationError as error:
        raise InvalidRecordError("payload", _faults(error)) from None


def encode_audit_entry(story: Mapping[str, object]) -> bytes:
    """Return an audit entry as JSON; the bytes are what the chain hashes, so they are stored as they are."""
    return orjson.dumps(dict(story), option=orjson.OPT_UTC_Z)


def encode_provider_request(order_id: UUID) -> bytes:
    """Return the record value that rings for a provider order."""
    return orjson.dumps({"version": ENVELOPE_VERSION, "order_id": order_id})


def encode_sweep_request(sweep_id: UUID) -> bytes:
    """Return the record value that rings for a sweep."""
    return orjson.dumps({"version": ENVELOPE_VERSION, "sweep_id": sweep_id})


def decode_provider_request(value: bytes | None) -> OrderBell | SweepBell:
    """Return what a record rings for. Raises `InvalidRecordError`."""
    members = read_object(value)
    if members.get("version") != ENVELOPE_VERSION:
        raise InvalidRecordError("version", f"version {members.get('version')!r}, read here: {ENVELOPE_VERSION}")
    try:
        if "sweep_id" in members:
            return SweepBell(UUID(members["sweep_id"]))
        return OrderBell(UUID(members["order_id"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidRecordError("payload", "order_id and sweep_id are missing or no UUID") from None


def encode_usage_report(figures: Mapping[str, int]) -> bytes:
    """Return the answer to GET-INFO, counters in the order given (docs/protocols/isv-endpoint.md 5.5)."""
    return orjson.dumps({"version": USAGE_REPORT_VERSION, "usage": dict(figures)})


def decode_usage(value: bytes | None) -> tuple[ReportedUsage, bytes]:
    """Return the usage event in a record value and the SHA-256 of its content (32 bytes).

    Numbers are read exactly. The content is what the event says; the same in other words (`3` and `3.0`, another zone,
    another `subject`) is the same content. Raises `InvalidRecordError`.
    """
    members = _exact_members(value)
    if members.get("specversion") != SPEC_VERSION:
        raise InvalidRecordError(
            "version", f"specversion {str(members.get('specversion'))[:80]!r}, read here: {SPEC_VERSION}"
        )
    kind = _USAGE_TYPES.get(str(members.get("type")))
    if kind is None:
        raise InvalidRecordError("unknown_type", f"event type {str(members.get('type'))[:80]!r}")
    data = members.get("data")
    if not isinstance(data, dict):
        raise InvalidRecordError("payload", "data is missing or no object")
    try:
        event = ReportedUsage(
            key=UsageKey(_name(members, "source"), _name(members, "id")),
            type=kind,
            account=_name(data, "account"),
            number=_name(data, "license"),
            counter=_name(data, "counter"),
            value=_number(data, "value"),
            at=_moment(_name(members, "time")).astimezone(UTC),
        )
        digest = _content_sha256(event)
    except (ValueError, ArithmeticError) as error:
        raise InvalidRecordError("payload", f"{type(error).__name__}: {str(error)[:200]}") from None
    if not ACCOUNT_NAME.fullmatch(event.account) or not LICENSE_NUMBER.fullmatch(event.number):
        raise InvalidRecordError("payload", "data.account or data.license has an impossible form")
    return event, digest


def _exact_members(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise InvalidRecordError("not_json", "the value is null")
    try:
        members = _EXACT.decode(value.decode("utf-8"))
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidRecordError("not_json", f"{type(error).__name__}: {str(error)[:200]}") from None
    if not isinstance(members, dict):
        raise InvalidRecordError("not_json", f"a JSON {type(members).__name__}, not an object")
    return members


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


_EXACT = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number)
"""Made once: making it costs as much as reading an event."""
_USAGE_TYPES = {kind.value: kind for kind in UsageType}


def _name(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= NAME_LENGTH_MAX:
        raise ValueError(f"{name} is missing, no text, empty or longer than {NAME_LENGTH_MAX} characters")
    value.encode()  # half of a surrogate pair is no text
    return value


def _number(members: Mapping[str, Any], name: str) -> Decimal:
    value = members.get(name)
    if not isinstance(value, Decimal):
        raise ValueError(f"{name} is missing or no number")  # noqa: TRY004 - all faults of a record are one kind
    return value


def _content_sha256(event: ReportedUsage) -> bytes:
    value = str(event.value.normalize(NUMBER_CONTEXT))
    content = (event.type, event.account, event.number, event.counter, value, event.at)
    return sha256(orjson.dumps(content, option=orjson.OPT_UTC_Z)).digest()
