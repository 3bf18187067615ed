"""Commands: what somebody asks to be done to one license. Frozen values, tagged by `type`.

Evolution rules
- A field may be added when it has a default; a field is never renamed, retyped or given another meaning.
- A new command is a new class in `LicenseCommand`; a command type is never reused.
- Readers ignore members they do not know. A change that old readers must not ignore raises
  `envelope.ENVELOPE_VERSION`; workers are rolled out before gateways.
- Golden bytes of every version stay in `tests/contract/golden/` and must be readable for ever.

Field meanings: docs/protocols/isv-endpoint.md 4. Dates are calendar days in UTC.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from shared.contracts.key_commands import KeyCommand, ModifyKey, PlanKey


class LicensingModel(StrEnum):
    """How a license is billed: `APS_PROTOCOL_MODEL` 2 or 3."""

    STANDARD = "standard"
    REPORTING = "reporting"


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyDigest:
    """What is kept of a `PREVIOUS_LICENSE_BODY`: enough to recognize a revision, nothing to leak."""

    sha256: str
    """Lower-case hexadecimal."""
    length_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseLicense:
    """Create the license (isv-endpoint 5.1)."""

    type: Literal["purchase_license"] = "purchase_license"
    account: str
    number: str
    product: str
    model: LicensingModel
    test: bool | None
    """None when the request carried no flag; that means a real order."""
    expires_on: date
    start_on: date | None = None
    subscription_on: date | None = None
    purchase_on: date | None = None
    activation_data: str | None = None
    reg_name: str | None = None
    unknown_fields: tuple[str, ...] = ()
    """Names, never values, of fields that the protocol does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewLicense:
    """Prolong the license to an absolute day (isv-endpoint 5.2)."""

    type: Literal["renew_license"] = "renew_license"
    account: str
    number: str
    product: str
    model: LicensingModel
    test: bool | None
    expires_on: date
    start_on: date | None = None
    subscription_on: date | None = None
    purchase_on: date | None = None
    activation_data: str | None = None
    previous_body: BodyDigest | None = None
    reg_name: str | None = None
    unknown_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeLicense:
    """Switch the license to another product (isv-endpoint 5.3)."""

    type: Literal["upgrade_license"] = "upgrade_license"
    account: str
    number: str
    product: str
    """The new product."""
    model: LicensingModel
    test: bool | None
    expires_on: date | None = None
    start_on: date | None = None
    subscription_on: date | None = None
    purchase_on: date | None = None
    activation_data: str | None = None
    previous_body: BodyDigest | None = None
    reg_name: str | None = None
    unknown_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateLicense:
    """End the license for good (isv-endpoint 5.4). The type is that of our own record."""

    type: Literal["terminate_license"] = "terminate_license"
    account: str
    number: str
    product: str | None
    test: bool | None
    terminated_on: date | None = None
    previous_body: BodyDigest | None = None
    unknown_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportUsage:
    """Tell the usage counters of a reporting license (isv-endpoint 5.5)."""

    type: Literal["report_usage"] = "report_usage"
    account: str
    number: str
    product: str
    test: bool | None
    reg_name: str | None = None
    unknown_fields: tuple[str, ...] = ()
    usage_ends: tuple[int, ...] | None = None
    """End of `usage.reported` per partition when the question came; None when its reader did not get there in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProviderOutcome:
    """What became of a provider order: sent by the provider role, decided like any other command."""

    type: Literal["record_provider_outcome"] = "record_provider_outcome"
    account: str
    number: str
    order_id: UUID
    confirmed: bool
    """False: definitely not done."""
    service_id: int | None = None
    """Id of the upstream service, when confirmed."""
    service_expires_on: date | None = None
    """Its last day as read upstream, where known."""
    service_key: str | None = None
    """The provider's own key, where the product hands it through."""
    refusal: str | None = None
    """Class of the refusal, when not confirmed."""
    subject: str = ""
    """Parameter or entity that the provider named."""
    provider_account: str = "isplicense"
    """In which provider account; service ids of two accounts may be alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LapseLicense:
    """The last day may be over: sent by the scheduler, so that events do not wait for the next request."""

    type: Literal["lapse_license"] = "lapse_license"
    account: str
    number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseUpstream:
    """The wind-down of a terminated license may be over: sent by the scheduler."""

    type: Literal["close_upstream"] = "close_upstream"
    account: str
    number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendLicense:
    """Switch the license off for now: asked by another system (`license.intake`)."""

    type: Literal["suspend_license"] = "suspend_license"
    account: str
    number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeLicense:
    """Switch the license on again: asked by another system (`license.intake`)."""

    type: Literal["resume_license"] = "resume_license"
    account: str
    number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordActivation:
    """The license was seen in use: told by another system (`license.intake`)."""

    type: Literal["record_activation"] = "record_activation"
    account: str
    number: str
    seen_at: datetime | None = None
    """When, by the sender's clock; None when it did not say."""


CallersCommand = PurchaseLicense | RenewLicense | UpgradeLicense | TerminateLicense | ReportUsage
"""What callers ask."""
RequestedCommand = SuspendLicense | ResumeLicense | RecordActivation
"""What only other systems ask; they may ask TERMINATE too."""
LicenseCommand = (
    CallersCommand | RequestedCommand | KeyCommand | PlanKey | RecordProviderOutcome | LapseLicense | CloseUpstream
)
Operation = PurchaseLicense | RenewLicense | UpgradeLicense
"""The commands that issue a body and leave a fingerprint."""
ProvidedCommand = Operation | ModifyKey
"""The commands that may have to wait for a provider."""
