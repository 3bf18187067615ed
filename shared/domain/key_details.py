"""What the Partner API knows of a license beyond the license itself: owner, items, bindings, dates.

One frozen value, stored as one document with the license row. A license that was bought through another protocol has
none until the Partner API first changes it; until then `details_of_foreign` says what it looks like there.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from shared.contracts.identifiers import LicenseId

KEY_PREFIX = "PLSK"
KEY_ID_DIGITS_MAX = 15
"""No key id is longer: what has more digits names no key, and would not fit into a column of the database either."""
ACTIVATIONS_A_MONTH = 10
"""How often a key may be activated in a month when nobody has set another number (partner-api 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyItem:
    """One item that a key holds (partner-api 4.4)."""

    item: str
    external_id: str | None = None
    quantity: int = 1
    unmatched: bool = False
    """No constant of the catalog: it must come back unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentKey:
    """The key to which another one is attached: what never changes about it."""

    license_id: LicenseId
    key_id: int
    activation_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyActivations:
    """How often a key may still be activated in one month."""

    month: date
    """Its first day."""
    remaining: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDetails:
    """The Partner API's part of a license."""

    key_id: int
    activation_code: str
    owner: str
    configuration: int | None
    """Product configuration; None while the owner has none at all."""
    items: tuple[KeyItem, ...]
    family: str
    """Product family of the base item: addresses and UIDs are unique within it, among live keys."""
    created_at: datetime
    modified_at: datetime
    update_on: date | None
    """Renewal day; None for a key without renewal."""
    purchased: bool = False
    """Bought for good: cannot be terminated."""
    nickname: str = ""
    auto_renew: bool = True
    address: str | None = None
    """Canonical IPv4 or IPv6 address to which it is bound."""
    restrict_address: bool = False
    activatable: bool = False
    uid: str | None = None
    """What it is activated with; None while it is not activated."""
    parent: ParentKey | None = None
    sus_expires_on: date | None = None
    """Last day of the update subscription; None without one."""
    renewed_at: datetime | None = None
    """When the present renewal day was set by a renewal (partner-api 3.2)."""
    activations: MonthlyActivations | None = None


def key_number(key_id: int, key_version: int) -> str:
    """Return the full key number: prefix, eight digits, four digits of version (partner-api 4.2)."""
    return f"{KEY_PREFIX}.{key_id:08}.{key_version:04}"


def key_id_in(number: str) -> int | None:
    """Return the key id in a full key number, whatever its version; None when it is none."""
    parts = number.split(".")
    if len(parts) not in (2, 3) or parts[0].upper() != KEY_PREFIX:
        return None
    digits = parts[1]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= KEY_ID_DIGITS_MAX else None


def details_of_foreign(  # noqa: PLR0913 - the columns of a license row, all by name
    *,
    key_id: int,
    activation_code: str,
    owner: str,
    configuration: int | None,
    product: str,
    created_on: date,
    expires_on: date,
) -> KeyDetails:
    """Return what a license bought through another protocol looks like to the owner of its account.

    Its product is one unmatched item, which cannot be changed here.
    """
    created_at = datetime.combine(created_on, time(), UTC)
    return KeyDetails(
        key_id=key_id,
        activation_code=activation_code,
        owner=owner,
        configuration=configuration,
        items=(KeyItem(item=product, unmatched=True),),
        family=product,
        created_at=created_at,
        modified_at=created_at,
        update_on=expires_on,
    )
