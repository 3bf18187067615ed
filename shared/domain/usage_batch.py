"""What a batch of usage events must know and what it leaves: the values between the usage handler and its store."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.contracts.identifiers import LicenseId
from shared.contracts.usage import UsageKey
from shared.domain.usage import CountedUsage, UsageHolder


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenUsage:
    """An event that counts, with its content's hash and where it stood on the topic."""

    counted: CountedUsage
    content_sha256: bytes
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class UsageLoaded:
    """What a batch of usage events found stored."""

    known: Mapping[UsageKey, bytes] = field(default_factory=dict)
    """Events taken in before, with the hash of their content."""
    holders: Mapping[LicenseId, UsageHolder] = field(default_factory=dict)
