"""The key structure: the form in which the Partner API shows a key (docs/protocols/partner-api.md 4).

Plain values in the vendor's names and in the vendor's order; `contracts.codec.encode_key_structure` makes bytes of it.
This is what a reply carries, so that worker and reader write the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum

from shared.domain.key_details import ACTIVATIONS_A_MONTH, KeyDetails, key_number

Structure = dict[str, object]


class KeyStatus(StrEnum):
    """Shown statuses (partner-api 6.2)."""

    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    EXPIRING = "EXPIRING"
    SUSPENDED = "SUSPENDED"
    TERMINATED = "TERMINATED"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyName:
    """Everything by which a key is called."""

    key_id: int
    key_version: int
    activation_code: str

    @property
    def number(self) -> str:
        """The full key number."""
        return key_number(self.key_id, self.key_version)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStanding:
    """What the shown status of a key follows from."""

    terminated: bool
    suspended: bool
    """The key or its owner."""
    expires_on: date | None
    update_on: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """A key as people may see it: the details, and what the license and its surroundings add."""

    details: KeyDetails
    key_version: int
    expires_on: date | None
    terminated: bool
    suspended: bool
    owner_suspended: bool = False
    parent: KeyName | None = None
    """Set if and only if the details have a parent."""
    children: Sequence[KeyName] = ()

    @property
    def name(self) -> KeyName:
        """How it is called."""
        return KeyName(
            key_id=self.details.key_id, key_version=self.key_version, activation_code=self.details.activation_code
        )

    @property
    def standing(self) -> KeyStanding:
        """What its status follows from."""
        return KeyStanding(
            terminated=self.terminated,
            suspended=self.suspended or self.owner_suspended,
            expires_on=self.expires_on,
            update_on=self.details.update_on,
        )


def key_status(standing: KeyStanding, now: datetime) -> KeyStatus:
    """Return the shown status at `now`, the business clock (partner-api 6.2)."""
    if standing.terminated:
        return KeyStatus.TERMINATED
    if standing.suspended:
        return KeyStatus.SUSPENDED
    if standing.expires_on is not None and now >= _midnight(standing.expires_on):
        return KeyStatus.EXPIRED
    if standing.update_on is not None and now >= _midnight(standing.update_on):
        return KeyStatus.EXPIRING
    return KeyStatus.ACTIVE


def full_structure(view: KeyView, now: datetime) -> Structure:
    """Return the full structure of a key, every member always there."""
    details = view.details
    sus = details.sus_expires_on
    return {
        "ownerId": details.owner,
        "keyIdentifiers": _identifiers(view.name),
        "parentKeyIdentifiers": None if view.parent is None else _identifiers(view.parent),
        "activationInfo": _activation(details),
        "ipAddressBinding": details.address,
        "nickname": details.nickname,
        "productConfigurationId": details.configuration,
        "items": [_item(item.item, item.external_id, item.quantity) for item in details.items],
        "creationDate": _moment(details.created_at),
        "lastModificationDate": _moment(details.modified_at),
        "updateDate": _day(details.update_on),
        "expirationDate": None if view.expires_on == date.max else _day(view.expires_on),
        "susExpirationDate": _day(sus),
        "susStatus": None if sus is None else sus_status(sus, now),
        "supportExpirationDate": None,
        "supportStatus": None,
        "status": key_status(view.standing, now).value,
        "terminated": view.terminated,
        "suspended": view.suspended,
        "ownerSuspended": view.owner_suspended,
        "autoRenew": details.auto_renew,
        "restrictIPBinding": details.restrict_address,
        "frauds": [],
        "lastReportingDate": None,
        "lastReportingIp": None,
        "childKeyIdentifiers": [_identifiers(child) for child in view.children],
        "overridingKeyIdentifiers": None,
    }


def short_structure(*, owner_id: str, key_id: int, parent_key_id: int | None) -> Structure:
    """Return the short structure, as searches list it (partner-api 3.1)."""
    return {
        "ownerId": owner_id,
        "keyId": key_id,
        "parentKeyId": parent_key_id,
        "isEls": False,
        "lastReportingOs": None,
    }


def sus_status(expires_on: date, now: datetime) -> str:
    """Return whether an update subscription with that last day runs."""
    return KeyStatus.ACTIVE.value if now < _midnight(expires_on) else KeyStatus.EXPIRED.value


def remaining_activations(details: KeyDetails, now: datetime) -> int:
    """Return how often the key may still be activated in the month of `now`."""
    month = now.astimezone(UTC).date().replace(day=1)
    counted = details.activations
    return ACTIVATIONS_A_MONTH if counted is None or counted.month != month else counted.remaining


def _identifiers(name: KeyName) -> Structure:
    return {
        "keyId": name.key_id,
        "keyNumber": name.number,
        "activationCode": name.activation_code,
        "activationLink": None,
    }


def _activation(details: KeyDetails) -> Structure | None:
    if not details.activatable:
        return None
    return {"uid": details.uid, "activated": details.uid is not None}


def _item(item: str, external_id: str | None, quantity: int) -> Structure:
    told: Structure = {"externalId": external_id, "item": item}
    return told if quantity == 1 else {**told, "quantity": quantity}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _day(day: date | None) -> str | None:
    return None if day is None else f"{day.isoformat()}T00:00:00.000Z"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
