"""Provider orders as people see and steer them: lists, the story of one, decisions by hand.

For the verbs `keyway provider …`. Every method raises `UnavailableError` when the database
does not answer, and `ConflictError` when the decision contradicts what is stored.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

import orjson

from shared.database.pool import Pool, borrowed
from shared.database.provider_moves import LOCK, Move, move
from shared.database.provider_rows import SELECT, evidence_json, order_of
from shared.database.provider_statements import CLOSE_OPEN
from shared.domain.approval import TwoPeople
from shared.domain.provider_operation import Elid
from shared.domain.provider_order import OrderState, Trigger
from shared.domain.provider_outcome import Refusal
from shared.domain.provider_record import ProviderOrder
from shared.domain.provider_service import Found

LISTED_MAX: Final = 1000

LIST: Final[LiteralString] = (
    SELECT
    + """ WHERE (cardinality($1::text[]) = 0 OR o.state = ANY($1)) AND ($2::text IS NULL OR o.license_id = $2)
ORDER BY o.intended_at DESC LIMIT $3"""
)
STORY: Final[LiteralString] = """
SELECT 'step' AS what, at, jsonb_build_object('before', state_before, 'after', state_after, 'trigger', trigger,
    'attempt', attempt, 'evidence', evidence) AS facts FROM provider_step WHERE order_id = $1
UNION ALL
SELECT 'attempt', sent_at, jsonb_build_object('attempt', attempt, 'fenced_at', write_fence_at, 'closed_at', closed_at,
    'result', result) FROM provider_attempt WHERE order_id = $1
UNION ALL
SELECT 'look', looked_at, jsonb_build_object('attempt', attempt, 'services', elids, 'how', how,
    'conclusive', conclusive, 'charges', charges) FROM provider_look WHERE order_id = $1
ORDER BY at, what
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryLine:
    """One thing that happened to an order."""

    what: str
    """`step`, `attempt` or `look`."""
    at: datetime
    facts: dict[str, object]


class PostgresProviderOversight:
    """What operators see and do."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def orders(
        self,
        *,
        states: Collection[OrderState] = (),
        license_id: str | None = None,
        orders_max: int = LISTED_MAX,
    ) -> tuple[ProviderOrder, ...]:
        """Return orders, newest first; all states when none is named."""
        named = [state.value for state in states]
        async with borrowed(self._pool, "list orders") as connection:
            rows = await connection.fetch(LIST, named, license_id, orders_max)
        return tuple(map(order_of, rows))

    async def story(self, order_id: UUID) -> tuple[StoryLine, ...]:
        """Return everything that happened to the order, in order of time."""
        async with borrowed(self._pool, "tell an order's story") as connection:
            rows = await connection.fetch(STORY, order_id)
        return tuple(StoryLine(what=row["what"], at=row["at"], facts=orjson.loads(row["facts"])) for row in rows)

    async def link(self, order_id: UUID, elid: Elid, *, by: str) -> OrderState | None:
        """Confirm a `manual` order with a service that people found; None when the order is not `manual`."""
        change = Move(trigger=Trigger.LINKED_BY_PEOPLE, elid=elid, how=Found.PEOPLE)
        return await self._decide(order_id, change, by)

    async def release(self, order_id: UUID, *, by: TwoPeople) -> OrderState | None:
        """Order again what people found not to exist; None when the order is not `manual`."""
        return await self._decide(order_id, Move(trigger=Trigger.RELEASED_BY_PEOPLE), str(by))

    async def cancel(self, order_id: UUID, *, by: str) -> OrderState | None:
        """Refuse a `manual` order; None when the order is not `manual`."""
        return await self._decide(order_id, Move(trigger=Trigger.CANCELED_BY_PEOPLE, refusal=Refusal.CANCELED), by)

    async def look_now(self, order_ids: Sequence[UUID] = ()) -> int:
        """Let undecided orders be due at once, all of them when none is named; return how many.

        Not those that are being sent: a bell makes a live call count as lost, and a few of those pause the account.
        """
        async with borrowed(self._pool, "look now") as connection:
            rows = await connection.fetch(
                "UPDATE provider_order SET due_at = clock_timestamp() WHERE settled_at IS NULL"
                " AND state <> 'sending' AND (cardinality($1::uuid[]) = 0 OR order_id = ANY($1)) RETURNING 1",
                list(order_ids),
            )
        return len(rows)

    async def pauses(self) -> dict[str, tuple[datetime, str]]:
        """Return until when and why provider accounts call nothing, of those that pause now."""
        async with borrowed(self._pool, "list pauses") as connection:
            rows = await connection.fetch(
                "SELECT name, paused_until, coalesce(pause_reason, '') AS reason FROM provider_account"
                " WHERE paused_until > clock_timestamp()"
            )
        return {row["name"]: (row["paused_until"], row["reason"]) for row in rows}

    async def resume(self, provider_account: str) -> None:
        """End a pause of the account by hand: the cause is mended."""
        async with borrowed(self._pool, "resume an account") as connection:
            await connection.execute(
                "UPDATE provider_account SET paused_until = NULL, pause_reason = NULL, back_offs = 0 WHERE name = $1",
                provider_account,
            )

    async def _decide(self, order_id: UUID, change: Move, by: str) -> OrderState | None:
        told = evidence_json(None, by=by)
        async with borrowed(self._pool, "decide by hand") as connection, connection.transaction():
            locked = await connection.fetchrow(LOCK, order_id)
            if locked is None or locked["state"] != OrderState.MANUAL:
                return None
            await connection.execute(CLOSE_OPEN, order_id, change.trigger.value, told)
            return await move(connection, locked, change, told)
