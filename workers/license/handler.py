"""The license handler: gather, decide, apply, for one batch of commands.

Read once, decide every command in memory, write once. What a reader should know:

- A known command id is answered from its stored result, whatever its deadline; the same id with another payload is
  nobody's command (`id_reuse`) and goes to the dead letters.
- A command whose deadline has passed before its first commit has not begun and is dropped as expired; TERMINATE always
  runs (docs/protocols/isv-endpoint.md 8.3). Both are asked again on every attempt.
- A conflict means that somebody else wrote meanwhile: everything is read and decided again.
- A value that the database cannot hold spoils a whole batch: the batch is halved until the one at fault is alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from shared.clock import BusinessClock, SystemClock
from shared.contracts.commands import (
    LicenseCommand,
    PurchaseLicense,
    RenewLicense,
    ReportUsage,
    TerminateLicense,
    UpgradeLicense,
)
from shared.contracts.envelope import Envelope
from shared.contracts.identifiers import CommandId, Fingerprint, LicenseId
from shared.contracts.replies import Reply, ReplyStatus
from shared.domain.case import PastRevision, needs_history
from shared.domain.decision import Alert
from shared.domain.effects import CommandEffect, Loaded, StoredReply, StoredResult
from shared.domain.fingerprint import fingerprint_of
from shared.errors import ConflictError, InvalidRecordError, StoreRefusedError, UnavailableError
from workers.license.case_file import CaseFile, Desk, outcome_of
from workers.license.ports import BodySigner, HandlerObserver, LicenseStore, RulesSource

CONFLICT_ATTEMPTS_MAX = 5
"""Attempts on one set of commands before it is halved, or given back to be tried later."""


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """One readable command as it came off the topic."""

    envelope: Envelope
    payload_sha256: bytes
    queue_age_ms: int
    """How long it waited between publishing and now."""


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of one command: a reply, or a reason to set it aside."""

    reply: Reply | None
    dead_letter: InvalidRecordError | None = None


@dataclass(slots=True, kw_only=True)
class LicenseHandler:
    """Handles batches one at a time; keeps nothing between them."""

    store: LicenseStore
    signer: BodySigner
    rules: RulesSource
    observer: HandlerObserver
    business_clock: BusinessClock
    system_clock: SystemClock
    issuer: str

    async def handle(self, received: Sequence[ReceivedCommand]) -> Sequence[Handled]:
        """Return what became of each command, in order.

        Raises `UnavailableError` only; then the same batch may be handled again, as often as needed.
        """
        if not received:
            return ()
        for _ in range(CONFLICT_ATTEMPTS_MAX):
            try:
                return await self._attempt(received)
            except ConflictError:
                self.observer.conflict_met()
            except StoreRefusedError as refused:
                if len(received) == 1:
                    return (Handled(None, InvalidRecordError("not_storable", str(refused))),)
                break
        if len(received) == 1:
            raise UnavailableError(f"command {received[0].envelope.command_id} met a conflict on every attempt")
        middle = len(received) // 2
        return (*await self.handle(received[:middle]), *await self.handle(received[middle:]))

    async def _attempt(self, received: Sequence[ReceivedCommand]) -> Sequence[Handled]:
        with self.observer.phase("read"):
            loaded, histories = await self._gather(received)
        with self.observer.phase("decide"):
            sheet = _Sheet(self._desk(), loaded, histories, self.observer)
            handled = [sheet.handle(command) for command in received]
        if sheet.effects:
            with self.observer.phase("write"):
                await self.store.store(sheet.effects_to_write())
        sheet.tell()
        return handled

    async def _gather(
        self, received: Sequence[ReceivedCommand]
    ) -> tuple[Loaded, Mapping[LicenseId, tuple[PastRevision, ...]]]:
        commands: dict[LicenseId, list[LicenseCommand]] = {}
        for command in received:
            commands.setdefault(command.envelope.license_id, []).append(command.envelope.command)
        loaded = await self.store.load(
            [command.envelope.command_id for command in received],
            list(commands),
            list(_fingerprints(command.envelope.command for command in received)),
        )
        asked = [
            license_id
            for license_id, stored in loaded.licenses.items()
            if needs_history(stored.license, commands[license_id])
        ]
        return loaded, await self.store.load_history(asked) if asked else {}

    def _desk(self) -> Desk:
        return Desk(
            rules=self.rules.current(),
            signer=self.signer,
            issuer=self.issuer,
            business_now=self.business_clock.now(),
            system_now=self.system_clock.now(),
        )


