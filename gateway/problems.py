"""Everything that is not a success, in one table: which HTTP status and which text (docs/protocols/isv-endpoint.md 3).

KA passes these texts on to customers: one short line without internals, naming only values that passed their own check.
503 means that nothing was started; 504 that it was, and that nobody knows yet how it ended.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.wire.answer import PLAIN_TEXT, Answer, Invalid
from shared.contracts.codec import decode_details
from shared.contracts.outcomes import RejectionCode
from shared.contracts.replies import Reply
from shared.errors import InvalidRecordError

TEXT_LENGTH_MAX = 200
USAGE_RETRY_SECONDS = 600
UNFINISHED_RETRY_SECONDS = 300
PROVIDER_RETRY_SECONDS = 300
OVERLOAD_RETRY_SECONDS = 5


class Unanswered(StrEnum):
    """Why a command has no reply. All but the last: nothing was published."""

    FULL = "full"
    """As many callers wait as may."""
    CIRCUIT = "circuit"
    """The queue of this partition is older than the reply budget."""
    BROKER = "broker"
    """Kafka does not answer."""
    DATABASE = "database"
    """PostgreSQL does not answer."""
    NOT_FINISHED = "not_finished"
    """Published, as far as we know, and no reply within the budget."""


class Refused(StrEnum):
    """Requests that end before they become a command."""

    NOT_FOUND = "not_found"
    METHOD = "method"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    LOGIN_BUSY = "login_busy"
    MEDIA_TYPE = "media_type"
    CONTENT_CODING = "content_coding"
    TOO_LARGE = "too_large"
    QUERY_STRING = "query_string"
    BODY_BROKEN = "body_broken"
    BODY_LATE = "body_late"
    EXPECTATION = "expectation"
    BAD_HTTP = "bad_http"
    KEYS_UNAVAILABLE = "keys_unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Problem:
    """One row: HTTP status, text (a template over the details of a rejection), and what else the head says."""

    status: int
    text: str
    retry_seconds: int | None = None
    extra_head: bytes = b""

    def answer(self, details: Mapping[str, str] | None = None) -> Answer:
        """Return the answer, with `details` in the places of the text."""
        text = self.text if details is None else self.text.format_map(_Shown(details))
        head = PLAIN_TEXT + self.extra_head
        if self.retry_seconds is not None:
            head += b"Retry-After: %d\r\n" % self.retry_seconds
        return Answer(self.status, head, f"Error: {text}."[:TEXT_LENGTH_MAX].encode())


class _Shown(dict[str, str]):
    """Details as they may be shown: a value that is more than letters, digits and a few signs stays unnamed."""

    def __init__(self, details: Mapping[str, str]) -> None:
        super().__init__(
            {name: value if SHOWABLE.fullmatch(value) else UNNAMED for name, value in details.items()},
        )

    def __missing__(self, name: str) -> str:
        return UNNAMED


SHOWABLE = re.compile(r"[A-Za-z0-9 _./,+-]{1,80}")
UNNAMED = "(unnamed)"

REJECTIONS: Final[Mapping[RejectionCode, Problem]] = {
    RejectionCode.LICENSE_UNKNOWN: Problem(404, "license {number} is not known"),
    RejectionCode.LICENSE_TERMINATED: Problem(409, "license {number} is terminated and cannot be {action}"),
    RejectionCode.LICENSE_LAPSED: Problem(409, "license {number} has lapsed and cannot be upgraded"),
    RejectionCode.LICENSE_SUSPENDED: Problem(409, "license {number} is suspended and cannot be upgraded"),
    RejectionCode.LICENSE_EXISTS: Problem(409, "license {number} already exists with different parameters"),
    RejectionCode.PRODUCT_UNKNOWN: Problem(400, "product {product} is not known"),
    RejectionCode.PRODUCT_MISMATCH: Problem(400, "license {number} is for product {held}, not {product}"),
    RejectionCode.MODEL_MISMATCH: Problem(400, "product {product} is of the {model} type"),
    RejectionCode.TEST_FLAG_MISMATCH: Problem(400, "the test flag differs from that of license {number}"),
    RejectionCode.EXPIRY_PAST: Problem(400, "the expiry date {expiry} is in the past"),
    RejectionCode.EXPIRY_EARLIER: Problem(400, "the expiry date {expiry} is earlier than the current {current}"),
    RejectionCode.UPGRADE_NOT_OFFERED: Problem(400, "upgrade from {from} to {to} is not offered"),
    RejectionCode.ACTIVATION_DATA_INVALID: Problem(400, "{fault} (product {product})"),
    RejectionCode.PARENT_UNSUITABLE: Problem(400, "parent license {parent} is not active here or has no service"),
    RejectionCode.PROVIDER_VALUE_REFUSED: Problem(400, "the provider refuses a value of license {number}"),
    RejectionCode.PROVIDER_REFUSED: Problem(502, "the provider refuses the order for license {number}"),
    RejectionCode.PROVIDER_UNAVAILABLE: Problem(
        503, "license {number} cannot be ordered at present", PROVIDER_RETRY_SECONDS
    ),
    RejectionCode.PROVIDER_MISSING: Problem(
        503, "product {product} has no provider account here yet", PROVIDER_RETRY_SECONDS
    ),
    RejectionCode.UPGRADE_LOST_UPSTREAM: Problem(
        409, "license {number} was upgraded from {product} to {held}; this cannot be undone"
    ),
    RejectionCode.LICENSE_BUSY: Problem(
        503, "too many requests wait for license {number}; repeat it later", PROVIDER_RETRY_SECONDS
    ),
    RejectionCode.USAGE_NOT_REPORTED: Problem(400, "product {product} has no usage report"),
    RejectionCode.USAGE_ENDED: Problem(410, "license {number} is terminated and reports no usage"),
    RejectionCode.USAGE_UNAVAILABLE: Problem(503, "usage data are temporarily unavailable", USAGE_RETRY_SECONDS),
}

_BUSY = Problem(503, "the service is temporarily unavailable; repeat the request later", OVERLOAD_RETRY_SECONDS)

UNANSWERED: Final[Mapping[Unanswered, Answer]] = {
    Unanswered.FULL: _BUSY.answer(),
    Unanswered.CIRCUIT: _BUSY.answer(),
    Unanswered.BROKER: _BUSY.answer(),
    Unanswered.DATABASE: _BUSY.answer(),
    Unanswered.NOT_FINISHED: Problem(
        504, "the request is not finished yet; repeat it later", UNFINISHED_RETRY_SECONDS
    ).answer(),
}

REFUSED: Final[Mapping[Refused, Answer]] = {
    Refused.NOT_FOUND: Problem(404, "there is nothing at this address").answer(),
    Refused.METHOD: Problem(405, "only POST is accepted here", extra_head=b"Allow: POST\r\n").answer(),
    Refused.UNAUTHENTICATED: Problem(
        401, "authentication is required", extra_head=b'WWW-Authenticate: Basic realm="isv"\r\n'
    ).answer(),
    Refused.FORBIDDEN: Problem(403, "these credentials are not allowed to use this endpoint").answer(),
    Refused.LOGIN_BUSY: _BUSY.answer(),
    Refused.MEDIA_TYPE: Problem(415, "the media type must be application/x-www-form-urlencoded").answer(),
    Refused.CONTENT_CODING: Problem(415, "a content encoding is not accepted").answer(),
    Refused.TOO_LARGE: Problem(413, "the request body is too large").answer(),
    Refused.QUERY_STRING: Problem(400, "parameters in the address are not accepted").answer(),
    Refused.BODY_BROKEN: Problem(400, "the request body is broken").answer(),
    Refused.BODY_LATE: Problem(408, "the request body did not arrive in time").answer(),
    Refused.EXPECTATION: Problem(417, "the expectation is not supported").answer(),
    Refused.BAD_HTTP: Problem(400, "the request is not valid HTTP").answer(),
    Refused.KEYS_UNAVAILABLE: _BUSY.answer(),
    Refused.INTERNAL: Problem(500, "the request could not be processed").answer(),
}


def invalid(invalid: Invalid) -> Answer:
    """Return the 400 of a request that cannot be read."""
    return Problem(400, invalid.reason).answer()


def rejected(reply: Reply) -> tuple[RejectionCode, Answer] | None:
    """Return code and answer of a business "no", None when a newer worker says something that is not known here."""
    try:
        code = RejectionCode(reply.meta.decode("ascii"))
        problem = REJECTIONS.get(code)
        return None if problem is None else (code, problem.answer(decode_details(reply.body)))
    except (ValueError, InvalidRecordError):
        return None
