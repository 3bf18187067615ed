"""The error catalog of the Partner API: status, text and details of every type (docs/protocols/partner-api.md 7.2).

Bodies have four members, all strings. Clients compare `code` and `type`; the texts are for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from gateway.problems import Refused, Unanswered
from gateway.wire.answer import JSON_TEXT, Answer
from gateway.wire.partner import WIRE_NAMES
from gateway.wire.partner_errors import Fault, FaultType
from shared.contracts.codec import decode_details, decode_key_plan
from shared.contracts.outcomes import PARTNER_ERROR_TYPES, RejectionCode
from shared.contracts.replies import KeyPlan, Reply
from shared.errors import InvalidRecordError

OVERLOAD_RETRY_SECONDS = 5
UNFINISHED_RETRY_SECONDS = 300
DETAIL_LENGTH_MAX = 1000
CHALLENGE = b'WWW-Authenticate: Basic realm="Partner API"\r\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One type: HTTP status, text, and which details it names in which words."""

    status: int
    message: str
    named: Mapping[str, str]
    """Name of a detail -> how it is introduced; the first one that is there and not empty is shown."""
    retry_seconds: int | None = None


def _problem(status: int, message: str, retry_seconds: int | None = None, **named: str) -> Problem:
    return Problem(status=status, message=message, named=named, retry_seconds=retry_seconds)


PROBLEMS: Final[Mapping[int, Problem]] = {
    24204: _problem(400, "The key is terminated; nothing more can be done with it.", number="Key number = "),
    30001: _problem(400, "The body must be one JSON object that is not empty, with every member named once."),
    30002: _problem(400, "The field has a wrong value.", field="Field = ", address="Address = "),
    30003: _problem(400, "The field must not be null.", field="Field = "),
    30004: _problem(400, "The query parameter has a wrong value.", parameter="Parameter = "),
    30005: _problem(400, "A new key gets its identifiers from us; they must be left out.", field="Field = "),
    30010: _problem(
        400, "The request combines operations that cannot be performed together.", pairs="Conflicting operations: "
    ),
    30011: _problem(400, "The key identifiers in the body do not match the addressed key.", number="Key number = "),
    30020: _problem(400, "The owner cannot have the key.", owner="Owner = "),
    30021: _problem(400, "The key cannot have this parent, or must be detached first.", parent="Parent = "),
    30022: _problem(400, "The item is not known.", item="Item = "),
    30023: _problem(400, "The key cannot have these items.", item="Item = ", reason="Reason = "),
    30024: _problem(400, "The address is bound to another key.", address="Address = "),
    30025: _problem(
        400,
        "The product configuration is not available to the owner of the key.",
        configuration="Product configuration = ",
    ),
    30026: _problem(400, "The key cannot be activated so.", uid="UID = ", reason="Reason = "),
    30027: _problem(400, "The key is suspended; resume it first.", number="Key number = "),
    30028: _problem(400, "The state of this kind of key cannot be changed so.", number="Key number = "),
    30029: _problem(400, "The update subscription is not in the state that this needs.", number="Key number = "),
    30040: _problem(401, "Authentication is required."),
    30041: _problem(403, "These credentials are not allowed to use this."),
    30042: _problem(404, "The key is not found.", key="Key = "),
    30043: _problem(405, "The method is not accepted here.", allowed="Allowed = "),
    30044: _problem(406, "Answers are made of application/json only."),
    30045: _problem(415, "The body must be application/json in UTF-8."),
    30046: _problem(413, "The body is too large."),
    30050: _problem(500, "The request could not be processed."),
    30051: _problem(502, "The provider refused the request; nothing was changed."),
    30052: _problem(503, "The service is temporarily unavailable; nothing was done.", OVERLOAD_RETRY_SECONDS),
    30053: _problem(504, "The request is not finished yet; it may be repeated.", UNFINISHED_RETRY_SECONDS),
}


