"""What happened to a license, in full: the input of `evolve`. Internal; `publication` makes the public form of it."""

from dataclasses import dataclass
from datetime import date, datetime

from shared.contracts.commands import LicensingModel
from shared.domain.key_details import KeyDetails
from shared.domain.provisioning import UpstreamService


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseIssued:
    """The license was created and its first body issued."""

    at: datetime
    account: str
    number: str
    product: str
    model: LicensingModel
    test: bool
    subscription_on: date
    start_on: date
    purchase_on: date
    expires_on: date
    activation_data: str | None
    reg_name: str | None
    service: UpstreamService | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseRenewed:
    """A later last day was set and a new body issued."""

    at: datetime
    product: str
    """The product held; another than before only when a lost upgrade was reversed (isv-endpoint 8.2 rule 6)."""
    active: bool
    """Whether the new last day makes the license active (it may be in the past already)."""
    expires_on: date
    start_on: date
    purchase_on: date
    activation_data: str | None
    reg_name: str | None
    service: UpstreamService | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseUpgraded:
    """The license became another product and a new body was issued."""

    at: datetime
    product: str
    expires_on: date
    purchase_on: date
    activation_data: str | None
    service: UpstreamService | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseLapsed:
    """The last day is over."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseTerminated:
    """The license was ended for good."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TombstoneRecorded:
    """A number that was never issued was terminated: it can never be sold later."""

    at: datetime
    account: str
    number: str
    product: str
    """As the request named it; empty when it named none."""
    test: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceChanged:
    """The upstream service is another than it was; nothing that the public sees. None: it is released."""

    at: datetime
    service: UpstreamService | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseSuspended:
    """The license was switched off for now."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseResumed:
    """The license was switched on again."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyIssued:
    """A key was made through the Partner API and its first body issued."""

    at: datetime
    account: str
    number: str
    product: str
    """Constant of its base item."""
    expires_on: date
    key: KeyDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRenewed:
    """A key went on by one period and a new body was issued."""

    at: datetime
    active: bool
    """Whether the new last day makes it active (it may be in the past already)."""
    expires_on: date
    key: KeyDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUpgraded:
    """A key holds other items, its version rose and a new body was issued."""

    at: datetime
    product: str
    key: KeyDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMoved:
    """A key belongs to another owner."""

    at: datetime
    key: KeyDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyModified:
    """A request was carried out: what it was, and the key after all of it."""

    at: datetime
    operations: tuple[str, ...]
    """In order of execution."""
    key: KeyDetails


LicenseEvent = (
    LicenseIssued
    | LicenseRenewed
    | LicenseUpgraded
    | LicenseLapsed
    | LicenseTerminated
    | TombstoneRecorded
    | ServiceChanged
    | LicenseSuspended
    | LicenseResumed
    | KeyIssued
    | KeyRenewed
    | KeyUpgraded
    | KeyMoved
    | KeyModified
)
