"""The case file: one license while a batch is folded over it, and what each command leaves behind.

A batch may hold several commands of one license. They are decided one after the other on the state the earlier ones
left; only the last of them carries the license row to be written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256

from shared.contracts.codec import encode_audit_entry, encode_details, encode_event
from shared.contracts.commands import BodyDigest, LicenseCommand
from shared.contracts.envelope import Envelope, new_activation_code, new_id
from shared.contracts.identifiers import Fingerprint
from shared.contracts.outcomes import TerminationOutcome
from shared.contracts.replies import ReplyStatus
from shared.domain.body import claims_of
from shared.domain.case import Case, PastRevision, RevisionCause, Rules
from shared.domain.decide import decide
from shared.domain.decision import CurrentBody, Decision, Rejected, Termination
from shared.domain.effects import (
    NO_AUDIT,
    AuditEntry,
    CommandEffect,
    LicenseWrite,
    NewRevision,
    OutboxEvent,
    StoredLicense,
    StoredReply,
)
from shared.domain.events import LicenseEvent, LicenseIssued, LicenseRenewed, LicenseUpgraded
from shared.domain.license import License, evolve
from shared.domain.publication import event_type, public_event
from workers.license.ports import BodySigner

TERMINATION_REPLIES: Mapping[TerminationOutcome, ReplyStatus] = {
    TerminationOutcome.TERMINATED: ReplyStatus.TERMINATED,
    TerminationOutcome.ALREADY_TERMINATED: ReplyStatus.ALREADY_TERMINATED,
    TerminationOutcome.TOMBSTONE_RECORDED: ReplyStatus.TOMBSTONE_RECORDED,
}


ASKED_MEMBERS = (
    "type",
    "product",
    "model",
    "test",
    "expires_on",
    "start_on",
    "subscription_on",
    "purchase_on",
    "terminated_on",
    "previous_body",
    "unknown_fields",
)
"""Members of commands that the audit tells; activation data and the registrant's name stay out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every case of a batch is decided with."""

    rules: Rules
    signer: BodySigner
    issuer: str
    business_now: datetime
    system_now: datetime


