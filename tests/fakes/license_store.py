"""The license store in memory: the same promises as PostgreSQL's, kept by the same conformance suite."""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from typing import TypeVar
from uuid import UUID

from shared.contracts.commands import BodyDigest
from shared.contracts.identifiers import CommandId, Fingerprint, LicenseId
from shared.contracts.replies import ReplyStatus
from shared.domain.case import PastRevision
from shared.domain.decision import KnownRequest
from shared.domain.effects import (
    AuditEntry,
    CommandEffect,
    KeyAnswers,
    KeyQuestions,
    LicenseWrite,
    Loaded,
    NewOrder,
    NewRevision,
    OpenWrite,
    OutboxEvent,
    StoredLicense,
    StoredOpen,
    StoredResult,
    WaitingCommand,
)
from shared.domain.key_owners import OwnerBook
from shared.domain.license import License, LicenseStatus
from shared.domain.usage import UsageOnFile
from shared.errors import ConflictError, StoreRefusedError

KEY_IDS_FROM = 10_000_001
Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLicense:
    """A license row."""

    license: License
    version: int
    activation_code: str | None
    key_id: int
    audit_sha256: bytes


@dataclass(slots=True)
class Tables:
    """Everything stored; copied before a batch and put in place after it."""

    effects: dict[CommandId, CommandEffect] = field(default_factory=dict)
    licenses: dict[LicenseId, KeptLicense] = field(default_factory=dict)
    revisions: dict[tuple[LicenseId, int], NewRevision] = field(default_factory=dict)
    operations: dict[tuple[LicenseId, Fingerprint], int] = field(default_factory=dict)
    unnumbered: list[OutboxEvent] = field(default_factory=list)
    """Answers to public requests, which have no sequence."""
    events: dict[tuple[LicenseId, int], OutboxEvent] = field(default_factory=dict)
    audit: dict[tuple[LicenseId, bytes], AuditEntry] = field(default_factory=dict)
    open: dict[LicenseId, StoredOpen] = field(default_factory=dict)
    lines: dict[CommandId, CommandEffect] = field(default_factory=dict)
    """Effects of commands in line, oldest first."""
    orders: dict[UUID, NewOrder] = field(default_factory=dict)
    settled_orders: set[UUID] = field(default_factory=set)
    canceled_orders: set[UUID] = field(default_factory=set)
    attention: list[OutboxEvent] = field(default_factory=list)
    usage: dict[LicenseId, UsageOnFile] = field(default_factory=dict)
    """What the usage role has stored."""
    usage_watermark: tuple[int, ...] = ()
    requests: dict[tuple[str, str], KnownRequest] = field(default_factory=dict)

    def copied(self) -> "Tables":
        """Return tables that can be changed apart from these."""
        return Tables(*(copy(getattr(self, each.name)) for each in fields(self)))


