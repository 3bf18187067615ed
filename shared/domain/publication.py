"""From what happened to what the world is told: internal events become public ones."""

from typing import assert_never
from uuid import UUID

from shared.contracts.events import EventType, LicenseEventData, PublicEvent
from shared.domain.events import (
    LicenseEvent,
    LicenseIssued,
    LicenseLapsed,
    LicenseRenewed,
    LicenseTerminated,
    LicenseUpgraded,
    ServiceChanged,
    TombstoneRecorded,
)
from shared.domain.license import License


def public_event(event: LicenseEvent, after: License, event_id: UUID) -> PublicEvent | None:
    """Return the public form of `event`, which left the license as `after`; None for what is nobody else's business."""
    kind = event_type(event)
    if kind is None:
        return None
    return PublicEvent(
        event_id=event_id,
        type=kind,
        subject=after.license_id,
        time=event.at,
        sequence=after.sequence,
        data=LicenseEventData(
            license=after.number,
            account=after.account,
            product=after.product,
            status=after.shown_status,
            expires_on=after.expires_on,
            revision=after.revision,
            test=after.test,
            nfr=after.nfr,
        ),
    )


def event_type(event: LicenseEvent) -> EventType | None:
    """Return the public type under which `event` is told, None for an internal one."""
    match event:
        case LicenseIssued():
            return EventType.ISSUED
        case LicenseRenewed():
            return EventType.RENEWED
        case LicenseUpgraded():
            return EventType.UPGRADED
        case LicenseLapsed():
            return EventType.LAPSED
        case LicenseTerminated() | TombstoneRecorded():
            return EventType.TERMINATED
        case ServiceChanged():
            return None
        case _:
            assert_never(event)
