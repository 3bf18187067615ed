"""What became of one call to a provider, in words that never mix: refused, unknown, confirmed, and their neighbors.

The table is docs/protocols/isplicense.md 9.2; each value keeps its row as evidence. "Unknown" is not "no": only
`NotSent` and `Refused` promise that nothing was charged.
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from shared.domain.provider_operation import Elid


class Refusal(StrEnum):
    """Why a provider, or we on its behalf, said a definite no (docs/protocols/isplicense.md 3.2, 11)."""

    INVALID_VALUE = "invalid_value"
    NOT_FOUND = "not_found"
    DUPLICATE = "duplicate"
    TERM_LOCKED = "term_locked"
    REJECTED = "rejected"
    PROTOCOL = "protocol"
    """The form came back instead of an answer."""
    UPSTREAM_FAULT = "upstream_fault"
    PAYMENT_REQUIRED = "payment_required"
    AUTH_FAILED = "auth_failed"
    ACCESS_DENIED = "access_denied"
    TWO_FACTOR_REQUIRED = "two_factor_required"
    CAPTCHA = "captcha"
    HELD_OFF = "held_off"
    """HTTP 403 or 429 of the server in front: not now."""
    CANCELED = "canceled"
    """Nobody wants it any more; nothing was sent, or people said so."""


OUR_TROUBLE = frozenset(
    {
        Refusal.PAYMENT_REQUIRED,
        Refusal.AUTH_FAILED,
        Refusal.ACCESS_DENIED,
        Refusal.TWO_FACTOR_REQUIRED,
        Refusal.CAPTCHA,
        Refusal.HELD_OFF,
    }
)
"""Refusals that are about our account and not about what was asked: callers are told to come back later (11)."""
PASSING = OUR_TROUBLE | {Refusal.UPSTREAM_FAULT}
"""Refusals after which the same question may well be answered otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was observed: enough for people to judge, nothing secret."""

    row: int
    """Row of docs/protocols/isplicense.md 9.2 that decided; 0 for what was refused here, before sending."""
    detail: str
    http_status: int | None = None
    body_sha256: str | None = None
    """Lower-case hexadecimal, over the raw answer."""
    excerpt: str = ""
    """Beginning of the answer with every secret masked."""
    notes: tuple[str, ...] = ()
    """Findings that change nothing about the outcome, for people: an odd date, a missing field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """Done; the service is `elid`."""

    elid: Elid
    evidence: Evidence
    expires_on: date | None = None
    """New last day, for a renewal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Definitely not done."""

    refusal: Refusal
    evidence: Evidence
    subject: str = ""
    """Parameter or entity that the provider names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequired:
    """Definitely not carried out: it waits for payment upstream. We never pay; people see the ids."""

    evidence: Evidence
    ids: tuple[str, ...] = ()
    """`billorder=…`, `payment_id=…`, `id=…` as the provider wrote them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """No byte of the request left this machine: it may be sent again."""

    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralIds:
    """Done, perhaps more than once: every service named is quarantined."""

    elids: tuple[Elid, ...]
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Done, but nobody told the id: to be read back, never to be released as absent."""

    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """May have been done."""

    evidence: Evidence


SendOutcome = Confirmed | Refused | PaymentRequired | NotSent | SeveralIds | Accepted | Unknown
