"""What a decision may look at: the case of one license, and the rules in force."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shared.contracts.commands import BodyDigest, LicenseCommand, RenewLicense, UpgradeLicense
from shared.contracts.identifiers import Fingerprint, LicenseId
from shared.domain.catalog import FIRST_PROVIDER_ACCOUNT, Catalog
from shared.domain.decision import KnownRequest
from shared.domain.key_owners import OwnerBook
from shared.domain.license import License
from shared.domain.open_operation import OpenOperation
from shared.domain.provisioning import ServerData
from shared.domain.usage import UsageOnFile


class RevisionCause(StrEnum):
    """What issued a revision."""

    ISSUED = "issued"
    RENEWED = "renewed"
    UPGRADED = "upgraded"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRevision:
    """One issued body, as far as deciding needs it."""

    revision: int
    product: str
    cause: RevisionCause
    body: BodyDigest


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One license and what is remembered about it."""

    license: License | None
    operations: Mapping[Fingerprint, int] = field(default_factory=dict)
    """Earlier successful operations and the revision each left, as far as the commands at hand may ask for them."""
    history: tuple[PastRevision, ...] = ()
    """Revisions in rising order; loaded only where `needs_history` says so."""
    open: OpenOperation | None = None
    """The operation under way upstream."""
    in_line: int = 0
    """Commands that stand in line behind it."""
    termination_waits: bool = False
    """One of them ends the license: until its turn nothing more is ordered."""
    server_data: ServerData | None = None
    """`ACTIVATION_DATA` of the command at hand, read; None when it has none or nobody can read it."""
    parent: License | None = None
    """The license that a module's data name as its parent."""
    usage: UsageOnFile | None = None
    """What is stored about its usage; loaded for `ReportUsage` only."""
    related: Mapping[LicenseId, License] = field(default_factory=dict)
    """For commands of the Partner API: parents, children, and whoever holds the address or UID that is asked for."""
    owners: OwnerBook = field(default_factory=OwnerBook)
    """For the same: the accounts and owners concerned."""
    activation_code: str = ""
    """For a key that is to be made: its activation code, drawn before."""
    known_request: KnownRequest | None = None
    """What was answered to the request of the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Switches that an installation may set."""

    nfr_to_regular_allowed: bool = False
    terminate_unknown_is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The catalog and the policy in force."""

    catalog: Catalog
    policy: Policy = field(default_factory=Policy)
    provider_accounts: Mapping[str, bool] = field(default_factory=lambda: {FIRST_PROVIDER_ACCOUNT: True})
    """The provider accounts of this installation, and whether each takes new orders: breaker closed, few enough
    unresolved ones."""


def needs_history(license: License | None, commands: Sequence[LicenseCommand]) -> bool:
    """Whether deciding `commands` on `license` may need its earlier revisions.

    Only a RENEW that brings a body of another product than the one held can tell of a lost upgrade.
    """
    if license is None:
        return False
    held = {license.product} | {command.product for command in commands if isinstance(command, UpgradeLicense)}
    return any(
        isinstance(command, RenewLicense) and command.previous_body is not None and held != {command.product}
        for command in commands
    )
