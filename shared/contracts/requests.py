"""Public requests on `license.intake`: what other systems may ask, as CloudEvents 1.0 in structured JSON.

`data.account` and `data.license` decide which license is meant; subject and record key are not trusted. A request is
recognized by (`source`, `id`) for as long as the data lives. Outcome: `keyway.intake.accepted` or `.rejected`.

Evolution rules
- Readers ignore members they do not know; a new member is optional for ever, because senders are other companies.
- A type is never reused; another meaning is a new type.
"""

from dataclasses import dataclass
from enum import StrEnum


class IntakeType(StrEnum):
    """Types of public requests."""

    TERMINATE = "keyway.license.terminate"
    SUSPEND = "keyway.license.suspend"
    RESUME = "keyway.license.resume"
    ACTIVATED = "keyway.license.activated"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeData:
    """Which license a request is about."""

    __pydantic_config__ = {"use_attribute_docstrings": True}  # noqa: RUF012 - pydantic's own way; never written to

    account: str
    """Name of the account that owns the license, such as `ka`."""
    license: str
    """License number as text: `00481516` is not `481516`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReference:
    """Which public request led to a command: the outcome event names it."""

    source: str
    id: str
    type: IntakeType


class RequestOutcome(StrEnum):
    """What became of an accepted request; `code` of `keyway.intake.accepted`. A TERMINATE is told by
    `outcomes.TerminationOutcome`.
    """

    SUSPENDED = "suspended"
    ALREADY_SUSPENDED = "already_suspended"
    RESUMED = "resumed"
    NOT_SUSPENDED = "not_suspended"
    ACTIVATION_RECORDED = "activation_recorded"
