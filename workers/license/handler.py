"""The license handler: gather, decide, apply, for one batch of commands.

Read once, decide every command in memory, write once. What a reader should know:

- A known command id is answered from its stored result, whatever its deadline; the same id with another payload is
  nobody's command (`id_reuse`) and goes to the dead letters.
- A command whose deadline has passed before its first commit has not begun and is dropped as expired; TERMINATE always
  runs (docs/protocols/isv-endpoint.md 8.3). Both are asked again on every attempt.
- A conflict means that somebody else wrote meanwhile: everything is read and decided again.
- A value that the database cannot hold spoils a whole batch: the batch is halved until the one at fault is alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from shared.clock import BusinessClock, SystemClock
from shared.contracts.commands import (
    CloseUpstream,
    LapseLicense,
    LicenseCommand,
    PurchaseLicense,
    RecordActivation,
    RecordProviderOutcome,
    RenewLicense,
    ReportUsage,
    ResumeLicense,
    SuspendLicense,
    TerminateLicense,
    UpgradeLicense,
)
from shared.contracts.identifiers import Fingerprint, LicenseId, license_id
from shared.contracts.key_commands import (
    ConvertToEdition,
    CreateKey,
    ModifyKey,
    PlanKey,
    ReinstateSus,
    RenewKey,
    RenewSus,
    SetRemainingActivations,
    TerminateKey,
)
from shared.domain.case import needs_history
from shared.domain.catalog import Catalog
from shared.domain.effects import KeyAnswers
from shared.domain.fingerprint import fingerprint_of
from shared.errors import ConflictError, InvalidRecordError, StoreRefusedError, UnavailableError
from workers.license.activation_data import server_data_of
from workers.license.case_file import ReceivedCommand
from workers.license.desk import Desk
from workers.license.key_questions import questions_of
from workers.license.ports import BodySigner, CommitListener, HandlerObserver, LicenseStore, RulesSource
from workers.license.sheet import Found, Handled, Sheet, commands_in

CONFLICT_ATTEMPTS_MAX = 5
"""Attempts on one set of commands before it is halved, or given back to be tried later."""


@dataclass(slots=True, kw_only=True)
class LicenseHandler:
    """Handles batches one at a time; keeps nothing between them."""

    store: LicenseStore
    signer: BodySigner
    rules: RulesSource
    observer: HandlerObserver
    listener: CommitListener
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
            desk = self._desk()
            found = await self._gather(received, desk.rules.catalog)
        with self.observer.phase("decide"):
            sheet = Sheet(desk, found)
            handled = [sheet.handle(command) for command in received]
        if sheet.effects:
            effects = sheet.effects_to_write()
            with self.observer.phase("write"):
                await self.store.store(effects)
            self.listener.committed(effects)
        for envelope, outcome, alerts in sheet.told:
            # Only now, after the commit, so that an attempt that failed is not counted.
            self.observer.command_handled(envelope, outcome, alerts)
        return handled

    async def _gather(self, received: Sequence[ReceivedCommand], catalog: Catalog) -> Found:
        commands: dict[LicenseId, list[LicenseCommand]] = {}
        for command in received:
            commands.setdefault(command.envelope.license_id, []).append(command.envelope.command)
        parents = {
            license_id(command.account, data.parent_number)
            for asked in commands.values()
            for command in asked
            if (data := server_data_of(command, catalog)) is not None and data.parent_number is not None
        }
        loaded = await self.store.load(
            [command.envelope.command_id for command in received],
            list({*commands, *parents}),
            list(_fingerprints(command.envelope.command for command in received)),
        )
        with_history = [
            key
            for key, stored in loaded.licenses.items()
            if key in commands and needs_history(stored.license, commands[key])
        ]
        histories = await self.store.load_history(with_history) if with_history else {}
        # Only an outcome can end an operation and so let the line go on.
        with_line = [
            key
            for key in loaded.open
            if any(isinstance(command, RecordProviderOutcome) for command in commands.get(key, ()))
        ]
        lines = await self.store.load_line(with_line) if with_line else {}
        with_usage = [key for key in commands if _asks_usage((*commands[key], *commands_in((lines.get(key, ()),))))]
        usage = await self.store.load_usage(with_usage) if with_usage else {}
        questions = questions_of(
            (
                *(command.envelope.command for command in received),
                *commands_in(lines.values()),
                *(loaded.open[key].operation.command for key in with_line),
            )
        )
        answers = KeyAnswers() if questions is None else await self.store.load_keys(questions)
        return Found(loaded, histories, lines, usage, answers)

    def _desk(self) -> Desk:
        return Desk(
            rules=self.rules.current(),
            signer=self.signer,
            issuer=self.issuer,
            business_now=self.business_clock.now(),
            system_now=self.system_clock.now(),
        )


def _asks_usage(commands: Iterable[LicenseCommand]) -> bool:
    """Whether one of the commands, in line or in the batch, is a question about usage; its license may come with it."""
    return any(isinstance(command, ReportUsage) for command in commands)


def _fingerprints(commands: Iterable[LicenseCommand]) -> Iterable[Fingerprint]:
    for command in commands:
        match command:
            case PurchaseLicense() | RenewLicense() | UpgradeLicense():
                yield fingerprint_of(command)
            case TerminateLicense() | ReportUsage() | RecordProviderOutcome() | LapseLicense() | CloseUpstream():
                pass
            case SuspendLicense() | ResumeLicense() | RecordActivation():
                pass
            case (
                CreateKey()
                | ModifyKey()
                | TerminateKey()
                | RenewKey()
                | RenewSus()
                | ReinstateSus()
                | ConvertToEdition()
                | SetRemainingActivations()
                | PlanKey()
            ):
                pass
            case _:
                assert_never(command)