class _Sheet:
    """One attempt at a batch: the case files, the results so far, and the effects to be written."""

    def __init__(
        self,
        desk: Desk,
        loaded: Loaded,
        histories: Mapping[LicenseId, tuple[PastRevision, ...]],
        observer: HandlerObserver,
    ) -> None:
        self._desk = desk
        self._files: dict[LicenseId, CaseFile] = {}
        self._loaded = loaded
        self._histories = histories
        self._results: dict[CommandId, StoredResult] = dict(loaded.results)
        self._observer = observer
        self._told: list[tuple[Envelope, str, tuple[Alert, ...]]] = []
        self.effects: dict[CommandId, CommandEffect] = {}
        self._last_of: dict[LicenseId, CommandId] = {}

    def handle(self, received: ReceivedCommand) -> Handled:
        """Decide one command, or find what was decided before."""
        envelope = received.envelope
        known = self._results.get(envelope.command_id)
        if known is None:
            known = self._decide(envelope, received.payload_sha256)
        elif known.payload_sha256 != received.payload_sha256:
            detail = f"command id {envelope.command_id} was used before with another payload"
            return Handled(None, InvalidRecordError("id_reuse", detail))
        else:
            self._told.append((envelope, "redelivered", ()))
        return Handled(Reply(known.reply.status, known.reply.meta, known.body, received.queue_age_ms))

    def effects_to_write(self) -> list[CommandEffect]:
        """Return the effects in order, the last of each license with its row."""
        for license_id, command_id in self._last_of.items():
            self.effects[command_id] = self._files[license_id].with_write(self.effects[command_id])
        return list(self.effects.values())

    def tell(self) -> None:
        """Tell the observer what was handled; only after the commit, so that a retry counts once."""
        for envelope, outcome, alerts in self._told:
            self._observer.command_handled(envelope, outcome, alerts)

    def _decide(self, envelope: Envelope, payload_sha256: bytes) -> StoredResult:
        if _is_expired(envelope, self._desk.system_now):
            effect = CommandEffect(
                command_id=envelope.command_id,
                license_id=envelope.license_id,
                payload_sha256=payload_sha256,
                reply=StoredReply(status=ReplyStatus.EXPIRED),
                handled_at=self._desk.system_now,
            )
            body = b""
            self._told.append((envelope, "expired", ()))
        else:
            file = self._file(envelope.license_id)
            effect, decision = file.handle(envelope, payload_sha256, self._desk)
            body = file.body if effect.reply.status is ReplyStatus.LICENSE_BODY else effect.reply.body
            self._last_of[envelope.license_id] = envelope.command_id
            self._told.append((envelope, outcome_of(decision), decision.alerts))
        self.effects[envelope.command_id] = effect
        result = StoredResult(payload_sha256=payload_sha256, reply=effect.reply, body=body)
        self._results[envelope.command_id] = result
        return result

    def _file(self, license_id: LicenseId) -> CaseFile:
        file = self._files.get(license_id)
        if file is None:
            stored = self._loaded.licenses.get(license_id)
            file = self._files[license_id] = CaseFile.of(stored, self._histories.get(license_id, ()))
        return file


def _fingerprints(commands: Iterable[LicenseCommand]) -> Iterable[Fingerprint]:
    for command in commands:
        match command:
            case PurchaseLicense() | RenewLicense() | UpgradeLicense():
                yield fingerprint_of(command)
            case TerminateLicense() | ReportUsage():
                pass
            case _:
                assert_never(command)


def _is_expired(envelope: Envelope, system_now: datetime) -> bool:
    return (
        envelope.deadline_at is not None
        and system_now >= envelope.deadline_at
        and not isinstance(envelope.command, TerminateLicense)
    )
