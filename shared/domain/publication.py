"""From what happened to what the world is told: internal events become public ones."""

from collections.abc import Mapping
from dataclasses import fields
from uuid import UUID

from shared.contracts.events import EventType, KeyEventData, LicenseEventData, PublicEvent, ShownStatus
from shared.domain.events import (
    KeyIssued,
    KeyModified,
    KeyMoved,
    KeyRenewed,
    KeyUpgraded,
    LicenseEvent,
    LicenseIssued,
    LicenseLapsed,
    LicenseRenewed,
    LicenseResumed,
    LicenseSuspended,
    LicenseTerminated,
    LicenseUpgraded,
    TombstoneRecorded,
)
from shared.domain.license import License

PUBLIC_TYPES: Mapping[type[LicenseEvent], EventType] = {
    LicenseIssued: EventType.ISSUED,
    KeyIssued: EventType.ISSUED,
    LicenseRenewed: EventType.RENEWED,
    KeyRenewed: EventType.RENEWED,
    LicenseUpgraded: EventType.UPGRADED,
    KeyUpgraded: EventType.UPGRADED,
    LicenseLapsed: EventType.LAPSED,
    LicenseTerminated: EventType.TERMINATED,
    TombstoneRecorded: EventType.TERMINATED,
    LicenseSuspended: EventType.SUSPENDED,
    LicenseResumed: EventType.RESUMED,
    KeyMoved: EventType.MOVED,
    KeyModified: EventType.MODIFIED,
}
"""Every event but `ServiceChanged`, which is nobody else's business."""
PLAIN_MEMBERS = tuple(each.name for each in fields(LicenseEventData))


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
        data=_data(event, after),
    )


def _data(event: LicenseEvent, after: License) -> LicenseEventData | KeyEventData:
    plain = LicenseEventData(
        license=after.number,
        account=after.account,
        product=after.product,
        status=ShownStatus(after.shown_status),
        expires_on=after.expires_on,
        revision=after.revision,
        test=after.test,
        nfr=after.nfr,
    )
    key = after.key
    if key is None:
        return plain
    return KeyEventData(
        **{name: getattr(plain, name) for name in PLAIN_MEMBERS},
        key_id=key.key_id,
        owner=key.owner,
        nickname=key.nickname,
        address=key.address,
        auto_renew=key.auto_renew,
        parent=None if key.parent is None else key.parent.license_id,
        operations=event.operations if isinstance(event, KeyModified) else None,
    )


def event_type(event: LicenseEvent) -> EventType | None:
    """Return the public type under which `event` is told, None for an internal one."""
    return PUBLIC_TYPES.get(type(event))
