"""From a decision's answer to the reply that is stored with the command id and sent, first or again."""

from collections.abc import Mapping
from datetime import datetime
from typing import assert_never

from shared.contracts.codec import encode_details, encode_key_plan, encode_key_structure, encode_usage_report
from shared.contracts.outcomes import TerminationOutcome
from shared.contracts.replies import ReplyStatus
from shared.domain.decision import (
    Answer,
    CurrentBody,
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
from shared.domain.effects import StoredReply
from shared.domain.key_structure import full_structure
from shared.domain.license import License
from shared.domain.usage import UsageTold

TERMINATION_REPLIES: Mapping[TerminationOutcome, ReplyStatus] = {
    TerminationOutcome.TERMINATED: ReplyStatus.TERMINATED,
    TerminationOutcome.ALREADY_TERMINATED: ReplyStatus.ALREADY_TERMINATED,
    TerminationOutcome.TOMBSTONE_RECORDED: ReplyStatus.TOMBSTONE_RECORDED,
}
UNTOLD: Mapping[type[Answer], ReplyStatus] = {
    Pending: ReplyStatus.PENDING,
    Waiting: ReplyStatus.IN_LINE,
    Noted: ReplyStatus.NOTED,
    Done: ReplyStatus.NOTED,
}
"""Answers that are remembered but told to nobody."""


def stored_reply(answer: Answer, license: License | None, business_now: datetime) -> StoredReply:
    """Return the reply for `answer`; `license` is as the decision left it."""
    match answer:
        case CurrentBody():
            reply = _body_reply(license)
        case Termination(outcome):
            reply = StoredReply(status=TERMINATION_REPLIES[outcome])
        case Rejected(code, details):
            reply = StoredReply(
                status=ReplyStatus.REJECTED, meta=code.value.encode("ascii"), body=encode_details(details)
            )
        case KeyState():
            reply = _key_reply(answer, business_now)
        case KeyForecast(key_id, plan):
            meta = str(key_id).encode("ascii")
            reply = StoredReply(status=ReplyStatus.KEY_STATE, meta=meta, body=encode_key_plan(plan))
        case SameAgain(known):
            reply = StoredReply(status=known.status, meta=known.meta, body=known.body)
        case UsageTold(figures):
            reply = StoredReply(status=ReplyStatus.USAGE_TOLD, body=encode_usage_report(figures))
        case Pending() | Waiting() | Noted() | Done():
            reply = StoredReply(status=UNTOLD[type(answer)])
        case _:
            assert_never(answer)
    return reply


def _body_reply(license: License | None) -> StoredReply:
    assert license is not None  # noqa: S101 - CurrentBody is only answered for a license
    assert license.expires_on is not None  # noqa: S101 - and never for a tombstone
    return StoredReply(
        status=ReplyStatus.LICENSE_BODY,
        meta=license.expires_on.isoformat().encode("ascii"),
        revision=license.revision,
    )


def _key_reply(answer: KeyState, business_now: datetime) -> StoredReply:
    return StoredReply(
        status=ReplyStatus.KEY_STATE,
        meta=str(answer.view.details.key_id).encode("ascii"),
        body=encode_key_structure(full_structure(answer.view, business_now)) if answer.is_told else b"",
    )
