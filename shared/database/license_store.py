"""The truth about licenses in PostgreSQL: one statement reads what a batch must know, one writes what it leaves.

Nothing is tried again here. `ConflictError` and `UnavailableError` are settled by whoever reads again: the write is one
transaction, and after a lost connection a stored command id tells that it was committed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import asyncpg

from shared.contracts.commands import BodyDigest, LicensingModel
from shared.contracts.envelope import day_of
from shared.contracts.identifiers import CommandId, Fingerprint, LicenseId
from shared.contracts.replies import ReplyStatus
from shared.contracts.topics import LICENSE_EVENTS
from shared.database.effect_rows import effect_rows
from shared.database.key_rows import decode_details, read_answers, remember_names
from shared.database.lane import Lane
from shared.database.license_statements import HISTORY, READ, WRITE
from shared.database.pool import COMMAND_SECONDS, CONNECT_SECONDS, OwnConnection
from shared.database.provider_writes import (
    decode_service,
    read_line,
    result_in_line,
    stored_open,
    write_provider_parts,
)
from shared.database.usage_reports import read_usage, write_usage_reports
from shared.domain.case import PastRevision, RevisionCause
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
from shared.domain.license import License, LicenseStatus
from shared.domain.usage import UsageOnFile


class PostgresLicenseStore:
    """The license store on a connection of its own: one per worker process."""

    def __init__(
        self, database_url: str, *, connect_seconds: float = CONNECT_SECONDS, command_seconds: float = COMMAND_SECONDS
    ) -> None:
        self._lane = Lane(database_url, connect_seconds=connect_seconds, command_seconds=command_seconds)

    async def load(
        self,
        command_ids: Collection[CommandId],
        license_ids: Collection[LicenseId],
        fingerprints: Collection[Fingerprint],
    ) -> Loaded:
        """Return the known results, licenses and operations of a batch, in one round trip."""
        if not command_ids and not license_ids:
            return Loaded()
        days = sorted(day_of(command_id) for command_id in command_ids)
        arguments = (
            list(command_ids),
            days[0] if days else None,
            days[-1] if days else None,
            list(license_ids),
            list(fingerprints),
        )
        return _loaded(await self._lane.run("load", lambda connection: connection.fetch(READ, *arguments)))

    async def load_history(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, tuple[PastRevision, ...]]:
        """Return all revisions of the licenses, rising; a license without any is left out."""
        asked = list(license_ids)
        rows = await self._lane.run("load_history", lambda connection: connection.fetch(HISTORY, asked))
        history: dict[LicenseId, list[PastRevision]] = {}
        for row in rows:
            history.setdefault(LicenseId(row["license_id"]), []).append(_past_revision(row))
        return {license_id: tuple(past) for license_id, past in history.items()}

    async def load_line(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, tuple[WaitingCommand, ...]]:
        """Return the commands that stand in line behind the open operations of the licenses, in order."""
        asked = list(license_ids)
        return await self._lane.run("load_line", lambda connection: read_line(connection, asked))

    async def load_usage(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, UsageOnFile]:
        """Return what is stored about the usage of every one of the licenses, all as of one moment."""
        asked = list(license_ids)
        return await self._lane.run("load_usage", lambda connection: read_usage(connection, asked))

    async def load_keys(self, questions: KeyQuestions) -> KeyAnswers:
        """Return what commands of the Partner API must know beside their own license."""
        return await self._lane.run("load_keys", lambda connection: read_answers(connection, questions, _stored_key))

    async def store(self, effects: Sequence[CommandEffect]) -> None:
        """Write all effects in one transaction.

        Raises `ConflictError` when a license or a command id is no longer as it was read, and `StoreRefusedError`
        when a value cannot be stored at all; then nothing was stored. After `UnavailableError` that is not known.
        """
        if not effects:
            return
        rows = effect_rows(effects)
        if not any(
            effect.concerns_provider or effect.usage is not None or effect.named is not None for effect in effects
        ):
            await self._lane.run("store", lambda connection: connection.fetchval(WRITE, rows, LICENSE_EVENTS))
            return

        async def write_all(connection: OwnConnection) -> None:
            async with connection.transaction():
                await connection.fetchval(WRITE, rows, LICENSE_EVENTS)
                await write_provider_parts(connection, effects, LICENSE_EVENTS)
                await write_usage_reports(connection, effects)
                await remember_names(connection, effects)

        await self._lane.run("store", write_all)

    async def ping(self) -> None:
        """Ask for a sign of life, in turn with the batches. Raises `UnavailableError`."""
        await self._lane.run("ping", lambda connection: connection.execute("SELECT 1"))

    async def close(self) -> None:
        """Give the connection back; the store opens another when it is used again."""
        await self._lane.close()


def _loaded(rows: Sequence[asyncpg.Record]) -> Loaded:
    operations = _operations_by_license(row["operation"] for row in rows if row["operation"] is not None)
    return Loaded(
        results={
            CommandId(row["result"]["command_id"]): _result_of(row["result"], row["body"])
            for row in rows
            if row["result"] is not None
        }
        | {
            CommandId(row["waiting"]["command_id"]): result_in_line(row["waiting"])
            for row in rows
            if row["waiting"] is not None
        },
        licenses={
            LicenseId(row["license"]["license_id"]): _stored_license(row, operations)
            for row in rows
            if row["license"] is not None
        },
        open={
            LicenseId(row["opened"]["license_id"]): stored_open(row["opened"])
            for row in rows
            if row["opened"] is not None
        },
    )


def _stored_license(row: asyncpg.Record, operations: Mapping[LicenseId, Mapping[Fingerprint, int]]) -> StoredLicense:
    license = row["license"]
    stored = _stored_key(license)
    return replace(stored, body=row["body"] or b"", operations=operations.get(license["license_id"], {}))


def _stored_key(row: asyncpg.Record) -> StoredLicense:
    """Return the license in a row of table `license`, without body and operations."""
    return StoredLicense(
        license=_license_of(row),
        version=row["version"],
        audit_sha256=row["audit_sha256"],
        body=b"",
        operations={},
        published_sequence=row["published_sequence"],
        key_id=row["key_id"],
        activation_code=row["activation_code"],
    )


def _past_revision(row: asyncpg.Record) -> PastRevision:
    return PastRevision(
        revision=row["revision"],
        product=row["product"],
        cause=RevisionCause(row["cause"]),
        body=BodyDigest(sha256=row["body_sha256"].hex(), length_bytes=row["length_bytes"]),
    )


def _license_of(row: asyncpg.Record) -> License:
    """Return the license in a row of table `license`."""
    return License(
        account=row["account_id"],
        number=row["number"],
        product=row["product"],
        model=LicensingModel(row["model"]),
        status=LicenseStatus(row["status"]),
        suspended=row["suspended"],
        test=row["test"],
        subscription_on=row["subscription_on"],
        start_on=row["start_on"],
        purchase_on=row["purchase_on"],
        expires_on=row["expires_on"],
        terminated_at=row["terminated_at"],
        activation_data=row["activation_data"],
        reg_name=row["reg_name"],
        revision=row["revision"],
        key_version=row["key_version"],
        sequence=row["sequence"],
        service=decode_service(row["service"]),
        key=decode_details(row["key"]),
    )


def _result_of(row: asyncpg.Record, revision_body: bytes | None) -> StoredResult:
    """Return the result in a row of `command_result` and the body of the revision that it refers to."""
    reply = StoredReply(status=ReplyStatus(row["status"]), meta=row["meta"], body=row["body"], revision=row["revision"])
    body = reply.body if revision_body is None else revision_body
    return StoredResult(payload_sha256=row["payload_sha256"], reply=reply, body=body)


def _operations_by_license(rows: Iterable[asyncpg.Record]) -> dict[LicenseId, dict[Fingerprint, int]]:
    """Return what rows of `operation` remember: license -> fingerprint -> revision."""
    found: dict[LicenseId, dict[Fingerprint, int]] = {}
    for row in rows:
        found.setdefault(LicenseId(row["license_id"]), {})[Fingerprint(row["fingerprint"])] = row["revision"]
    return found
