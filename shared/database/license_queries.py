"""What people ask about licenses: the whole story of one, and lists. Read only; no body, code or activation data."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Final, LiteralString
from uuid import UUID

import asyncpg

from shared.contracts.envelope import day_of
from shared.contracts.identifiers import LicenseId
from shared.contracts.replies import ReplyStatus
from shared.database.audit_chain import chain_fault
from shared.database.failures import mapped_failures
from shared.database.key_rows import DETAILS
from shared.database.pool import OwnConnection
from shared.database.provider_rows import plain
from shared.database.provider_writes import stored_open
from shared.domain.effects import NO_AUDIT, AuditEntry

LISTED_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseFacts:
    """A license row without what is secret."""

    license: LicenseId
    account: str
    number: str
    key_id: int
    product: str
    model: str
    status: str
    """The shown status: terminated > suspended > lapsed > active."""
    nfr: bool
    test: bool
    subscription_on: date | None
    start_on: date | None
    purchase_on: date | None
    expires_on: date | None
    terminated_at: datetime | None
    revision: int
    key_version: int
    sequence: int
    published_sequence: int
    version: int


PLAIN_FACTS = tuple(each.name for each in fields(LicenseFacts) if each.name not in {"license", "account", "status"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionFacts:
    """One issued body, told by its hash and size."""

    revision: int
    cause: str
    product: str
    expires_on: date
    issued_at: datetime
    body_sha256: str
    body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFacts:
    """One remembered operation."""

    fingerprint: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """One event in the outbox."""

    sequence: int | None
    event_id: UUID
    command_id: UUID
    type: str
    topic: str
    created_at: datetime
    published_at: datetime | None
    value: bytes
    """The public event as other systems get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFacts:
    """One link of the audit chain."""

    command_id: UUID
    recorded_at: datetime
    entry: bytes
    entry_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFacts:
    """The stored reply of one command."""

    command_id: UUID
    status: str
    meta: str
    """The last day for a license body, the code for a rejection."""
    revision: int | None
    handled_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What the Partner API adds to a license, without address, machine and codes."""

    owner: str
    configuration: int | None
    items: Sequence[str]
    parent_key_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFacts:
    """The operation that waits for a provider now."""

    command_id: UUID | None
    type: str
    order_id: UUID
    step: str
    """What its order that is out does upstream."""
    step_number: int
    steps: int
    opened_at: datetime
    in_line: int
    """Commands that wait behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseStory:
    """Everything on record about one license or number, each part in order of writing."""

    license_id: LicenseId
    license: LicenseFacts | None
    """None for a number that is no license, or none yet."""
    key: KeyFacts | None
    open: OpenFacts | None
    revisions: Sequence[RevisionFacts]
    operations: Sequence[OperationFacts]
    events: Sequence[EventFacts]
    audit: Sequence[AuditFacts]
    results: Sequence[ResultFacts]
    """Replies of the commands in the audit, as long as they are kept."""
    audit_fault: str | None
    """Where the audit chain is broken; None when it is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseFilter:
    """Which licenses to list; None leaves a member open."""

    product: str | None = None
    status: str | None = None
    nfr: bool | None = None
    test: bool | None = None


OPEN: Final[LiteralString] = "SELECT * FROM open_operation WHERE license_id = $1"

ORDERED: Final[LiteralString] = "SELECT EXISTS (SELECT FROM provider_order WHERE license_id = $1)"

NAMED: Final[LiteralString] = """
WITH numbered AS MATERIALIZED (
    SELECT name || ':' || $1::text AS license_id FROM account
)
SELECT license_id FROM license WHERE key_id = $2::bigint OR activation_code = $3::text
UNION SELECT license_id FROM numbered n WHERE EXISTS (SELECT FROM license l WHERE l.license_id = n.license_id)
    OR EXISTS (SELECT FROM audit a WHERE a.license_id = n.license_id)
    OR EXISTS (SELECT FROM provider_order o WHERE o.license_id = n.license_id)
ORDER BY 1
"""

ONE: Final[LiteralString] = """
SELECT *, CASE WHEN suspended AND status <> 'terminated' THEN 'suspended' ELSE status END AS shown_status
FROM license WHERE license_id = $1
"""

LISTED: Final[LiteralString] = """
SELECT * FROM (
    SELECT *, CASE WHEN suspended AND status <> 'terminated' THEN 'suspended' ELSE status END AS shown_status
    FROM license
) AS l
WHERE ($1::text IS NULL OR product = $1) AND ($2::text IS NULL OR shown_status = $2)
    AND ($3::boolean IS NULL OR nfr = $3) AND ($4::boolean IS NULL OR test = $4)
ORDER BY license_id
LIMIT $5
"""

REVISIONS: Final[LiteralString] = """
SELECT revision, cause, product, expires_on, issued_at, encode(body_sha256, 'hex') AS body_sha256,
    octet_length(body) AS body_bytes
