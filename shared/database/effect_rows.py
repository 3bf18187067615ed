"""What one command leaves behind as a row of the write: its members in the order of the type `command_effect`."""

from collections.abc import Sequence
from operator import attrgetter

from shared.contracts.envelope import day_of
from shared.contracts.identifiers import LicenseId
from shared.database.key_rows import encode_details
from shared.database.provider_writes import encode_service
from shared.domain.effects import AuditEntry, CommandEffect, LicenseWrite, NewRevision

Member = object
Row = tuple[Member, ...]

NO_WRITE: Row = (None,) * 20
NO_REVISION: Row = (None,) * 6
NO_OPERATION: Row = (None, None)
NO_AUDIT_ENTRY: Row = (None, None, None)


def effect_rows(effects: Sequence[CommandEffect]) -> list[Row]:
    """Return one `command_effect` per effect, members in the order of the type.

    Sorted by license, so that two workers lock in the same order; within a license the order stays.
    """
    ordered = sorted(effects, key=attrgetter("license_id"))
    forgotten = _forgotten_within(ordered)
    return [_row(effect, is_forgotten=position in forgotten) for position, effect in enumerate(ordered)]


def _forgotten_within(ordered: Sequence[CommandEffect]) -> frozenset[int]:
    """Return the positions whose operation a later effect of the same batch forgets.

    The statement deletes what was stored before and only then inserts, so these must not be inserted at all.
    """
    if all(effect.forget_operations_after is None for effect in ordered):
        return frozenset()
    kept_up_to: dict[LicenseId, int] = {}
    forgotten = set()
    for position in reversed(range(len(ordered))):
        effect = ordered[position]
        limit = kept_up_to.get(effect.license_id)
        if limit is not None and effect.operation is not None and effect.operation[1] > limit:
            forgotten.add(position)
        if effect.forget_operations_after is not None:
            own = effect.forget_operations_after
            kept_up_to[effect.license_id] = own if limit is None else min(own, limit)
    return frozenset(forgotten)


def _row(effect: CommandEffect, *, is_forgotten: bool) -> Row:
    reply = effect.reply
    return (
        effect.command_id,
        day_of(effect.command_id),
        effect.license_id,
        effect.payload_sha256,
        None if effect.is_beside else reply.status.value,
        reply.meta,
        reply.body,
        reply.revision,
        effect.handled_at,
        *(NO_WRITE if effect.write is None else _license_members(effect.write)),
        *(NO_REVISION if effect.revision is None else _revision_members(effect.revision)),
        *(NO_OPERATION if effect.operation is None or is_forgotten else effect.operation),
        effect.forget_operations_after,
        [(event.event_id, event.type, event.sequence, event.value) for event in effect.events],
        *(NO_AUDIT_ENTRY if effect.audit is None else _audit_members(effect.audit)),
        *((None,) * 3 if effect.write is None else _key_members(effect.write)),
    )


def _license_members(write: LicenseWrite) -> Row:
    license = write.license
    return (
        write.version_before,
        license.account,
        license.number,
        write.activation_code,
        license.product,
        license.model.value,
        license.status.value,
        license.suspended,
        license.test,
        license.subscription_on,
        license.start_on,
        license.purchase_on,
        license.expires_on,
        license.terminated_at,
        license.activation_data,
        license.reg_name,
        license.revision,
        license.key_version,
        license.sequence,
        write.audit_sha256,
    )


def _key_members(write: LicenseWrite) -> Row:
    return (encode_service(write.license.service), write.key_id, encode_details(write.license.key))


def _revision_members(revision: NewRevision) -> Row:
    return (
        revision.revision,
        revision.cause.value,
        revision.product,
        revision.expires_on,
        revision.body,
        revision.body_sha256,
    )


def _audit_members(audit: AuditEntry) -> Row:
    return (audit.entry, audit.previous_sha256, audit.entry_sha256)
