"""The case file: one license while a batch is folded over it, and what each command leaves behind.

A batch may hold several commands of one license. They are decided one after the other on the state the earlier ones
left; only the last of them carries the license row to be written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from uuid import UUID

from shared.contracts.codec import encode_audit_entry, encode_envelope
from shared.contracts.commands import BodyDigest, LicenseCommand, TerminateLicense
from shared.contracts.envelope import Envelope, new_activation_code, new_id
from shared.contracts.identifiers import Fingerprint, LicenseId, license_id
from shared.contracts.key_commands import TerminateKey
from shared.contracts.replies import Reply, ReplyAddress, ReplyStatus
from shared.domain.case import Case, PastRevision
from shared.domain.decide import decide
from shared.domain.decision import (
    CurrentBody,
    Decision,
    KnownRequest,
    Noted,
    Pending,
    Waiting,
)
from shared.domain.effects import (
    NO_AUDIT,
    AuditEntry,
    CommandEffect,
    LicenseWrite,
    NewOrder,
    NewRevision,
    OpenWrite,
    OutboxEvent,
    RequestName,
    StoredLicense,
    StoredOpen,
    StoredReply,
    UsageReport,
    WaitingCommand,
    lone_root,
)
from shared.domain.events import LicenseEvent
from shared.domain.key_owners import OwnerBook
from shared.domain.license import License, evolve
from shared.domain.open_operation import OpenOperation
from shared.domain.provider_operation import Elid
from shared.domain.provisioning import Step, operation_of
from shared.domain.usage import UsageOnFile, UsageTold
from workers.license.activation_data import server_data_of
from workers.license.desk import Desk, body_of
from workers.license.request_names import name_of
from workers.license.stored_replies import stored_reply
from workers.license.telling import attention_event, cause_of, intake_outcome, outbox_events, story_of

REPLY_ADDRESSES_MAX = 8
"""So many askers of one operation under way are answered; the ninth replaces the first (isv-endpoint 9)."""


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """One readable command as it came off the topic."""

    envelope: Envelope
    payload_sha256: bytes
    queue_age_ms: int
    """How long it waited between publishing and now."""
    address: ReplyAddress | None = None
    """Who waits for the reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a case looks at beside its own license."""

    parent: License | None = None
    """The license that a module belongs to."""
    as_key: License | None = None
    """The license of a command of the Partner API, as that API sees it."""
    related: Mapping[LicenseId, License] = field(default_factory=dict)
    owners: OwnerBook = field(default_factory=OwnerBook)
    known_request: KnownRequest | None = None


NOTHING_BESIDE = Beside()


@dataclass(frozen=True, slots=True)
class Handling:
    """What deciding one command gave."""

    effect: CommandEffect
    decision: Decision
    told: tuple[tuple[ReplyAddress, Reply], ...]
    """Replies to others, who waited for the operation that ended with it."""


@dataclass(slots=True)
class CaseFile:
    """The state of one license in the middle of a batch."""

    account: str
    number: str
    license: License | None = None
    version_read: int = 0
    audit_sha256: bytes = NO_AUDIT
    published_sequence: int = 0
    activation_code: str = field(default_factory=new_activation_code)
    """Of a license that is new; that of a stored one is in its row."""
    body: bytes = b""
    operations: dict[Fingerprint, int] = field(default_factory=dict)
    history: list[PastRevision] = field(default_factory=list)
    open: OpenOperation | None = None
    open_version_read: int = 0
    addresses: list[ReplyAddress] = field(default_factory=list)
    """Who waits for the open operation."""
    in_line: int = 0
    """How many commands stand in line behind it."""
    line: list[WaitingCommand] = field(default_factory=list)
    """Those commands, where they may go on in this batch."""
    usage: UsageOnFile | None = None
    _open_touched: bool = False
    _termination_waits: bool = False
    """A termination stands in line; also after the operation ended, until its turn has come."""

    @classmethod
    def of(
        cls,
        account: str,
        number: str,
        stored: StoredLicense | None,
        history: tuple[PastRevision, ...],
        open_operation: StoredOpen | None,
        line: tuple[WaitingCommand, ...],
    ) -> "CaseFile":
        """Return the file of a license as it was read, or of a number that nobody knows."""
        file = cls(account=account, number=number, line=list(line))
        if open_operation is not None:
            file.open = open_operation.operation
            file.open_version_read = open_operation.version
            file.addresses = list(open_operation.addresses)
            file.in_line = open_operation.in_line
            file._termination_waits = open_operation.operation.termination_waits
        if stored is None:
            return file
        return replace(
            file,
            license=stored.license,
            version_read=stored.version,
            audit_sha256=stored.audit_sha256,
            published_sequence=stored.published_sequence,
            body=stored.body,
            operations=dict(stored.operations),
            history=list(history),
        )

    def handle(self, received: ReceivedCommand, desk: Desk, beside: Beside = NOTHING_BESIDE) -> Handling:
        """Decide one command, take its decision into this file, and return what it leaves behind."""
        envelope = received.envelope
        case = self._case(envelope.command, desk, beside)
        decision = decide(case, envelope.command, desk.rules, now=desk.business_now)
        outbox, revision = self._take(decision.events, desk)
        told = self._settled_replies(decision, desk)
        operation = self._remember(decision)
        reply = stored_reply(decision.answer, self.license, desk.business_now)
        effect = CommandEffect(
            command_id=envelope.command_id,
            license_id=envelope.license_id,
            payload_sha256=received.payload_sha256,
            reply=reply,
            handled_at=desk.system_now,
            revision=revision,
            operation=operation,
            forget_operations_after=decision.forget_operations_after,
            events=(*outbox, *intake_outcome(envelope, decision, desk.business_now)),
            audit=self._audit(envelope, decision, revision, desk),
            orders=self._orders(envelope, decision),
            waiting=self._line_up(received, decision),
            settled_order=decision.settled_order,
            canceled_order=self._canceled(envelope.command, decision),
            attention=self._attention(decision, desk),
            usage=_usage_report(decision, desk),
            named=self._settled_name(case, decision, desk) or name_of(envelope.command, decision.answer, reply),
        )
        self._join(received, decision)
        self._mind_termination(envelope.command)
        return Handling(effect, decision, told)

    def foresee(self, envelope: Envelope, desk: Desk, beside: Beside) -> tuple[Decision, StoredReply]:
        """Decide a question about this license and return its answer; this file stays as it is."""
        decision = decide(
            self._case(envelope.command, desk, beside), envelope.command, desk.rules, now=desk.business_now
        )
        return decision, stored_reply(decision.answer, self.license, desk.business_now)

    def take_beside(self, received: ReceivedCommand, events: tuple[LicenseEvent, ...], desk: Desk) -> CommandEffect:
        """Take in what the command of another license does to this one, and return what that leaves behind.

        Without events the license is only written again as it was, so that nobody else changed it meanwhile.
        """
        outbox, revision = self._take(events, desk)
        decision = Decision(answer=Noted(), events=events)
        return CommandEffect(
            command_id=received.envelope.command_id,
            license_id=license_id(self.account, self.number),
            payload_sha256=received.payload_sha256,
            reply=StoredReply(status=ReplyStatus.NOTED),
            handled_at=desk.system_now,
            events=tuple(outbox),
            audit=self._audit(received.envelope, decision, revision, desk) if events else None,
            is_beside=True,
        )

    def _take(self, events: tuple[LicenseEvent, ...], desk: Desk) -> tuple[list[OutboxEvent], NewRevision | None]:
        """Fold events into the license; return what the world is told and the last body issued."""
        outbox: list[OutboxEvent] = []
        revision: NewRevision | None = None
        for event in events:
            self.license = evolve(self.license, event)
            outbox += outbox_events(event, self.license)
            revision = self._issue(event, self.license, desk) or revision
        return outbox, revision

    def with_write(self, effect: CommandEffect) -> CommandEffect:
        """Return the last effect of this license in the batch, with the rows to be written."""
        if self._open_touched:
            opened = OpenWrite(
                operation=self.open,
                addresses=tuple(self.addresses),
                in_line=self.in_line,
                version_before=self.open_version_read,
            )
            effect = replace(effect, open=opened)
        if self.license is None:
            return effect
        return replace(
            effect,
            write=LicenseWrite(
                license=self.license,
                version_before=self.version_read,
                activation_code=self.activation_code if self.version_read == 0 else None,
                key_id=self.license.key.key_id if self.version_read == 0 and self.license.key is not None else None,
                audit_sha256=self.audit_sha256,
                published_sequence=self.published_sequence,
            ),
        )

    def _case(self, command: LicenseCommand, desk: Desk, beside: Beside) -> Case:
        return Case(
            license=beside.as_key or self.license,
            operations=self.operations,
            history=tuple(self.history),
            open=self.open,
            in_line=self.in_line,
            termination_waits=self._termination_waits,
            server_data=server_data_of(command, desk.rules.catalog),
            parent=beside.parent,
            usage=self.usage,
            related=beside.related,
            owners=beside.owners,
            activation_code=self.activation_code,
            known_request=beside.known_request,
        )

    def _orders(self, envelope: Envelope, decision: Decision) -> tuple[NewOrder, ...]:
        """Give ids to the orders that were decided, and take the open operation into this file."""
        opened = decision.open
        orders = []
        if opened is not None and decision.order is not None:
            ordered = opened.service.elid if opened.service is not None else None
            order = self._order(decision.order, ordered)
            orders.append(order)
            opened = replace(opened, command_id=opened.command_id or envelope.command_id, order_id=order.order_id)
        orders += [self._order(step, None) for step in decision.releases]
        if opened != self.open:
            self.open, self._open_touched = opened, True
        return tuple(orders)

    def _order(self, step: Step, ordered: Elid | None) -> NewOrder:
        return NewOrder(
            order_id=new_id(),
            account=self.account,
            number=self.number,
            step=step,
            operation=operation_of(step, ordered),
        )

    def _settled_replies(self, decision: Decision, desk: Desk) -> tuple[tuple[ReplyAddress, Reply], ...]:
        """Return the replies to those who waited for the operation that this decision ends."""
        if decision.settled_answer is None:
            return ()
        stored = stored_reply(decision.settled_answer, self.license, desk.business_now)
        body = self.body if stored.status is ReplyStatus.LICENSE_BODY else stored.body
        told = tuple((address, Reply(stored.status, stored.meta, body)) for address in self.addresses)
        self.addresses.clear()
        return told

    def _settled_name(self, case: Case, decision: Decision, desk: Desk) -> RequestName | None:
        """Return the name of the request whose operation this decision ends; None when it was used meanwhile."""
        if case.open is None or decision.settled_answer is None or case.known_request is not None:
            return None
        reply = stored_reply(decision.settled_answer, self.license, desk.business_now)
        return name_of(case.open.command, decision.settled_answer, reply)

    def _join(self, received: ReceivedCommand, decision: Decision) -> None:
        """Let the asker of a pending operation wait for its outcome; the oldest gives way to the newest."""
        if isinstance(decision.answer, Pending) and received.address is not None:
            self.addresses = [*self.addresses, received.address][-REPLY_ADDRESSES_MAX:]
            self._open_touched = True

    def _line_up(self, received: ReceivedCommand, decision: Decision) -> WaitingCommand | None:
        if not isinstance(decision.answer, Waiting):
            return None
        waiting = WaitingCommand(
            command_id=received.envelope.command_id,
            envelope=encode_envelope(received.envelope),
            address=received.address,
        )
        # The version of the open operation moves with its line: nobody can join a line that was just dissolved.
        self.in_line += 1
        self._open_touched = True
        self.line.append(waiting)
        return waiting

    def next_in_line(self) -> WaitingCommand | None:
        """Take the next command out of the line once no operation is open any more."""
        if self.open is not None or not self.line:
            return None
        self.in_line -= 1
        return self.line.pop(0)

    def _canceled(self, command: LicenseCommand, decision: Decision) -> UUID | None:
        """Return the order that nobody wants any more since `command` stands in line to end the license."""
        is_waiting_end = isinstance(command, TerminateLicense | TerminateKey) and isinstance(decision.answer, Waiting)
        is_to_end = self.open is not None and self.open.termination_waits
        return self.open.order_id if is_waiting_end and is_to_end and self.open is not None else None

    def _mind_termination(self, command: LicenseCommand) -> None:
        """Remember a termination in line, and forget it once one had its turn."""
        if self.open is not None:
            self._termination_waits = self.open.termination_waits
        elif isinstance(command, TerminateLicense | TerminateKey):
            self._termination_waits = False

    def _attention(self, decision: Decision, desk: Desk) -> tuple[OutboxEvent, ...]:
        return tuple(
            attention_event(self.account, self.number, attention, decision.settled_order, desk.business_now)
            for attention in decision.attention
        )

    def _issue(self, event: LicenseEvent, license: License, desk: Desk) -> NewRevision | None:
        cause = cause_of(event)
        if cause is None or license.expires_on is None:
            return None
        self.body = body_of(license, desk)
        digest = sha256(self.body)
        self.history.append(
            PastRevision(
                revision=license.revision,
                product=license.product,
                cause=cause,
                body=BodyDigest(sha256=digest.hexdigest(), length_bytes=len(self.body)),
            )
        )
        return NewRevision(
            revision=license.revision,
            cause=cause,
            product=license.product,
            expires_on=license.expires_on,
            body=self.body,
            body_sha256=digest.digest(),
        )

    def _remember(self, decision: Decision) -> tuple[Fingerprint, int] | None:
        kept_revision = decision.forget_operations_after
        if kept_revision is not None:
            self.operations = {known: left for known, left in self.operations.items() if left <= kept_revision}
        answer = decision.settled_answer or decision.answer
        if self.license is None or not isinstance(answer, CurrentBody) or answer.fingerprint in self.operations:
            return None
        self.operations[answer.fingerprint] = self.license.revision
        return answer.fingerprint, self.license.revision

    def _audit(self, envelope: Envelope, decision: Decision, revision: NewRevision | None, desk: Desk) -> AuditEntry:
        """Return the next link of the chain, or a lone one for a number that is no license."""
        entry = encode_audit_entry(story_of(envelope, decision, self.license, revision, desk))
        previous = lone_root(entry) if self.license is None else self.audit_sha256
        link = AuditEntry(entry=entry, previous_sha256=previous, entry_sha256=sha256(previous + entry).digest())
        if self.license is not None:
            self.audit_sha256 = link.entry_sha256
        return link


def _usage_report(decision: Decision, desk: Desk) -> UsageReport | None:
    answer = decision.answer
    return UsageReport(reported_at=desk.business_now, told=answer) if isinstance(answer, UsageTold) else None
