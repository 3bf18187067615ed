"""Orders that nothing moves on: people are told of each once, whatever holds it up.

A paused account, lists that stay doubtful, a worker without the account's login, an outcome that nobody takes in: each
is safe to wait for, and each may last for ever. What is `manual` is told when it becomes so, and what a license waits
for at a refused release after its last try.
"""

from typing import Final, LiteralString

import asyncpg

from shared.database.pool import Pool, borrowed
from shared.database.provider_moves import LOCK, tell
from shared.domain.open_operation import AttentionKind

OVERDUE: Final[LiteralString] = """
SELECT o.order_id, o.kind, w.since, a.in_use, a.paused_until > clock_timestamp() AS pauses, a.pause_reason
FROM provider_order o JOIN provider_account a ON a.name = o.provider_account
CROSS JOIN LATERAL (SELECT greatest(o.intended_at, o.decided_at, max(s.at) FILTER (WHERE s.trigger LIKE '%released%'))
        AS since, coalesce(bool_or(s.trigger LIKE 'key_missing%'), false) AS is_told
    FROM provider_step s WHERE s.order_id = o.order_id) w
WHERE o.settled_at IS NULL AND o.state <> 'manual' AND o.intended_at < clock_timestamp() - make_interval(secs => $1)
    AND w.since < clock_timestamp() - make_interval(secs => $1) AND NOT w.is_told
    AND NOT (o.kind = 'end' AND o.put_off > 0)
    AND NOT EXISTS (SELECT FROM provider_step t WHERE t.order_id = o.order_id
        AND t.trigger = 'order_waits ' || o.marker_number)
ORDER BY o.due_at LIMIT $2
"""
NOTE: Final[LiteralString] = """
INSERT INTO provider_step (order_id, at, state_before, state_after, trigger, attempt)
SELECT $1, clock_timestamp(), $2, $2, $3, $4
WHERE NOT EXISTS (SELECT FROM provider_step WHERE order_id = $1 AND trigger = $3) RETURNING 1
"""


class PostgresOverdueOrders:
    """The orders that wait for too long, on a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def tell(self, *, after_seconds: float, orders_max: int) -> int:
        """Tell people of orders that nothing has moved on for so long, each once; return how many were told now.

        Counted from the intent, the decision, or the latest release. Raises `UnavailableError`.
        """
        told = 0
        async with borrowed(self._pool, "tell of overdue orders") as connection, connection.transaction():
            for row in await connection.fetch(OVERDUE, after_seconds, orders_max):
                locked = await connection.fetchrow(LOCK, row["order_id"])
                name = f"{AttentionKind.ORDER_WAITS} {locked['marker_number']}" if locked is not None else ""
                if locked is None or not await connection.fetchval(
                    NOTE, row["order_id"], locked["state"], name, locked["attempt"]
                ):
                    continue
                text = f"a {row['kind']} has been {locked['state']} since {row['since']:%Y-%m-%d %H:%M}Z: {_why(row)}"
                await tell(connection, locked, AttentionKind.ORDER_WAITS, text, name)
                told += 1
        return told


def _why(row: asyncpg.Record) -> str:
    if not row["in_use"]:
        return "no worker has the login of its provider account"
    if row["pauses"]:
        return f"its provider account pauses ({row['pause_reason']})"
    return "see the log of the provider role for what it waits for"