FROM revision WHERE license_id = $1 ORDER BY revision
"""

OPERATIONS: Final[LiteralString] = """
SELECT encode(fingerprint, 'hex') AS fingerprint, revision
FROM operation WHERE license_id = $1 ORDER BY revision, fingerprint
"""

EVENTS: Final[LiteralString] = """
SELECT sequence, event_id, command_id, type, topic, created_at, published_at, value
FROM outbox WHERE license_id = $1 ORDER BY id
"""

AUDIT: Final[LiteralString] = """
SELECT command_id, recorded_at, entry, previous_sha256, entry_sha256
FROM audit WHERE license_id = $1 ORDER BY id
"""

RESULTS: Final[LiteralString] = """
SELECT command_id, status, meta, revision, handled_at
FROM command_result WHERE command_id = ANY($1) AND day = ANY($2) ORDER BY handled_at, command_id
"""


async def license_story(connection: OwnConnection, license_id: LicenseId) -> LicenseStory | None:
    """Return the whole story of `license_id` as of one moment, None when nobody ever asked anything of it.

    Raises `UnavailableError`.
    """
    async with mapped_failures("explain"), connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow(ONE, license_id)
        opened = await connection.fetchrow(OPEN, license_id)
        entries = await connection.fetch(AUDIT, license_id)
        if row is None and opened is None and not entries and not await connection.fetchval(ORDERED, license_id):
            return None
        return LicenseStory(
            license_id=license_id,
            license=None if row is None else _facts(row),
            key=None if row is None or row["key"] is None else _key_facts(row["key"]),
            open=None if opened is None else _open_facts(opened),
            revisions=[RevisionFacts(**each) for each in await connection.fetch(REVISIONS, license_id)],
            operations=[OperationFacts(**each) for each in await connection.fetch(OPERATIONS, license_id)],
            events=[EventFacts(**each) for each in await connection.fetch(EVENTS, license_id)],
            audit=[_audit_facts(entry) for entry in entries],
            results=await _results(connection, [entry["command_id"] for entry in entries]),
            audit_fault=chain_fault(
                [_link(entry) for entry in entries], NO_AUDIT if row is None else row["audit_sha256"]
            ),
        )


async def licenses_named(
    connection: OwnConnection, number: str, key_id: int | None, activation_code: str
) -> Sequence[LicenseId]:
    """Return the licenses of any account that have this number, key id or code. Raises `UnavailableError`."""
    async with mapped_failures("find a license"):
        rows = await connection.fetch(NAMED, number, key_id, activation_code)
    return [LicenseId(row["license_id"]) for row in rows]


async def list_licenses(
    connection: OwnConnection, wanted: LicenseFilter, *, listed_max: int = LISTED_MAX
) -> Sequence[LicenseFacts]:
    """Return at most `listed_max` licenses that fit, by license id. Raises `UnavailableError`."""
    async with mapped_failures("list licenses"):
        rows = await connection.fetch(LISTED, wanted.product, wanted.status, wanted.nfr, wanted.test, listed_max)
    return [_facts(row) for row in rows]


async def _results(connection: OwnConnection, command_ids: Sequence[UUID]) -> Sequence[ResultFacts]:
    days = list({day_of(command_id) for command_id in command_ids})
    return [
        ResultFacts(
            command_id=row["command_id"],
            status=ReplyStatus(row["status"]).name.lower(),
            meta=row["meta"].decode("ascii", "replace"),
            revision=row["revision"],
            handled_at=row["handled_at"],
        )
        for row in await connection.fetch(RESULTS, command_ids, days)
    ]


def _facts(row: asyncpg.Record) -> LicenseFacts:
    return LicenseFacts(
        license=LicenseId(row["license_id"]),
        account=row["account_id"],
        status=row["shown_status"],
        **{name: row[name] for name in PLAIN_FACTS},
    )


def _key_facts(stored: str) -> KeyFacts:
    details = DETAILS.validate_json(stored)
    return KeyFacts(
        owner=details.owner,
        configuration=details.configuration,
        items=[each.item for each in details.items],
        parent_key_id=None if details.parent is None else details.parent.key_id,
    )


def _open_facts(row: asyncpg.Record) -> OpenFacts:
    operation = stored_open(row).operation
    return OpenFacts(
        command_id=operation.command_id,
        type=operation.command.type,
        order_id=plain(row["order_id"]),
        step=operation.step.kind.value,
        step_number=operation.position + 1,
        steps=len(operation.steps),
        opened_at=row["opened_at"],
        in_line=row["in_line"],
    )


def _link(row: asyncpg.Record) -> AuditEntry:
    return AuditEntry(entry=row["entry"], previous_sha256=row["previous_sha256"], entry_sha256=row["entry_sha256"])


def _audit_facts(row: asyncpg.Record) -> AuditFacts:
    return AuditFacts(
        command_id=row["command_id"],
        recorded_at=row["recorded_at"],
        entry=row["entry"],
        entry_sha256=row["entry_sha256"].hex(),
    )
