"""From what happened to what the world is told: internal events become public ones."""

from collections.abc import Mapping
from uuid import UUID

from shared.contracts.events import EventType, LicenseEventData, PublicEvent, ShownStatus
from shared.domain.events import (
    LicenseEvent,
    LicenseIssued,
    LicenseLapsed,
    LicenseRenewed,
    LicenseResumed,
    LicenseSuspended,
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
            status=ShownStatus(after.shown_status),
            expires_on=after.expires_on,
            revision=after.revision,
            test=after.test,
            nfr=after.nfr,
        ),
    )


_PUBLIC_TYPES: Mapping[type[LicenseEvent], EventType | None] = {
    LicenseIssued: EventType.ISSUED,
    LicenseRenewed: EventType.RENEWED,
    LicenseUpgraded: EventType.UPGRADED,
    LicenseLapsed: EventType.LAPSED,
    LicenseTerminated: EventType.TERMINATED,
    TombstoneRecorded: EventType.TERMINATED,
    LicenseSuspended: EventType.SUSPENDED,
    LicenseResumed: EventType.RESUMED,
    ServiceChanged: None,
}


def event_type(event: LicenseEvent) -> EventType | None:
    """Return the public type under which `event` is told, None for an internal one."""
    return _PUBLIC_TYPES[type(event)]
