"""Under which name a reply is remembered: the `Idempotency-Key` of its request (docs/protocols/partner-api.md 3.2)."""

from shared.contracts.commands import LicenseCommand
from shared.contracts.key_commands import KeyCommand
from shared.contracts.outcomes import RejectionCode
from shared.domain.decision import Answer, Pending, Rejected, SameAgain, Waiting
from shared.domain.effects import RequestName, StoredReply
from workers.license.key_questions import request_name

NEVER_REMEMBERED = frozenset(
    {
        RejectionCode.KEY_REPEAT_DIFFERS,
        RejectionCode.LICENSE_BUSY,
        RejectionCode.PROVIDER_UNAVAILABLE,
        RejectionCode.PROVIDER_MISSING,
    }
)
"""Refusals that are no answer to a named request: the first is about its name, the others ask to try again later."""


def name_of(command: LicenseCommand, answer: Answer, reply: StoredReply) -> RequestName | None:
    """Return the name under which the reply is to be remembered; what waits, or was remembered before, has none."""
    if not isinstance(command, KeyCommand) or isinstance(answer, SameAgain | Waiting | Pending):
        return None
    named = request_name(command)
    if named is None or (isinstance(answer, Rejected) and answer.code in NEVER_REMEMBERED):
        return None
    return RequestName(account=command.asked_by, name=named.key, body_sha256=named.body_sha256, reply=reply)