class InMemoryLicenseStore:
    """Licenses in dictionaries. `tables` may be read by tests."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.owners = OwnerBook()

    async def load(
        self,
        command_ids: Collection[CommandId],
        license_ids: Collection[LicenseId],
        fingerprints: Collection[Fingerprint],
    ) -> Loaded:
        """Return the known results, licenses and operations of a batch."""
        tables = self.tables
        return Loaded(
            results={
                known: self._result(effect)
                for known in command_ids
                if (effect := tables.effects.get(known) or tables.lines.get(known)) is not None
            },
            open={license_id: tables.open[license_id] for license_id in license_ids if license_id in tables.open},
            licenses={
                license_id: self._license(license_id, tables.licenses[license_id], fingerprints)
                for license_id in license_ids
                if license_id in tables.licenses
            },
        )

    async def load_history(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, tuple[PastRevision, ...]]:
        """Return all revisions of the licenses, rising; a license without any is left out."""
        history: dict[LicenseId, tuple[PastRevision, ...]] = {}
        for (license_id, _), issued in sorted(self.tables.revisions.items()):
            if license_id in license_ids:
                past = PastRevision(
                    revision=issued.revision,
                    product=issued.product,
                    cause=issued.cause,
                    body=BodyDigest(sha256=issued.body_sha256.hex(), length_bytes=len(issued.body)),
                )
                history[license_id] = (*history.get(license_id, ()), past)
        return history

    async def load_line(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, tuple[WaitingCommand, ...]]:
        """Return the commands in line, in order."""
        line: dict[LicenseId, tuple[WaitingCommand, ...]] = {}
        for effect in self.tables.lines.values():
            if effect.license_id in license_ids and effect.waiting is not None:
                line[effect.license_id] = (*line.get(effect.license_id, ()), effect.waiting)
        return line

    async def load_usage(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, UsageOnFile]:
        """Return what is stored about the usage of every one of the licenses."""
        nothing = UsageOnFile(watermark=self.tables.usage_watermark)
        return {license_id: self.tables.usage.get(license_id, nothing) for license_id in license_ids}

    async def load_keys(self, questions: KeyQuestions) -> KeyAnswers:
        """Return every license and `owners`; what the questions leave out does not matter to a case."""
        return KeyAnswers(
            licenses={
                license_id: self._license(license_id, kept, ()) for license_id, kept in self.tables.licenses.items()
            },
            owners=self.owners,
            requests={name: self.tables.requests[name] for name in questions.names if name in self.tables.requests},
        )

    async def store(self, effects: Sequence[CommandEffect]) -> None:
        """Write all effects, or none."""
        for effect in effects:
            _refuse_unfit_values(effect)
        after = self.tables.copied()
        for effect in effects:
            _apply(effect, after)
        self.tables = after

    def _result(self, effect: CommandEffect) -> StoredResult:
        reply = effect.reply
        body = reply.body
        if reply.status is ReplyStatus.LICENSE_BODY and reply.revision is not None:
            body = self.tables.revisions[effect.license_id, reply.revision].body
        return StoredResult(payload_sha256=effect.payload_sha256, reply=reply, body=body)

    def _license(self, license_id: LicenseId, kept: KeptLicense, asked: Collection[Fingerprint]) -> StoredLicense:
        issued = self.tables.revisions.get((license_id, kept.license.revision))
        return StoredLicense(
            license=kept.license,
            version=kept.version,
            audit_sha256=kept.audit_sha256,
            body=b"" if issued is None else issued.body,
            operations={
                fingerprint: revision
                for (owner, fingerprint), revision in self.tables.operations.items()
                if owner == license_id and fingerprint in asked
            },
            key_id=kept.key_id,
            activation_code=kept.activation_code,
        )


def _refuse_unfit_values(effect: CommandEffect) -> None:
    if effect.write is None:
        return
    license = effect.write.license
    for text in (license.product, license.activation_data, license.reg_name):
        if text is not None and ("\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)):
            raise StoreRefusedError("a text holds what no database can")
    if license.revision > 0 and effect.write.version_before == 0 and effect.write.activation_code is None:
        raise StoreRefusedError("issued_has_activation_code")


def _apply(effect: CommandEffect, tables: Tables) -> None:
    license_id = effect.license_id
    _apply_provider_parts(effect, tables)
    if effect.named is not None:
        known = KnownRequest(
            body_sha256=effect.named.body_sha256,
            status=effect.named.reply.status,
            meta=effect.named.reply.meta,
            body=effect.named.reply.body,
        )
        _insert(tables.requests, (effect.named.account, effect.named.name), known)
    if effect.waiting is None and not effect.is_beside:
        _insert(tables.effects, effect.command_id, effect)
    if effect.write is not None:
        _write(license_id, effect.write, tables)
    if effect.revision is not None:
        _insert(tables.revisions, (license_id, effect.revision.revision), effect.revision)
    if effect.forget_operations_after is not None:
        tables.operations = {
            (owner, fingerprint): revision
            for (owner, fingerprint), revision in tables.operations.items()
            if owner != license_id or revision <= effect.forget_operations_after
        }
    if effect.operation is not None:
        fingerprint, revision = effect.operation
        _insert(tables.operations, (license_id, fingerprint), revision)
    for event in effect.events:
        if event.sequence is None:
            tables.unnumbered.append(event)
        else:
            _insert(tables.events, (license_id, event.sequence), event)
    if effect.audit is not None:
        _insert(tables.audit, (license_id, effect.audit.previous_sha256), effect.audit)


def _apply_provider_parts(effect: CommandEffect, tables: Tables) -> None:
    if effect.left_line and tables.lines.pop(effect.command_id, None) is None:
        raise ConflictError("a command left the line meanwhile")
    if effect.waiting is not None:
        _insert(tables.lines, effect.command_id, effect)
    for order in effect.orders:
        _insert(tables.orders, order.order_id, order)
    if effect.settled_order is not None:
        tables.settled_orders.add(effect.settled_order)
    if effect.canceled_order is not None:
        tables.canceled_orders.add(effect.canceled_order)
    tables.attention.extend(effect.attention)
    if effect.open is not None:
        _open(effect.license_id, effect.open, tables)


def _open(license_id: LicenseId, write: OpenWrite, tables: Tables) -> None:
    kept = tables.open.get(license_id)
    if write.version_before != (0 if kept is None else kept.version):
        raise ConflictError("an open operation moved on since it was read")
    tables.open.pop(license_id, None)
    if write.operation is not None:
        tables.open[license_id] = StoredOpen(
            operation=write.operation,
            addresses=write.addresses,
            in_line=write.in_line,
            version=write.version_before + 1,
        )


def _write(license_id: LicenseId, write: LicenseWrite, tables: Tables) -> None:
    kept = tables.licenses.get(license_id)
    if write.version_before != (0 if kept is None else kept.version):
        raise ConflictError("a license moved on since it was read")
    _refuse_doubles(license_id, write.license, tables)
    activation_code = write.activation_code
    if kept is not None:
        activation_code = kept.activation_code
        _refuse_going_back(kept.license, write.license)
    elif activation_code in {other.activation_code for other in tables.licenses.values()} - {None}:
        raise ConflictError("activation_code_names_one_license")
    tables.licenses[license_id] = KeptLicense(
        license=write.license,
        version=write.version_before + 1,
        activation_code=activation_code,
        key_id=kept.key_id if kept is not None else write.key_id or KEY_IDS_FROM + len(tables.licenses),
        audit_sha256=write.audit_sha256,
    )


def _refuse_doubles(license_id: LicenseId, license: License, tables: Tables) -> None:
    """Refuse an address or a UID that another live key of the family has."""
    if license.key is None or license.status is LicenseStatus.TERMINATED:
        return
    for other_id, kept in tables.licenses.items():
        key, status = kept.license.key, kept.license.status
        if other_id == license_id or key is None or status is LicenseStatus.TERMINATED:
            continue
        is_family = key.family == license.key.family
        for mine, other in ((license.key.address, key.address), (license.key.uid, key.uid)):
            if is_family and mine is not None and mine == other:
                raise ConflictError("key_address_is_bound_once or key_uid_is_used_once")


def _refuse_going_back(before: License, after: License) -> None:
    revived = before.status is LicenseStatus.TERMINATED and (
        after.status is not LicenseStatus.TERMINATED or after.revision != before.revision
    )
    falls = before.expires_on is not None and (after.expires_on is None or after.expires_on < before.expires_on)
    if revived or falls:
        raise StoreRefusedError("license_only_moves_forward")


def _insert(table: dict[Key, Value], key: Key, value: Value) -> None:
    if key in table:
        raise ConflictError("a row with this key exists")
    table[key] = value
