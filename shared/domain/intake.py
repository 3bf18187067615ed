"""Public requests between the intake worker and its log: what is asked, and what is remembered of it."""

from dataclasses import dataclass

from shared.contracts.commands import LicenseCommand
from shared.contracts.identifiers import CommandId, LicenseId, license_id
from shared.contracts.requests import RequestReference
from shared.domain.effects import OutboxEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicRequest:
    """One readable request of another system, as the command that it asks for."""

    reference: RequestReference
    command: LicenseCommand
    content_sha256: bytes
    """SHA-256 of what decides: the same `source` and `id` with another one is nobody's request."""

    @property
    def key(self) -> tuple[str, str]:
        """How it is recognized: `source` and `id`."""
        return self.reference.source, self.reference.id

    @property
    def license_id(self) -> LicenseId:
        """The license concerned."""
        return license_id(self.command.account, self.command.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest:
    """A request to be remembered if it was never seen."""

    request: PublicRequest
    command_id: CommandId
    """Id of its command, should it be new."""
    answer: OutboxEvent | None = None
    """Its outcome, where no command is needed to tell it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRequest:
    """What is remembered of a request: from its first arrival, whoever sent it again since."""

    command_id: CommandId
    content_sha256: bytes
    is_handed_over: bool
    """Its command stands on `license.commands`, or it needed none."""
