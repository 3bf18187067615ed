"""The sheet of one attempt at a batch: the case files, the results so far, and the effects to be written."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from shared.contracts.codec import decode_envelope
from shared.contracts.commands import LicenseCommand, RecordProviderOutcome, TerminateLicense
from shared.contracts.envelope import Envelope
from shared.contracts.identifiers import CommandId, LicenseId, license_id
from shared.contracts.key_commands import KeyCommand, PlanKey, TerminateKey
from shared.contracts.replies import Reply, ReplyAddress, ReplyStatus
from shared.domain.case import PastRevision
from shared.domain.decision import Alert, KnownRequest
from shared.domain.effects import (
    CommandEffect,
    KeyAnswers,
    KeyQuestions,
    Loaded,
    StoredLicense,
    StoredReply,
    StoredResult,
    WaitingCommand,
)
from shared.domain.key_requests import as_key
from shared.domain.license import License
from shared.domain.usage import UsageOnFile
from shared.errors import InvalidRecordError
from workers.license.activation_data import server_data_of
from workers.license.case_file import Beside, CaseFile, Handling, ReceivedCommand
from workers.license.desk import Desk
from workers.license.key_questions import questions_of, request_name
from workers.license.relatives import Relatives
from workers.license.telling import outcome_of

UNSENT = frozenset({ReplyStatus.PENDING, ReplyStatus.IN_LINE, ReplyStatus.NOTED})
"""Results that are remembered but never sent."""


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of one command: a reply, or a reason to set it aside."""

    reply: Reply | None
    """None for a dead letter, and for what is answered later or not at all."""
    dead_letter: InvalidRecordError | None = None
    others: tuple[tuple[ReplyAddress, Reply], ...] = ()
    """Replies to those whose waiting ended with this command."""


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that a batch found stored."""

    loaded: Loaded
    histories: Mapping[LicenseId, tuple[PastRevision, ...]]
    lines: Mapping[LicenseId, tuple[WaitingCommand, ...]]
    usage: Mapping[LicenseId, UsageOnFile]
    keys: KeyAnswers = field(default_factory=KeyAnswers)


class Sheet:
    """Handles commands one after the other in memory; what they leave is written once."""

    def __init__(self, desk: Desk, found: Found) -> None:
        self._desk = desk
        self._found = found
        self._files: dict[LicenseId, CaseFile] = {}
        self._relatives = Relatives()
        for key, stored in found.keys.licenses.items():
            self._note(key, self._open_file(stored.license.account, stored.license.number))
        self._results: dict[CommandId, StoredResult] = dict(found.loaded.results)
        self._last_of: dict[LicenseId, CommandId] = {}
        self._requests: dict[tuple[str, str], KnownRequest] = dict(found.keys.requests)
        self.effects: dict[tuple[CommandId, LicenseId], CommandEffect] = {}
        """By command and license: a command may touch more than its own."""
        self.told: list[tuple[Envelope, str, tuple[Alert, ...]]] = []
        """What to tell the observer once all is committed."""

    def handle(self, received: ReceivedCommand) -> Handled:
        """Decide one command, or find what was decided before."""
        envelope = received.envelope
        if isinstance(envelope.command, PlanKey):
            return self._forecast(received)
        known = self._results.get(envelope.command_id)
        others: tuple[tuple[ReplyAddress, Reply], ...] = ()
        if known is None:
            known, others = self._decide(received)
        elif known.payload_sha256 != received.payload_sha256:
            detail = f"command id {envelope.command_id} was used before with another payload"
            return Handled(None, InvalidRecordError("id_reuse", detail))
        else:
            self.told.append((envelope, "redelivered", ()))
        if known.reply.status in UNSENT:
            return Handled(None, others=others)
        reply = Reply(known.reply.status, known.reply.meta, known.body, received.queue_age_ms)
        return Handled(reply, others=others)

    def _forecast(self, received: ReceivedCommand) -> Handled:
        """Answer a question: it leaves nothing behind, and asked again it is simply answered again."""
        envelope = received.envelope
        if is_expired(envelope, self._desk.system_now):
            self.told.append((envelope, "expired", ()))
            return Handled(Reply(ReplyStatus.EXPIRED, b"", b"", received.queue_age_ms))
        decision, told = self._file(envelope).foresee(envelope, self._desk, self._beside(envelope))
        self.told.append((envelope, outcome_of(decision), ()))
        return Handled(Reply(told.status, told.meta, told.body, received.queue_age_ms))

    def effects_to_write(self) -> list[CommandEffect]:
        """Return the effects in order, the last of each license with its rows."""
        for key, command_id in self._last_of.items():
            last = command_id, key
            self.effects[last] = self._files[key].with_write(self.effects[last])
        return list(self.effects.values())

    def _decide(self, received: ReceivedCommand) -> tuple[StoredResult, tuple[tuple[ReplyAddress, Reply], ...]]:
        envelope = received.envelope
        if is_expired(envelope, self._desk.system_now):
            return self._expire(received), ()
        file = self._file(envelope)
        handling = file.handle(received, self._desk, self._beside(_waited_for(envelope, file)))
        result = self._record(received, file, handling)
        return result, (*handling.told, *self._let_line_go_on(file))

    def _let_line_go_on(self, file: CaseFile) -> tuple[tuple[ReplyAddress, Reply], ...]:
        """Handle the commands in line, in order, until one opens the next operation or none is left."""
        replies: list[tuple[ReplyAddress, Reply]] = []
        while (waiting := file.next_in_line()) is not None:
            envelope, payload_sha256 = decode_envelope(waiting.envelope)
            received = ReceivedCommand(envelope, payload_sha256, 0, waiting.address)
            if is_expired(envelope, self._desk.system_now):
                result = self._expire(received, left_line=True)
            else:
                handling = file.handle(received, self._desk, self._beside(envelope))
                result = self._record(received, file, handling, left_line=True)
                replies += handling.told
            if waiting.address is not None and result.reply.status not in UNSENT:
                replies.append((waiting.address, Reply(result.reply.status, result.reply.meta, result.body)))
        return tuple(replies)

    def _record(
        self, received: ReceivedCommand, file: CaseFile, handling: Handling, *, left_line: bool = False
    ) -> StoredResult:
        effect = replace(handling.effect, left_line=left_line and self._was_stored_in_line(received))
        body = file.body if effect.reply.status is ReplyStatus.LICENSE_BODY else effect.reply.body
        self._last_of[effect.license_id] = effect.command_id
        self.told.append((received.envelope, outcome_of(handling.decision), handling.decision.alerts))
        for key, events in handling.decision.elsewhere.items():
            self._keep_beside(self._files[key].take_beside(received, events, self._desk))
            self._note(key, self._files[key])
        if effect.license_id in self._relatives.keys or isinstance(received.envelope.command, KeyCommand):
            self._note(effect.license_id, file)
        if effect.named is not None:
            self._requests[effect.named.account, effect.named.name] = KnownRequest(
                body_sha256=effect.named.body_sha256,
                status=effect.named.reply.status,
                meta=effect.named.reply.meta,
                body=effect.named.reply.body,
            )
        return self._keep(effect, body)

    def _keep_beside(self, effect: CommandEffect) -> None:
        self.effects[effect.command_id, effect.license_id] = effect
        self._last_of[effect.license_id] = effect.command_id

    def _expire(self, received: ReceivedCommand, *, left_line: bool = False) -> StoredResult:
        envelope = received.envelope
        self.told.append((envelope, "expired", ()))
        effect = CommandEffect(
            command_id=envelope.command_id,
            license_id=envelope.license_id,
            payload_sha256=received.payload_sha256,
            reply=StoredReply(status=ReplyStatus.EXPIRED),
            handled_at=self._desk.system_now,
            left_line=left_line and self._was_stored_in_line(received),
        )
        return self._keep(effect, b"")

    def _was_stored_in_line(self, received: ReceivedCommand) -> bool:
        """Whether the command stands in the stored line; one that joined it in this very batch does not yet."""
        envelope = received.envelope
        return (envelope.command_id, envelope.license_id) not in self.effects

    def _keep(self, effect: CommandEffect, body: bytes) -> StoredResult:
        self.effects[effect.command_id, effect.license_id] = effect
        result = StoredResult(payload_sha256=effect.payload_sha256, reply=effect.reply, body=body)
        self._results[effect.command_id] = result
        return result

    def _file(self, envelope: Envelope) -> CaseFile:
        file = self._files.get(envelope.license_id)
        return file or self._open_file(envelope.command.account, envelope.command.number)

    def _open_file(self, account: str, number: str) -> CaseFile:
        found, key = self._found, license_id(account, number)
        file = self._files[key] = CaseFile.of(
            account,
            number,
            self._stored(key),
            found.histories.get(key, ()),
            found.loaded.open.get(key),
            found.lines.get(key, ()),
        )
        file.usage = found.usage.get(key)
        return file

    def _beside(self, envelope: Envelope) -> Beside:
        """Return what the case of a command looks at beside its own license."""
        command = envelope.command
        if not isinstance(command, KeyCommand | PlanKey):
            return Beside(parent=self._parent(envelope))
        named, owners = request_name(command), self._found.keys.owners
        asked = questions_of((command,)) or KeyQuestions()
        seen = {key: license for key in self._relatives.of(asked) if (license := self._seen(key)) is not None}
        return Beside(
            as_key=seen.pop(envelope.license_id, None),
            related=seen,
            owners=owners,
            known_request=None if named is None else self._requests.get((command.asked_by, named.key)),
        )

    def _seen(self, key: LicenseId) -> License | None:
        """Return a license as the Partner API sees it; one that was just bought elsewhere has no key id yet."""
        file, stored = self._files.get(key), self._stored(key)
        if file is None or file.license is None:
            return None
        if stored is None:
            return file.license
        return as_key(file.license, stored.key_id, stored.activation_code, self._found.keys.owners)

    def _note(self, key: LicenseId, file: CaseFile) -> None:
        """Remember to whom a key is related now."""
        seen = self._seen(key)
        if file.license is not None and seen is not None and seen.key is not None:
            self._relatives.note(key, seen.key)

    def _stored(self, key: LicenseId) -> StoredLicense | None:
        return self._found.loaded.licenses.get(key) or self._found.keys.licenses.get(key)

    def _parent(self, envelope: Envelope) -> License | None:
        """Return the license that a module belongs to, as this batch left it."""
        data = server_data_of(envelope.command, self._desk.rules.catalog)
        if data is None or data.parent_number is None:
            return None
        key = license_id(envelope.command.account, data.parent_number)
        if key in self._files:
            return self._files[key].license
        stored = self._found.loaded.licenses.get(key)
        return None if stored is None else stored.license


def _waited_for(envelope: Envelope, file: CaseFile) -> Envelope:
    """Return an outcome with the command that waits for it, which says what deciding it must know."""
    if isinstance(envelope.command, RecordProviderOutcome) and file.open is not None:
        return replace(envelope, command=file.open.command)
    return envelope


def commands_in(lines: Iterable[tuple[WaitingCommand, ...]]) -> Iterator[LicenseCommand]:
    """Yield the commands that stand in lines, which may go on in this batch."""
    return (decode_envelope(waiting.envelope)[0].command for line in lines for waiting in line)


def is_expired(envelope: Envelope, system_now: datetime) -> bool:
    """Whether a command was not begun by its deadline; a termination always runs, a key's too (isv-endpoint 8.3)."""
    return (
        envelope.deadline_at is not None
        and system_now >= envelope.deadline_at
        and not isinstance(envelope.command, TerminateLicense | TerminateKey)
    )
