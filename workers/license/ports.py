"""What the license handler needs from the outside, in its own words."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from shared.contracts.envelope import Envelope
from shared.contracts.identifiers import CommandId, Fingerprint, LicenseId
from shared.domain.body import Claims
from shared.domain.case import PastRevision, Rules
from shared.domain.decision import Alert
from shared.domain.effects import CommandEffect, KeyAnswers, KeyQuestions, Loaded, WaitingCommand
from shared.domain.usage import UsageOnFile


class LicenseStore(Protocol):
    """The truth about licenses. Every method may raise `UnavailableError`; then nothing is known to have happened."""

    async def load(
        self,
        command_ids: Collection[CommandId],
        license_ids: Collection[LicenseId],
        fingerprints: Collection[Fingerprint],
    ) -> Loaded:
        """Return the known results, licenses and operations of a batch, in one round trip."""
        ...

    async def load_history(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, tuple[PastRevision, ...]]:
        """Return all revisions of the licenses, rising."""
        ...

    async def load_line(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, tuple[WaitingCommand, ...]]:
        """Return the commands that stand in line behind the open operations of the licenses, in order."""
        ...

    async def load_usage(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, UsageOnFile]:
        """Return what is stored about the usage of every one of the licenses, all as of one moment."""
        ...

    async def load_keys(self, questions: KeyQuestions) -> KeyAnswers:
        """Return what commands of the Partner API must know beside their own license."""
        ...

    async def store(self, effects: Sequence[CommandEffect]) -> None:
        """Write all effects in one transaction.

        Raises `ConflictError` when a license or a command id is no longer as it was read, and `StoreRefusedError`
        when a value cannot be stored at all (then the batch is split until the one at fault stands alone).
        """
        ...


class BodySigner(Protocol):
    """Makes license bodies."""

    def sign(self, claims: Claims) -> bytes:
        """Return the license body for `claims`: a compact JWS, the same bytes for the same claims and key."""
        ...


class RulesSource(Protocol):
    """The rules in force."""

    def current(self) -> Rules:
        """Return the newest known catalog and the policy; never waits."""
        ...


class CommitListener(Protocol):
    """Hears of what was committed, to publish its outbox rows at once; never raises, never waits."""

    def committed(self, effects: Sequence[CommandEffect]) -> None:
        """Take the effects of one committed batch."""
        ...


class HandlerObserver(Protocol):
    """Watches the handler for logs and metrics; never raises, never waits."""

    def phase(self, name: Literal["read", "decide", "write"]) -> AbstractContextManager[None]:
        """Time one phase of a batch."""
        ...

    def command_handled(self, envelope: Envelope, outcome: str, alerts: Sequence[Alert]) -> None:
        """One command has its lasting outcome: `done`, `repeated`, `redelivered`, `expired` or a code."""
        ...

    def conflict_met(self) -> None:
        """Somebody else wrote first; the batch is read and decided again."""
        ...
