"""Public request -> command. Pure: what a sender may ask, and how the license role is told.

| type | command |
|---|---|
| `keyway.license.terminate` | `TerminateLicense` |
| `keyway.license.suspend` | `SuspendLicense` |
| `keyway.license.resume` | `ResumeLicense` |
| `keyway.license.activated` | `RecordActivation`, with the time of the event |

`data.account` and `data.license` decide; `subject` and the record key are not looked at. Members that are not known
are ignored. No sender is trusted with more than its words: what becomes of it is decided as for an HTTP request.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, assert_never

import orjson

from shared.contracts.cloud_event import read_cloud_event
from shared.contracts.commands import (
    LicenseCommand,
    RecordActivation,
    ResumeLicense,
    SuspendLicense,
    TerminateLicense,
)
from shared.contracts.identifiers import ACCOUNT_NAME, LICENSE_NUMBER
from shared.contracts.requests import IntakeData, IntakeType, RequestReference
from shared.domain.intake import PublicRequest
from shared.errors import InvalidRecordError


def translate(value: bytes | None) -> PublicRequest:
    """Return the request in a record value.

    Raises `InvalidRecordError` with the reason of its dead letter: `not_json`, `version`, `envelope`, `unknown_type`
    or `payload`.
    """
    event = read_cloud_event(value)
    try:
        kind = IntakeType(event.type)
    except ValueError:
        raise InvalidRecordError("unknown_type", f"request type {event.type[:80]!r}") from None
    command = _command(kind, _read_data(event.data), event.time)
    return PublicRequest(
        reference=RequestReference(source=event.source, id=event.id, type=kind),
        command=command,
        content_sha256=sha256(orjson.dumps([kind, command])).digest(),
    )


def _read_data(data: Mapping[str, Any]) -> IntakeData:
    account, number = data.get("account"), data.get("license")
    if not isinstance(account, str) or not ACCOUNT_NAME.fullmatch(account):
        raise InvalidRecordError("payload", "data.account is missing or has an impossible form")
    if not isinstance(number, str) or not LICENSE_NUMBER.fullmatch(number):
        raise InvalidRecordError("payload", "data.license is missing or no text of 1 to 10 digits")
    return IntakeData(account=account, license=number)


def _command(kind: IntakeType, data: IntakeData, time: datetime | None) -> LicenseCommand:
    match kind:
        case IntakeType.TERMINATE:
            return TerminateLicense(account=data.account, number=data.license, product=None, test=None)
        case IntakeType.SUSPEND:
            return SuspendLicense(account=data.account, number=data.license)
        case IntakeType.RESUME:
            return ResumeLicense(account=data.account, number=data.license)
        case IntakeType.ACTIVATED:
            return RecordActivation(account=data.account, number=data.license, seen_at=time)
        case _:
            assert_never(kind)
