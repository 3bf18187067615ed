"""Why a Partner API request ends: the error types of partner-api 7.2, by the names that code uses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class FaultType(StrEnum):
    """The types that the gateway finds by itself; texts and statuses: `gateway.partner_problems`."""

    BODY = "30001"
    FIELD_WRONG = "30002"
    FIELD_NULL = "30003"
    PARAMETER = "30004"
    IDENTIFIERS_ON_CREATE = "30005"
    UNAUTHENTICATED = "30040"
    FORBIDDEN = "30041"
    NOT_FOUND = "30042"
    METHOD = "30043"
    NOT_ACCEPTABLE = "30044"
    MEDIA_TYPE = "30045"
    TOO_LARGE = "30046"
    INTERNAL = "30050"
    PROVIDER = "30051"
    UNAVAILABLE = "30052"
    NOT_FINISHED = "30053"


@dataclass(frozen=True, slots=True)
class Fault:
    """One refusal: its type and the values that its details name."""

    type: FaultType
    details: Mapping[str, str] = field(default_factory=dict)