WIRE_FIELDS: Final = {member.value: name for member, name in WIRE_NAMES.items()}
"""Members as the rules name them -> as requests do."""


def problem(type_: int, details: Mapping[str, str] | None = None, extra_head: bytes = b"") -> Answer:
    """Return the answer of an error type, with those of `details` that its text names."""
    found = PROBLEMS[type_]
    head = JSON_TEXT + extra_head
    if found.retry_seconds is not None:
        head += b"Retry-After: %d\r\n" % found.retry_seconds
    return Answer(found.status, head, orjson.dumps(_document(type_, details or {})))


def _document(type_: int, details: Mapping[str, str]) -> dict[str, str]:
    found = PROBLEMS[type_]
    return {
        "code": str(found.status),
        "type": str(type_),
        "message": found.message,
        "details": _details(found, details),
    }


def _details(found: Problem, details: Mapping[str, str]) -> str:
    for name, introduction in found.named.items():
        value = details.get(name)
        if value:
            shown = WIRE_FIELDS.get(value, value) if name == "field" else value
            return f"{introduction}{shown[:DETAIL_LENGTH_MAX]}."
    return ""


def faulty(fault: Fault) -> Answer:
    """Return the answer to a request that the gateway itself refuses."""
    match fault.type:
        case FaultType.UNAUTHENTICATED:
            return problem(int(fault.type), extra_head=CHALLENGE)
        case FaultType.METHOD:
            allowed = fault.details.get("allowed", "")
            return problem(int(fault.type), fault.details, b"Allow: %s\r\n" % allowed.encode("ascii"))
        case _:
            return problem(int(fault.type), fault.details)


_REFUSED: Final[Mapping[Refused, FaultType]] = {
    Refused.UNAUTHENTICATED: FaultType.UNAUTHENTICATED,
    Refused.FORBIDDEN: FaultType.FORBIDDEN,
    Refused.LOGIN_BUSY: FaultType.UNAVAILABLE,
    Refused.CONTENT_CODING: FaultType.MEDIA_TYPE,
    Refused.MEDIA_TYPE: FaultType.MEDIA_TYPE,
    Refused.TOO_LARGE: FaultType.TOO_LARGE,
    Refused.BODY_BROKEN: FaultType.BODY,
    Refused.BODY_LATE: FaultType.BODY,
    Refused.NOT_FOUND: FaultType.NOT_FOUND,
}


def refused(reason: Refused | Unanswered) -> Fault:
    """Return in our types why a request ended before it was decided."""
    if isinstance(reason, Unanswered):
        return Fault(FaultType.NOT_FINISHED if reason is Unanswered.NOT_FINISHED else FaultType.UNAVAILABLE)
    return Fault(_REFUSED.get(reason, FaultType.INTERNAL))


def rejected(reply: Reply) -> tuple[RejectionCode, Answer] | None:
    """Return code and answer of a business "no", None when a newer worker says something that is not known here."""
    try:
        code = RejectionCode(reply.meta.decode("ascii"))
        return code, problem(PARTNER_ERROR_TYPES[code], decode_details(reply.body))
    except (ValueError, KeyError, InvalidRecordError):
        return None


def plan_answer(reply: Reply) -> Answer | None:
    """Return the answer to a dry run, with the refusal as the request itself would get it; None as for `rejected`."""
    try:
        return Answer(200, JSON_TEXT, orjson.dumps(plan_document(decode_key_plan(reply.body))))
    except (KeyError, InvalidRecordError):
        return None


def plan_document(plan: KeyPlan) -> dict[str, object]:
    """Return a plan as people and partners read it; its refusal is the whole body of the error. `KeyError` as above."""
    refusal = None if plan.refusal is None else _document(PARTNER_ERROR_TYPES[plan.refusal], plan.details)
    return {"operations": plan.operations, "conflicts": plan.conflicts, "refusal": refusal}