@dataclass(slots=True)
class CaseFile:
    """The state of one license in the middle of a batch."""

    license: License | None = None
    version_read: int = 0
    audit_sha256: bytes = NO_AUDIT
    body: bytes = b""
    operations: dict[Fingerprint, int] = field(default_factory=dict)
    history: list[PastRevision] = field(default_factory=list)

    @classmethod
    def of(cls, stored: StoredLicense | None, history: tuple[PastRevision, ...]) -> "CaseFile":
        """Return the file of a license as it was read, or of a number that nobody knows."""
        if stored is None:
            return cls()
        return cls(
            license=stored.license,
            version_read=stored.version,
            audit_sha256=stored.audit_sha256,
            body=stored.body,
            operations=dict(stored.operations),
            history=list(history),
        )

    def handle(self, envelope: Envelope, payload_sha256: bytes, desk: Desk) -> tuple[CommandEffect, Decision]:
        """Decide one command, take its events into this file, and return what it leaves behind."""
        decision = decide(self._case(), envelope.command, desk.rules, now=desk.business_now)
        outbox: list[OutboxEvent] = []
        revision: NewRevision | None = None
        for event in decision.events:
            self.license = evolve(self.license, event)
            outbox.append(_outbox_event(event, self.license))
            revision = self._issue(event, self.license, desk) or revision
        operation = self._remember(decision)
        reply = self._reply(decision)
        effect = CommandEffect(
            command_id=envelope.command_id,
            license_id=envelope.license_id,
            payload_sha256=payload_sha256,
            reply=reply,
            handled_at=desk.system_now,
            revision=revision,
            operation=operation,
            forget_operations_after=decision.forget_operations_after,
            events=tuple(outbox),
            audit=self._audit(envelope, decision, revision, desk),
        )
        return effect, decision

    def with_write(self, effect: CommandEffect) -> CommandEffect:
        """Return the last effect of this license in the batch, with the row to be written."""
        if self.license is None:
            return effect
        return replace(
            effect,
            write=LicenseWrite(
                license=self.license,
                version_before=self.version_read,
                activation_code=new_activation_code() if self.version_read == 0 else None,
                audit_sha256=self.audit_sha256,
            ),
        )

    def _case(self) -> Case:
        return Case(license=self.license, operations=self.operations, history=tuple(self.history))

    def _issue(self, event: LicenseEvent, license: License, desk: Desk) -> NewRevision | None:
        cause = _cause(event)
        if cause is None or license.expires_on is None:
            return None
        self.body = desk.signer.sign(claims_of(license, desk.rules.catalog, issuer=desk.issuer))
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
        if self.license is None or not isinstance(decision.answer, CurrentBody):
            return None
        fingerprint = decision.answer.fingerprint
        if fingerprint in self.operations:
            return None
        self.operations[fingerprint] = self.license.revision
        return fingerprint, self.license.revision

    def _reply(self, decision: Decision) -> StoredReply:
        match decision.answer:
            case CurrentBody():
                return self._body_reply()
            case Termination(outcome):
                return StoredReply(status=TERMINATION_REPLIES[outcome])
            case Rejected(code, details):
                return StoredReply(
                    status=ReplyStatus.REJECTED, meta=code.value.encode("ascii"), body=encode_details(details)
                )

    def _body_reply(self) -> StoredReply:
        assert self.license is not None  # noqa: S101 - CurrentBody is only answered for a license
        assert self.license.expires_on is not None  # noqa: S101 - and never for a tombstone
        return StoredReply(
            status=ReplyStatus.LICENSE_BODY,
            meta=self.license.expires_on.isoformat().encode("ascii"),
            revision=self.license.revision,
        )

    def _audit(
        self, envelope: Envelope, decision: Decision, revision: NewRevision | None, desk: Desk
    ) -> AuditEntry | None:
        """Return the next link of the chain; a number that is no license has none."""
        if self.license is None:
            return None
        entry = encode_audit_entry(_story(envelope, decision, self.license, revision, desk))
        previous = self.audit_sha256
        self.audit_sha256 = sha256(previous + entry).digest()
        return AuditEntry(entry=entry, previous_sha256=previous, entry_sha256=self.audit_sha256)


def _story(
    envelope: Envelope, decision: Decision, license: License, revision: NewRevision | None, desk: Desk
) -> dict[str, object]:
    """Return what the audit tells of one command: who asked what and what became of it, and nothing secret."""
    command = envelope.command
    return {
        "command_id": envelope.command_id,
        "correlation_id": envelope.correlation_id,
        "causation_id": envelope.causation_id,
        "account": command.account,
        "asked": _asked(command),
        "handled_at": desk.system_now,
        "business_time": desk.business_now,
        "outcome": outcome_of(decision),
        "status": license.shown_status,
        "product": license.product,
        "expires_on": license.expires_on,
        "revision": license.revision,
        "body_sha256": None if revision is None else revision.body_sha256.hex(),
        "events": [event_type(event) for event in decision.events],
        "alerts": [alert.text for alert in decision.alerts],
    }


def _asked(command: LicenseCommand) -> dict[str, object]:
    """Return the members of a command that are no secret: names of the operation, product, dates and flags."""
    told = {name: getattr(command, name, None) for name in ASKED_MEMBERS}
    return {name: value for name, value in told.items() if value not in (None, ())}


def outcome_of(decision: Decision) -> str:
    """Return one word for logs, metrics and audit: what became of a command."""
    match decision.answer:
        case CurrentBody():
            return "done" if decision.events else "repeated"
        case Termination(outcome):
            return outcome.value
        case Rejected(code, _):
            return code.value


def _cause(event: LicenseEvent) -> RevisionCause | None:
    match event:
        case LicenseIssued():
            return RevisionCause.ISSUED
        case LicenseRenewed():
            return RevisionCause.RENEWED
        case LicenseUpgraded():
            return RevisionCause.UPGRADED
        case _:
            return None


def _outbox_event(event: LicenseEvent, after: License) -> OutboxEvent:
    public = public_event(event, after, new_id())
    return OutboxEvent(event_id=public.event_id, type=public.type, sequence=public.sequence, value=encode_event(public))
