"""One transition of a provider order, inside the caller's transaction: the row, its audit step, and who is told.

`shared.domain.provider_order.TRANSITIONS` says what may follow what; nothing else changes a state.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final, LiteralString
from uuid import UUID

import asyncpg

from shared.contracts.codec import encode_attention
from shared.contracts.envelope import derived_id
from shared.contracts.events import AttentionData, AttentionEvent, EventType
from shared.contracts.identifiers import LicenseId
from shared.contracts.topics import LICENSE_EVENTS
from shared.database.pool import Connection
from shared.domain.open_operation import AttentionKind
from shared.domain.provider_operation import Elid
from shared.domain.provider_order import OrderState, Trigger, next_state
from shared.domain.provider_outcome import Refusal
from shared.domain.provider_service import Found
from shared.domain.provisioning import StepKind

LOCK: Final[LiteralString] = """
SELECT order_id, license_id, account_id, number, provider_account, kind, state, attempt, marker_number, elid,
    service_expires_on, cancel_requested_at, clock_timestamp() AS now
FROM provider_order WHERE order_id = $1 FOR UPDATE
"""
MOVE: Final[LiteralString] = """
UPDATE provider_order SET state = $2, elid = coalesce($3, elid), how = $4, refusal = $5, subject = $6,
    quarantined = $7::bigint[], accepted = accepted OR $8, marker_number = $9,
    service_expires_on = coalesce($10, service_expires_on),
    manual_since = CASE WHEN $2 = 'manual' THEN coalesce(manual_since, clock_timestamp()) END,
    decided_at = CASE WHEN $2 IN ('confirmed', 'refused') THEN clock_timestamp() END,
    detailed_at = CASE WHEN $11 THEN clock_timestamp() END,
    not_before = CASE WHEN $2 = 'intended' THEN clock_timestamp() + make_interval(secs => $12) END,
    due_at = clock_timestamp() + make_interval(secs => $12), put_off = put_off + $13
WHERE order_id = $1
"""
STEP: Final[LiteralString] = """
INSERT INTO provider_step (order_id, at, state_before, state_after, trigger, attempt, evidence)
VALUES ($1, clock_timestamp(), $2, $3, $4, $5, $6::jsonb)
"""
TELL: Final[LiteralString] = """
INSERT INTO outbox (event_id, topic, key, license_id, command_id, type, value, created_at)
VALUES ($1, $2, $3, $3, $4, $5, $6, clock_timestamp())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What moves an order, and what is learned with it."""

    trigger: Trigger
    elid: Elid | None = None
    how: Found | None = None
    refusal: Refusal | None = None
    subject: str = ""
    quarantined: tuple[Elid, ...] = ()
    accepted: bool = False
    expires_on: date | None = None
    due_seconds: float = 0.0
    """When the order is due again, from now."""
    text: str = ""
    """Why, for people; told when the order becomes theirs."""


async def move(connection: Connection, locked: asyncpg.Record, change: Move, evidence: str) -> OrderState | None:
    """Move the locked order and return its new state; None when the trigger changes nothing there."""
    before = OrderState(locked["state"])
    after = next_state(before, change.trigger)
    trigger = change.trigger.value
    if after is None:
        await connection.execute(STEP, locked["order_id"], before, before, trigger, locked["attempt"], evidence)
        return None
    released = change.trigger in (Trigger.ABSENT_RELEASED, Trigger.RELEASED_BY_PEOPLE)
    await connection.execute(
        MOVE,
        locked["order_id"],
        after,
        change.elid if after is OrderState.CONFIRMED else None,
        change.how if after is OrderState.CONFIRMED else None,
        (change.refusal or Refusal.CANCELED) if after is OrderState.REFUSED else None,
        change.subject,
        list(change.quarantined),
        change.accepted,
        locked["marker_number"] + released,
        change.expires_on,
        _is_told_whole(after, StepKind(locked["kind"]), change.expires_on),
        change.due_seconds,
        int(change.trigger is Trigger.PUT_OFF),
    )
    await connection.execute(STEP, locked["order_id"], before, after, trigger, locked["attempt"], evidence)
    if after is OrderState.MANUAL and before is not after:
        text = f"the outcome of the order is not known and people must decide ({change.text or trigger})"
        await tell(connection, locked, AttentionKind.ORDER_MANUAL, text, f"manual {locked['attempt']}")
    return after


async def tell(connection: Connection, order: asyncpg.Record, kind: AttentionKind, text: str, name: str) -> None:
    """Put a finding about an order into the outbox; `name` makes its event id."""
    order_id = UUID(int=order["order_id"].int)  # the driver's own class is no JSON
    event = AttentionEvent(
        event_id=derived_id(order_id, name),
        subject=order["license_id"],
        time=order["now"],
        data=AttentionData(license=order["number"], account=order["account_id"], kind=kind, text=text, order=order_id),
    )
    await write_attention(connection, event, LicenseId(order["license_id"]), order_id)


async def write_attention(connection: Connection, event: AttentionEvent, key: str, cause: UUID) -> None:
    """Put an attention event into the outbox under `key`."""
    value = encode_attention(event)
    await connection.execute(TELL, event.event_id, LICENSE_EVENTS, key, cause, EventType.ATTENTION, value)


def _is_told_whole(state: OrderState, kind: StepKind, expires_on: date | None) -> bool:
    """Whether nothing has to be read any more before the outcome is told: new services and days are read first."""
    if state is OrderState.REFUSED:
        return True
    if state is not OrderState.CONFIRMED:
        return False
    return kind in (StepKind.NODES, StepKind.CHANGE, StepKind.END) or (
        kind is StepKind.PROLONG and expires_on is not None
    )
