"""Provider orders as they are read: one statement, and the value that a row makes."""

from typing import Final, LiteralString
from uuid import UUID

import asyncpg
import orjson
from pydantic import TypeAdapter

from shared.contracts.identifiers import LicenseId
from shared.database.provider_writes import decode_operation
from shared.domain.provider_operation import Elid, marker_of
from shared.domain.provider_order import OrderState
from shared.domain.provider_outcome import Evidence, Refusal
from shared.domain.provider_record import ProviderOrder, markers_of
from shared.domain.provider_service import Found
from shared.domain.provider_settling import ChargeWitness, Look
from shared.domain.provisioning import Step

STEP: Final = TypeAdapter(Step)

SELECT: Final[LiteralString] = """
SELECT o.*, a.service_key AS account_key, m.order_id AS made_by, m.marker_number AS made_number
FROM provider_order o
JOIN provider_account a ON a.name = o.provider_account
LEFT JOIN provider_order m ON m.kind = 'order' AND m.state = 'confirmed' AND m.provider_account = o.provider_account
    AND m.elid = (o.operation -> 'of' ->> 'elid')::bigint
"""
BY_ID: Final[LiteralString] = SELECT + " WHERE o.order_id = $1"
READ_LOOKS: Final[LiteralString] = """
SELECT looked_at, elids, how, conclusive, charges FROM provider_look
WHERE order_id = $1 AND attempt = $2 ORDER BY looked_at, id
"""


def plain(stored: UUID) -> UUID:
    """Return a stored id as the class of the standard library: the driver's own is no JSON."""
    return UUID(int=stored.int)


def order_of(row: asyncpg.Record) -> ProviderOrder:
    """Return the order in a row of `SELECT`."""
    key: bytes = row["account_key"]
    made_by = row["made_by"]
    return ProviderOrder(
        order_id=plain(row["order_id"]),
        license_id=LicenseId(row["license_id"]),
        account=row["account_id"],
        number=row["number"],
        provider_account=row["provider_account"],
        step=STEP.validate_json(row["step"]),
        operation=decode_operation(row["operation"]),
        state=OrderState(row["state"]),
        markers=markers_of(key, row["order_id"], row["marker_number"]),
        marker_number=row["marker_number"],
        service_marker=None if made_by is None else marker_of(key, made_by, row["made_number"]),
        attempt=row["attempt"],
        accepted=row["accepted"],
        elid=None if row["elid"] is None else Elid(row["elid"]),
        how=None if row["how"] is None else Found(row["how"]),
        refusal=None if row["refusal"] is None else Refusal(row["refusal"]),
        subject=row["subject"],
        service_expires_on=row["service_expires_on"],
        service_key=row["service_key"],
        quarantined=tuple(map(Elid, row["quarantined"])),
        snapshot=frozenset(map(Elid, row["snapshot"])),
        known_charges=frozenset(row["known_charges"]),
        intended_at=row["intended_at"],
        due_at=row["due_at"],
        sent_at=row["sent_at"],
        manual_since=row["manual_since"],
        decided_at=row["decided_at"],
        detailed_at=row["detailed_at"],
        announced_at=row["announced_at"],
        settled_at=row["settled_at"],
        cancel_requested_at=row["cancel_requested_at"],
        put_off=row["put_off"],
    )


def look_of(row: asyncpg.Record) -> Look:
    """Return the look in a row of `READ_LOOKS`."""
    return Look(
        looked_at=row["looked_at"],
        elids=tuple(map(Elid, row["elids"])),
        how=Found(row["how"]),
        conclusive=row["conclusive"],
        charges=ChargeWitness(row["charges"]),
    )


def evidence_json(evidence: Evidence | None, **more: object) -> str:
    """Return evidence as it is stored."""
    told = {} if evidence is None else {name: getattr(evidence, name) for name in Evidence.__slots__}
    return orjson.dumps({**told, **more}, default=str).decode()
