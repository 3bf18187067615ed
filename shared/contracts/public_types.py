"""The public contract in one list: every event and request type that other systems meet, by topic.

A type that is added here gets its JSON Schema, its place in the AsyncAPI document, its example and its test. Evolution
rule: what stands in `docs/schemas/released` is never taken back (`compatibility`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge

from shared.contracts.cloud_event import ATTRIBUTE_BYTES_MAX
from shared.contracts.events import (
    AttentionData,
    EventType,
    IntakeOutcomeData,
    KeyEventData,
    LicenseEventData,
    UsageClosedData,
)
from shared.contracts.requests import IntakeData, IntakeType
from shared.contracts.topics import LICENSE_EVENTS, LICENSE_INTAKE, USAGE_REPORTED
from shared.contracts.usage import NAME_LENGTH_MAX, UsageType


class Direction(StrEnum):
    """Who writes."""

    OUT = "out"
    """We write, other systems read."""
    IN = "in"
    """Other systems write, we read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageData:
    """What was used."""

    __pydantic_config__ = {"use_attribute_docstrings": True}  # noqa: RUF012 - pydantic's own way; never written to

    account: str
    """Name of the account that owns the license, such as `ka`."""
    license: str
    """License number as text."""
    counter: str
    """A counter of the license's product, as the catalog names it."""
    value: Annotated[float, Ge(0)]
    """The level at `time`, or how much more was used; never negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicType:
    """One type of the public contract."""

    name: str
    """CloudEvents `type`."""
    topic: str
    direction: Direction
    summary: str
    data: type
    """Typed class of `data`."""
    example: Mapping[str, Any]
    """A whole event."""
    numbered: bool = False
    """Whether it carries `sequence`."""
    timed: bool = False
    """Whether senders must say `time`; what we write always does."""
    name_length_max: int = ATTRIBUTE_BYTES_MAX
    """Of `source` and `id` of what others write."""


def _event(kind: str, subject: str, data: Mapping[str, Any], sequence: int | None = None) -> Mapping[str, Any]:
    numbered = {} if sequence is None else {"sequence": str(sequence)}
    return {
        "specversion": "1.0",
        "id": "01a1f0d7-9c41-7000-8000-00000000000a",
        "source": "keyway",
        "type": str(kind),
        "subject": subject,
        "time": "2027-03-05T02:00:00.120000Z",
        "datacontenttype": "application/json",
        **numbered,
        "data": dict(data),
    }


def _license(kind: EventType, summary: str, sequence: int, **changes: Any) -> PublicType:  # noqa: ANN401 - JSON members
    data = {
        "license": "00481516",
        "account": "ka",
        "product": "Bronze",
        "status": "active",
        "expires_on": "2027-04-15",
        "revision": 2,
        "test": False,
        "nfr": False,
    } | changes
    return PublicType(
        name=kind.value,
        topic=LICENSE_EVENTS,
        direction=Direction.OUT,
        summary=summary,
        data=LicenseEventData,
        example=_event(kind, "ka:00481516", data, sequence),
        numbered=True,
    )


def _key(kind: EventType, summary: str, sequence: int, **changes: Any) -> PublicType:  # noqa: ANN401 - JSON members
    data = {
        "license": "20240401",
        "account": "partner",
        "product": "360-MON-1M",
        "status": "active",
        "expires_on": "2027-04-15",
        "revision": 1,
        "test": False,
        "nfr": False,
        "key_id": 20240401,
        "owner": "10001",
        "nickname": "eu-7",
        "address": "2001:db8::17",
        "auto_renew": False,
        "parent": "partner:20240317",
        "operations": None,
    } | changes
    return PublicType(
        name=kind.value,
        topic=LICENSE_EVENTS,
        direction=Direction.OUT,
        summary=summary,
        data=KeyEventData,
        example=_event(kind, "partner:20240401", data, sequence),
        numbered=True,
    )


def _outcome(kind: EventType, summary: str, code: str) -> PublicType:
    data = {
        "license": "00481516",
        "account": "ka",
        "source": "urn:example:billing",
        "id": "7c1e2f0a-0001",
        "type": IntakeType.SUSPEND.value,
        "code": code,
    }
    return PublicType(
        name=kind.value,
        topic=LICENSE_EVENTS,
        direction=Direction.OUT,
        summary=summary,
        data=IntakeOutcomeData,
        example=_event(kind, "ka:00481516", data),
    )


def _incoming(kind: str, topic: str, summary: str, kind_of_data: type, data: Mapping[str, Any]) -> PublicType:
    example = {
        **_event(kind, f"ka:{data['license']}", data),
        "id": "7c1e2f0a-0001",
        "source": "urn:example:backup-app",
        "time": "2027-03-01T03:59:00Z",
    }
    return PublicType(
        name=str(kind), topic=topic, direction=Direction.IN, summary=summary, data=kind_of_data, example=example
    )


def _usage(kind: UsageType, summary: str, data: Mapping[str, Any]) -> PublicType:
    plain = _incoming(kind, USAGE_REPORTED, summary, UsageData, data)
    return replace(plain, timed=True, name_length_max=NAME_LENGTH_MAX)


_WHOM = {"account": "ka", "license": "00481516"}
_USED = {"account": "ka", "license": "00502001", "counter": "sentGigabytes", "value": 3}
_STORED = {"account": "ka", "license": "00502000", "counter": "storedGigabytes", "value": 250}
_CLOSED = {
    "account": "ka",
    "product": "CloudTransfer",
    "month": "2027-03",
    "counters": [
        {
            "counter": "sentGigabytes",
            "kind": "increment",
            "value": "41.5",
            "units": 43,
            "licenses": 2,
            "adjustment": "0",
        }
    ],
}
_ATTENTION = {
    "license": "00481516",
    "account": "ka",
    "kind": "close_refused",
    "text": "the provider does not release service 4711",
    "order": "01a1f0d7-9c41-7000-8000-00000000000b",
}

PUBLIC_TYPES: tuple[PublicType, ...] = (
    _license(EventType.ISSUED, "A license was created.", 1, revision=1, expires_on="2027-03-15"),
    _license(EventType.RENEWED, "A later last day was set.", 2),
    _license(EventType.UPGRADED, "The license became another product.", 3, product="Gold", revision=3),
    _license(EventType.SUSPENDED, "The license was switched off for now.", 3, status="suspended"),
    _license(EventType.RESUMED, "The license was switched on again.", 4),
    _license(EventType.LAPSED, "The last day is over.", 3, status="lapsed"),
    _license(EventType.TERMINATED, "The license was ended for good.", 4, status="terminated"),
    _key(EventType.MOVED, "The key belongs to another owner.", 2),
    _key(
        EventType.MODIFIED, "A request changed the key; `operations` tells how.", 3, operations=["IPBIND", "NICKNAME"]
    ),
    PublicType(
        name=EventType.ATTENTION.value,
        topic=LICENSE_EVENTS,
        direction=Direction.OUT,
        summary="A finding about a provider that people should look at.",
        data=AttentionData,
        example=_event(EventType.ATTENTION, "ka:00481516", _ATTENTION),
    ),
    _outcome(EventType.INTAKE_ACCEPTED, "A public request was carried out, or found done.", "suspended"),
    _outcome(EventType.INTAKE_REJECTED, "A public request was refused; `code` says why.", "license_unknown"),
    PublicType(
        name=EventType.USAGE_CLOSED.value,
        topic=LICENSE_EVENTS,
        direction=Direction.OUT,
        summary="The usage of an account and product in one month is fixed.",
        data=UsageClosedData,
        example=_event(EventType.USAGE_CLOSED, "ka:CloudTransfer:2027-03", _CLOSED),
    ),
    _incoming(IntakeType.TERMINATE, LICENSE_INTAKE, "End a license for good.", IntakeData, _WHOM),
    _incoming(IntakeType.SUSPEND, LICENSE_INTAKE, "Switch a license off for now.", IntakeData, _WHOM),
    _incoming(IntakeType.RESUME, LICENSE_INTAKE, "Switch a license on again.", IntakeData, _WHOM),
    _incoming(IntakeType.ACTIVATED, LICENSE_INTAKE, "Tell that a license was seen in use.", IntakeData, _WHOM),
    _usage(UsageType.LEVEL, "Tell the level of a counter at `time`.", _STORED),
    _usage(UsageType.INCREMENT, "Tell how much more was used by `time`.", _USED),
)
