"""Commands of the Partner API: what a partner asks to be done to one key. The evolution rules are those of `commands`.

A key is a license. One made here belongs to the partner account that made it, and its number is its key id as eight
digits, drawn by the gateway; any other license is addressed by its own account and number. `asked_by` is always the
account of the credentials: it decides which owners can be reached.

Omitted, null and value are three different inputs (docs/protocols/partner-api.md 4) and stay apart on the way:
`KeyMembers.given` names the members that the request had; a given one that is None here was null there.

| wire member | here | | wire member | here |
|---|---|---|---|---|
| `ownerId` | `owner_id` | | `productConfigurationId` | `configuration_id` |
| `keyIdentifiers` | `guard` | | `items` | `items` |
| `parentKeyIdentifiers` | `parent` | | `terminated` | `terminated` |
| `activationInfo` | `activation` | | `suspended` | `suspended` |
| `ipAddressBinding` | `address` | | `autoRenew` | `auto_renew` |
| `restrictIPBinding` | `restrict_address` | | `nickname` | `nickname` |
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class KeyMember(StrEnum):
    """The members of a request that can change a key; values are the fields of `KeyMembers`."""

    OWNER = "owner_id"
    GUARD = "guard"
    PARENT = "parent"
    ACTIVATION = "activation"
    ADDRESS = "address"
    RESTRICT_ADDRESS = "restrict_address"
    NICKNAME = "nickname"
    CONFIGURATION = "configuration_id"
    ITEMS = "items"
    TERMINATED = "terminated"
    SUSPENDED = "suspended"
    AUTO_RENEW = "auto_renew"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReference:
    """Identifiers by which a request names a key; None for one that it does not give (partner-api 4.2)."""

    key_id: int | None = None
    key_number: str | None = None
    activation_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedItem:
    """One member of the wanted set of items (partner-api 4.4)."""

    item: str
    quantity: int = 1
    external_id: str | None = None
    external_id_given: bool = False
    """False: the stored reference is kept. True with None: it is cleared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedActivation:
    """`activationInfo` of a request (partner-api 4.3)."""

    uid: str | None = None
    activated: bool | None = None
    """None when omitted; that means true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMembers:
    """The members of a request in their documented types; unknown and read-only ones are left out."""

    given: tuple[KeyMember, ...] = ()
    owner_id: str | None = None
    guard: KeyReference | None = None
    parent: KeyReference | None = None
    activation: WantedActivation | None = None
    address: str | None = None
    """As the request wrote it; the worker judges it and compares the canonical form."""
    restrict_address: bool | None = None
    nickname: str | None = None
    configuration_id: int | None = None
    items: tuple[WantedItem, ...] | None = None
    terminated: bool | None = None
    suspended: bool | None = None
    auto_renew: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """The caller's own name for a request, and what it named (partner-api 3.2)."""

    key: str
    body_sha256: str
    """Lower-case hexadecimal, over method, path and body: the same name for anything else is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKey:
    """Make a key (partner-api 3). `account` is that of the credentials, `number` the eight digits drawn for it."""

    type: Literal["create_key"] = "create_key"
    account: str
    number: str
    asked_by: str
    members: KeyMembers
    return_state: bool = False
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModifyKey:
    """Bring a key to the state that a request describes (partner-api 5)."""

    type: Literal["modify_key"] = "modify_key"
    account: str
    number: str
    asked_by: str
    members: KeyMembers
    return_state: bool = False
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateKey:
    """End a key for good (partner-api 3)."""

    type: Literal["terminate_key"] = "terminate_key"
    account: str
    number: str
    asked_by: str
    return_state: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewKey:
    """Move renewal and expiry on by one period (partner-api 4.5, 3.2)."""

    type: Literal["renew_key"] = "renew_key"
    account: str
    number: str
    asked_by: str
    return_state: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewSus:
    """Move an active update subscription on by one year (partner-api 3)."""

    type: Literal["renew_sus"] = "renew_sus"
    account: str
    number: str
    asked_by: str
    return_state: bool = False
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinstateSus:
    """Begin an expired update subscription again (partner-api 3)."""

    type: Literal["reinstate_sus"] = "reinstate_sus"
    account: str
    number: str
    asked_by: str
    external_id: str | None = None
    return_state: bool = False
    idempotency: Idempotency | None = None


class Edition(StrEnum):
    """The editions to which a key can be converted, as requests write them."""

    WEB_ADMIN = "web-admin"
    WEB_PRO = "web-pro"
    WEB_HOST = "web-host"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertToEdition:
    """Replace the items of a key by the single item of an edition (partner-api 3)."""

    type: Literal["convert_to_edition"] = "convert_to_edition"
    account: str
    number: str
    asked_by: str
    edition: Edition
    return_state: bool = False
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRemainingActivations:
    """Set how often a key may still be activated this month; 0 blocks it (partner-api 3)."""

    type: Literal["set_remaining_activations"] = "set_remaining_activations"
    account: str
    number: str
    asked_by: str
    remaining: int
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanKey:
    """Tell what `ModifyKey` with these members would do now, and do nothing (dry run, partner-api 5.9).

    A command of its own rather than a flag of `ModifyKey`: a worker too old to know it must not carry it out.
    """

    type: Literal["plan_key"] = "plan_key"
    account: str
    number: str
    asked_by: str
    members: KeyMembers

    def as_modification(self) -> ModifyKey:
        """Return the command that is planned."""
        return ModifyKey(account=self.account, number=self.number, asked_by=self.asked_by, members=self.members)


KeyCommand = (
    CreateKey
    | ModifyKey
    | TerminateKey
    | RenewKey
    | RenewSus
    | ReinstateSus
    | ConvertToEdition
    | SetRemainingActivations
)
"""What partners ask to be done."""
