"""The license: one frozen value, its statuses, and the only door that changes it.

`TRANSITIONS` is the law of this file: a status changes only along it, and only through `evolve`. Final statuses stand
in it too, with nothing to go to. `suspended` is a flag beside the status (isv-endpoint 7); what is shown to people is
derived: terminated > suspended > lapsed > active.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import assert_never

from shared.contracts.commands import LicensingModel
from shared.contracts.identifiers import LicenseId, license_id
from shared.domain.catalog import NFR_PREFIX
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
    ServiceChanged,
    TombstoneRecorded,
)
from shared.domain.key_details import KeyDetails, KeyItem
from shared.domain.provisioning import UpstreamService


class LicenseStatus(StrEnum):
    """Stored statuses."""

    ACTIVE = "active"
    LAPSED = "lapsed"
    TERMINATED = "terminated"


TRANSITIONS: Mapping[LicenseStatus, frozenset[LicenseStatus]] = {
    LicenseStatus.ACTIVE: frozenset({LicenseStatus.ACTIVE, LicenseStatus.LAPSED, LicenseStatus.TERMINATED}),
    LicenseStatus.LAPSED: frozenset({LicenseStatus.LAPSED, LicenseStatus.ACTIVE, LicenseStatus.TERMINATED}),
    LicenseStatus.TERMINATED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class License:
    """The state of one license, as events folded by `evolve` leave it."""

    account: str
    number: str
    product: str
    """SKU, with the `NFR-` prefix when not for resale."""
    model: LicensingModel
    status: LicenseStatus
    suspended: bool = False
    test: bool = False
    subscription_on: date | None = None
    start_on: date | None = None
    purchase_on: date | None = None
    expires_on: date | None = None
    """Last day; None only for a tombstone."""
    terminated_at: datetime | None = None
    activation_data: str | None = None
    reg_name: str | None = None
    revision: int = 0
    """Issued bodies, counted from 1; 0 only for a tombstone."""
    key_version: int = 0
    """Last part of a Partner key number; raised by upgrades."""
    sequence: int = 0
    """Number of the latest event."""
    service: UpstreamService | None = None
    """What is held upstream for it, for provider products."""
    key: KeyDetails | None = None
    """What the Partner API knows of it; None while that API has never changed it."""

    @property
    def license_id(self) -> LicenseId:
        """The id: record key and unit of order."""
        return license_id(self.account, self.number)

    @property
    def nfr(self) -> bool:
        """Whether it is not for resale."""
        return self.product.startswith(NFR_PREFIX)

    @property
    def shown_status(self) -> str:
        """The status that people and events see."""
        if self.suspended and self.status is not LicenseStatus.TERMINATED:
            return "suspended"
        return self.status.value


def evolve(license: License | None, event: LicenseEvent) -> License:
    """Return the license after `event`. Total over what `decide` emits: it never refuses."""
    if isinstance(event, LicenseIssued | TombstoneRecorded | KeyIssued):
        return _create(event)
    assert license is not None, "every other event follows an issue"  # noqa: S101 - decide's own guarantee
    match event:
        case LicenseRenewed() | LicenseUpgraded():
            return _issued_anew(license, event)
        case KeyRenewed() | KeyUpgraded() | KeyMoved() | KeyModified():
            return _key_changed(license, event)
        case LicenseSuspended() | LicenseResumed() | LicenseLapsed() | LicenseTerminated():
            return _status_changed(license, event)
        case ServiceChanged():
            return replace(license, service=event.service)
        case _:
            assert_never(event)


def _issued_anew(license: License, event: LicenseRenewed | LicenseUpgraded) -> License:
    issued = replace(
        license,
        product=event.product,
        expires_on=event.expires_on,
        purchase_on=event.purchase_on,
        activation_data=event.activation_data,
        service=event.service,
        revision=license.revision + 1,
        sequence=license.sequence + 1,
        key=None if license.key is None else seen_by_owner(license.key, event),
    )
    match event:
        case LicenseRenewed():
            return replace(
                issued,
                status=_moved(license.status, LicenseStatus.ACTIVE if event.active else license.status),
                start_on=event.start_on,
                reg_name=event.reg_name,
            )
        case LicenseUpgraded():
            return replace(issued, key_version=license.key_version + 1)
        case _:
            assert_never(event)


def _status_changed(
    license: License, event: LicenseSuspended | LicenseResumed | LicenseLapsed | LicenseTerminated
) -> License:
    changed = replace(license, sequence=license.sequence + 1)
    match event:
        case LicenseSuspended():
            return replace(changed, suspended=True)
        case LicenseResumed():
            return replace(changed, suspended=False)
        case LicenseLapsed():
            return replace(changed, status=_moved(license.status, LicenseStatus.LAPSED))
        case LicenseTerminated():
            status = _moved(license.status, LicenseStatus.TERMINATED)
            key = None if license.key is None else replace(license.key, modified_at=event.at)
            return replace(changed, status=status, terminated_at=event.at, key=key)
        case _:
            assert_never(event)


def _key_changed(license: License, event: KeyRenewed | KeyUpgraded | KeyMoved | KeyModified) -> License:
    changed = replace(license, key=event.key, sequence=license.sequence + 1)
    match event:
        case KeyRenewed():
            return replace(
                changed,
                status=_moved(license.status, LicenseStatus.ACTIVE if event.active else license.status),
                expires_on=event.expires_on,
                revision=license.revision + 1,
            )
        case KeyUpgraded():
            return replace(
                changed,
                product=event.product,
                revision=license.revision + 1,
                key_version=license.key_version + 1,
            )
        case KeyMoved() | KeyModified():
            return changed
        case _:
            assert_never(event)


def seen_by_owner(key: KeyDetails, event: LicenseRenewed | LicenseUpgraded) -> KeyDetails:
    """Return the Partner API's part after a license of the other protocol got another product or day.

    Its item is the product held. The family stays: within another one somebody else may hold its address or UID, and
    nothing that was bought may fail for that.
    """
    item = replace(key.items[0], item=event.product) if key.items else KeyItem(item=event.product, unmatched=True)
    return replace(key, items=(item,), update_on=event.expires_on, modified_at=event.at)


def _create(event: LicenseIssued | TombstoneRecorded | KeyIssued) -> License:
    if isinstance(event, KeyIssued):
        return License(
            account=event.account,
            number=event.number,
            product=event.product,
            model=LicensingModel.STANDARD,
            status=LicenseStatus.ACTIVE,
            subscription_on=event.at.date(),
            start_on=event.at.date(),
            purchase_on=event.at.date(),
            expires_on=event.expires_on,
            revision=1,
            sequence=1,
            key=event.key,
        )
    if isinstance(event, TombstoneRecorded):
        return License(
            account=event.account,
            number=event.number,
            product=event.product,
            model=LicensingModel.STANDARD,
            status=LicenseStatus.TERMINATED,
            test=event.test,
            terminated_at=event.at,
            sequence=1,
        )
    return License(
        account=event.account,
        number=event.number,
        product=event.product,
        model=event.model,
        status=LicenseStatus.ACTIVE,
        test=event.test,
        subscription_on=event.subscription_on,
        start_on=event.start_on,
        purchase_on=event.purchase_on,
        expires_on=event.expires_on,
        activation_data=event.activation_data,
        reg_name=event.reg_name,
        service=event.service,
        revision=1,
        sequence=1,
    )


def _moved(current: LicenseStatus, target: LicenseStatus) -> LicenseStatus:
    assert target in TRANSITIONS[current], f"{current} never becomes {target}"  # noqa: S101 - the law of this file
    return target
