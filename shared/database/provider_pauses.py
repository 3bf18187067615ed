"""Pauses of a provider account: hold-offs that double, the breaker, and who is told of them (isplicense 4.3)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from shared.contracts.envelope import new_id
from shared.contracts.events import AttentionData, AttentionEvent
from shared.database.pool import Connection
from shared.database.provider_moves import write_attention
from shared.domain.open_operation import AttentionKind
from shared.domain.provider_order import (
    BACK_OFF_SECONDS_MIN,
    BREAKER_SECONDS,
    UNKNOWN_WITHIN_SECONDS,
    Pause,
    back_off_seconds,
    breaker_opens,
)

AUTH_REASON: Final = "auth_failed"
HOLD_OFF_REASON: Final = "held_off"
LOSSES_REASON: Final = "too_many_unknown"

EXTEND: Final[LiteralString] = """
UPDATE provider_account SET pause_reason = $2, back_offs = $3,
    paused_until = greatest(paused_until, clock_timestamp() + make_interval(secs => $4))
WHERE name = $1
"""
LOSSES: Final[LiteralString] = """
SELECT s.at, clock_timestamp() AS now FROM provider_step s JOIN provider_order o USING (order_id)
WHERE s.trigger = 'lost' AND s.state_after = 'unknown' AND s.at > clock_timestamp() - make_interval(secs => $2)
    AND o.provider_account = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseTimes:
    """How long an account pauses; the defaults are those of production."""

    breaker_seconds: float = float(BREAKER_SECONDS)
    """After wrong credentials."""
    back_off_seconds: float = float(BACK_OFF_SECONDS_MIN)
    """After the first hold-off; doubled with each further one in a row, up to fifteen times that."""
    losses_seconds: float = float(UNKNOWN_WITHIN_SECONDS)
    """After too many sends with an unknown outcome."""


async def pause_account(connection: Connection, account: str, asked: Pause, times: PauseTimes) -> None:
    """Pause the account as an outcome or a failed read asks, inside the caller's transaction."""
    row = await connection.fetchrow(
        "SELECT back_offs, pause_reason, paused_until > clock_timestamp() AS paused, clock_timestamp() AS now"
        " FROM provider_account WHERE name = $1 FOR UPDATE",
        account,
    )
    if row is None or asked is Pause.NONE:
        return
    if asked is Pause.BACK_OFF:
        hold_offs = row["back_offs"] + 1
        seconds = back_off_seconds(hold_offs) * times.back_off_seconds / BACK_OFF_SECONDS_MIN
        await connection.execute(EXTEND, account, HOLD_OFF_REASON, hold_offs, seconds)
        return
    await connection.execute(EXTEND, account, AUTH_REASON, row["back_offs"], times.breaker_seconds)
    if not (row["paused"] and row["pause_reason"] == AUTH_REASON):
        await _page(connection, account, row["now"])


async def calm(connection: Connection, account: str) -> None:
    """Forget the hold-offs: the account was served."""
    await connection.execute("UPDATE provider_account SET back_offs = 0 WHERE name = $1 AND back_offs > 0", account)


async def pause_after_loss(connection: Connection, account: str, times: PauseTimes) -> None:
    """Pause the account when too many sends were lost lately, the one in this transaction included."""
    rows = await connection.fetch(LOSSES, account, float(UNKNOWN_WITHIN_SECONDS))
    if rows and breaker_opens([row["at"] for row in rows], now=rows[0]["now"]):
        back_offs = await connection.fetchval("SELECT back_offs FROM provider_account WHERE name = $1", account)
        await connection.execute(EXTEND, account, LOSSES_REASON, back_offs, times.losses_seconds)


async def _page(connection: Connection, account: str, now: datetime) -> None:
    event_id = new_id()
    text = "the provider does not take our credentials; nothing is ordered until the breaker closes"
    data = AttentionData(license=None, account=None, kind=AttentionKind.ACCESS_REFUSED, text=text)
    event = AttentionEvent(event_id=event_id, subject=account, time=now, data=data)
    await write_attention(connection, event, account, event_id)
