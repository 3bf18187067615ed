"""Provider orders while they are carried out: claims, fences, closes, looks, settling, pauses of the account.

Every method is one short transaction on a borrowed connection; nothing is ever held over a call to a provider. Time is
the database's, the one clock that all workers share. What a method did when its answer was lost is found by calling it
again: a claim or an attempt that is over says so.

Every method raises `UnavailableError` when the database does not answer.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from shared.contracts.envelope import new_id
from shared.contracts.identifiers import LicenseId
from shared.database.pool import Connection, Pool, borrowed
from shared.database.provider_moves import LOCK, Move, move, tell
from shared.database.provider_pauses import PauseTimes, calm, pause_account, pause_after_loss
from shared.database.provider_rows import BY_ID, READ_LOOKS, evidence_json, look_of, order_of, plain
from shared.database.provider_statements import (
    ACCOUNT_STATE,
    ATTEMPT,
    CANARIES,
    CLAIM,
    CLAIMED,
    CLOSE,
    CLOSE_OPEN,
    DETAIL,
    FENCE,
    KEEP,
    LINKED,
    LOCK_ACCOUNT,
    LOOK,
    RING,
)
from shared.database.provider_writes import encode_operation
from shared.domain.open_operation import AttentionKind
from shared.domain.provider_operation import Elid, OrderModule, OrderPlesk, OrderSoftware, ProviderOperation
from shared.domain.provider_order import (
    AccountState,
    ClaimObstacle,
    Judgement,
    OrderState,
    Pause,
    Trigger,
    obstacle_to_claim,
)
from shared.domain.provider_outcome import Evidence, Refusal
from shared.domain.provider_record import AccountPause, Claim, ClaimLimits, ProviderOrder
from shared.domain.provider_settling import Look, Settled
from shared.errors import ConflictError

DECIDED_GRACE_SECONDS: Final = 5.0
"""The worker that decided an order also announces it; after this the scheduler rings for it."""
LEASE_SECONDS: Final = 15.0
"""A worker that has not called `keep` for so long has died, or may as well have."""
CANARY_AGE_SECONDS: Final = 30.0
"""A service this young may not stand in the lists yet."""
CANARY_CANDIDATES: Final = 100
"""So many of the newest services per way of ordering are asked whether they are alive; when none is, there is none."""
ORDER_OPERATIONS: Final = (OrderSoftware.__name__, OrderPlesk.__name__, OrderModule.__name__)


@dataclass(frozen=True, slots=True)
class DueOrder:
    """An order to ring for."""

    order_id: UUID
    license_id: LicenseId
    """Key of the bell's record."""


class PostgresProviderOrders:
    """The orders on a pool."""

    def __init__(self, pool: Pool, times: PauseTimes | None = None) -> None:
        self._pool = pool
        self._times = times or PauseTimes()

    async def load(self, order_id: UUID) -> ProviderOrder | None:
        """Return the order, None for an id that nobody stored."""
        async with borrowed(self._pool, "load an order") as connection:
            row = await connection.fetchrow(BY_ID, order_id)
        return None if row is None else order_of(row)

    async def obstacle(self, order_id: UUID, limits: ClaimLimits) -> ClaimObstacle | None:
        """Return what stands against claiming the order now; `claim` asks again."""
        async with borrowed(self._pool, "look for an obstacle") as connection:
            return await _obstacle(connection, order_id, limits)

    async def claim(
        self,
        order_id: UUID,
        limits: ClaimLimits,
        *,
        snapshot: Collection[Elid] = (),
        known_charges: Collection[str] = (),
        operation: ProviderOperation | None = None,
    ) -> Claim | ClaimObstacle:
        """Claim the order for one send: compare-and-set, slot free, below the limits, account not paused.

        `operation` replaces the stored one where looking upstream made it more exact.
        """
        token = new_id()
        async with borrowed(self._pool, "claim an order") as connection, connection.transaction():
            await connection.execute(LOCK_ACCOUNT, order_id)
            obstacle = await _obstacle(connection, order_id, limits)
            if obstacle is not None:
                return obstacle
            exact = None if operation is None else encode_operation(operation)
            attempt = await connection.fetchval(
                CLAIM, order_id, sorted(snapshot), sorted(known_charges), LEASE_SECONDS, exact
            )
            if attempt is None:
                return ClaimObstacle.NOT_INTENDED
            await connection.execute(ATTEMPT, order_id, token, limits.send_window_seconds)
            await connection.execute(CLAIMED, order_id, attempt)
        return Claim(
            order_id=order_id, attempt=attempt, lease_token=token, send_window_seconds=limits.send_window_seconds
        )

    async def keep(self, claim: Claim) -> bool:
        """Show that the claim's worker is alive; to be called a few times per `LEASE_SECONDS` while a call is out."""
        async with borrowed(self._pool, "keep a claim") as connection:
            kept = await connection.fetchval(KEEP, claim.order_id, claim.attempt, LEASE_SECONDS)
        return kept is not None

    async def pass_fence(self, claim: Claim) -> bool:
        """Whether the attempt may write its first byte now; True once at most, and only inside its send window."""
        async with borrowed(self._pool, "pass a fence") as connection:
            passed = await connection.fetchval(FENCE, claim.order_id, claim.attempt, claim.lease_token)
        return passed is not None

    async def close(
        self,
        claim: Claim,
        judgement: Judgement,
        evidence: Evidence | None,
        *,
        subject: str = "",
        expires_on: date | None = None,
        due_seconds: float = DECIDED_GRACE_SECONDS,
    ) -> OrderState | None:
        """Close the attempt with what became of it and move its order; return the new state.

        None when the attempt was closed before, or the order is already beyond such an answer. A service that belongs
        to another order makes the order `manual`.
        """
        change = Move(
            trigger=judgement.trigger,
            elid=judgement.elid,
            how=judgement.how,
            refusal=judgement.refusal,
            subject=subject,
            quarantined=judgement.quarantined,
            accepted=judgement.accepted,
            expires_on=expires_on,
            due_seconds=due_seconds,
            text=evidence.detail if evidence is not None else "",
        )
        try:
            return await self._close(claim, change, judgement, evidence)
        except ConflictError:
            if change.elid is None:
                raise
            return await self._close(claim, _taken(change, change.elid), judgement, evidence)

    async def _close(
        self, claim: Claim, change: Move, judgement: Judgement, evidence: Evidence | None
    ) -> OrderState | None:
        told = evidence_json(evidence, pause=judgement.pause)
        async with borrowed(self._pool, "close an attempt") as connection, connection.transaction():
            await connection.execute(LOCK_ACCOUNT, claim.order_id)
            locked = await connection.fetchrow(LOCK, claim.order_id)
            trigger = change.trigger.value
            closed = await connection.fetchval(CLOSE, claim.order_id, claim.attempt, claim.lease_token, trigger, told)
            if locked is None or closed is None:
                return None
            after = await move(connection, locked, change, told)
            account = locked["provider_account"]
            if judgement.pause is not Pause.NONE:
                await pause_account(connection, account, judgement.pause, self._times)
            elif change.trigger in (Trigger.CONFIRMED, Trigger.REFUSED):
                await calm(connection, account)
            if change.trigger is Trigger.LOST:
                await pause_after_loss(connection, account, self._times)
        return after

    async def lose(self, order_id: UUID, attempt: int) -> bool:
        """Make an order `unknown` whose worker is gone, or met by a second one; whether it was `sending` until now.

        The attempt stays open: its worker's own answer may still come.
        """
        async with borrowed(self._pool, "lose an order") as connection, connection.transaction():
            await connection.execute(LOCK_ACCOUNT, order_id)
            locked = await connection.fetchrow(LOCK, order_id)
            if locked is None or locked["state"] != OrderState.SENDING or locked["attempt"] != attempt:
                return False
            await move(connection, locked, Move(trigger=Trigger.LOST, due_seconds=0.0), evidence_json(None))
            await pause_after_loss(connection, locked["provider_account"], self._times)
        return True

    async def cancel(self, order_id: UUID) -> bool:
        """Refuse an order that nobody wants any more and of which nothing was sent; whether it was so."""
        change = Move(trigger=Trigger.CANCELED, refusal=Refusal.CANCELED, due_seconds=DECIDED_GRACE_SECONDS)
        async with borrowed(self._pool, "cancel an order") as connection, connection.transaction():
            locked = await connection.fetchrow(LOCK, order_id)
            if locked is None or locked["state"] != OrderState.INTENDED or locked["cancel_requested_at"] is None:
                return False
            await move(connection, locked, change, evidence_json(None))
        return True

    async def looks(self, order: ProviderOrder) -> tuple[Look, ...]:
        """Return the looks for the present attempt, in rising order of time."""
        async with borrowed(self._pool, "read looks") as connection:
            return tuple(map(look_of, await connection.fetch(READ_LOOKS, order.order_id, order.attempt)))

    async def add_look(self, order: ProviderOrder, look: Look) -> None:
        """Keep a look as evidence."""
        async with borrowed(self._pool, "keep a look") as connection:
            await connection.execute(
                LOOK,
                order.order_id,
                order.attempt,
                look.looked_at,
                list(look.elids),
                look.how.value,
                look.conclusive,
                look.charges.value,
            )

    async def settle(
        self, order: ProviderOrder, settled: Settled, *, expires_on: date | None = None, due_seconds: float = 0.0
    ) -> OrderState | None:
        """Move an order in `unknown` or `manual` by what looking found; None when it moved on since `order` was read.

        Proven absence closes the attempt in the same transaction, before anything can be sent again.
        """
        change = Move(
            trigger=settled.trigger,
            elid=settled.elid,
            how=settled.how,
            refusal=Refusal.CANCELED if settled.trigger is Trigger.ABSENT_CANCELED else None,
            quarantined=settled.quarantined,
            expires_on=expires_on,
            due_seconds=due_seconds,
            text=settled.reason.value if settled.reason is not None else "",
        )
        try:
            return await self._settle(order, change, settled)
        except ConflictError:
            if change.elid is None:
                raise
            return await self._settle(order, _taken(change, change.elid), settled)

    async def _settle(self, order: ProviderOrder, change: Move, settled: Settled) -> OrderState | None:
        told = evidence_json(
            None, reason=settled.reason, proof=[look.looked_at for look in settled.proof], elid=change.elid
        )
        async with borrowed(self._pool, "settle an order") as connection, connection.transaction():
            locked = await connection.fetchrow(LOCK, order.order_id)
            if locked is None or locked["state"] != order.state or locked["attempt"] != order.attempt:
                return None
            if change.trigger is not Trigger.GIVEN_UP and change.trigger is not Trigger.AMBIGUOUS:
                await connection.execute(CLOSE_OPEN, order.order_id, change.trigger.value, told)
            return await move(connection, locked, change, told)

    async def defer(self, order_id: UUID, seconds: float | None) -> None:
        """Let the order be due in so many seconds, or never again by itself (None)."""
        async with borrowed(self._pool, "defer an order") as connection:
            await connection.execute(
                "UPDATE provider_order SET due_at = clock_timestamp() + make_interval(secs => $2) WHERE order_id = $1",
                order_id,
                seconds,
            )

    async def canaries(self, provider_account: str) -> Mapping[str, Elid]:
        """Return per way of ordering (name of its operation) a service that must stand in every complete list.

        The newest one that is known to be alive; a young one only where there is no older. None where there is none.
        """
        async with borrowed(self._pool, "choose canaries") as connection:
            rows = await connection.fetch(
                CANARIES, provider_account, list(ORDER_OPERATIONS), CANARY_AGE_SECONDS, CANARY_CANDIDATES
            )
        return {row["made"]: Elid(row["elid"]) for row in rows}

    async def linked(self, provider_account: str, elids: Collection[Elid]) -> Mapping[Elid, UUID]:
        """Return which of the services orders of ours made, and the order that made each; released ones too."""
        if not elids:
            return {}
        async with borrowed(self._pool, "read linked services") as connection:
            rows = await connection.fetch(LINKED, provider_account, list(elids))
        return {Elid(row["elid"]): plain(row["order_id"]) for row in rows}

    async def detail(self, order_id: UUID, *, expires_on: date | None, key: str | None) -> bool:
        """Keep what was read of a confirmed service, once; from then on its outcome is told word for word."""
        async with borrowed(self._pool, "keep details") as connection:
            return await connection.fetchval(DETAIL, order_id, expires_on, key) is not None

    async def attend(self, order_id: UUID, kind: AttentionKind, text: str) -> None:
        """Tell people of a finding about the order, once per kind."""
        async with borrowed(self._pool, "tell of an order") as connection, connection.transaction():
            locked = await connection.fetchrow(LOCK, order_id)
            name = f"{kind} {locked['attempt']}" if locked is not None else ""
            told = await connection.fetchval(
                "SELECT 1 FROM provider_step WHERE order_id = $1 AND trigger = $2", order_id, name
            )
            if locked is None or told is not None:
                return
            await connection.execute(
                "INSERT INTO provider_step (order_id, at, state_before, state_after, trigger, attempt)"
                " VALUES ($1, clock_timestamp(), $2, $2, $3, $4)",
                order_id,
                locked["state"],
                name,
                locked["attempt"],
            )
            await tell(connection, locked, kind, text, name)

    async def announced(self, order_id: UUID, *, again_seconds: float) -> None:
        """Note that the outcome was published; it is due again after `again_seconds` unless it is taken in."""
        async with borrowed(self._pool, "note an announcement") as connection:
            await connection.execute(
                "UPDATE provider_order SET announced_at = clock_timestamp(),"
                " due_at = clock_timestamp() + make_interval(secs => $2) WHERE order_id = $1",
                order_id,
                again_seconds,
            )

    async def ring(self, *, orders_max: int, again_seconds: float) -> tuple[DueOrder, ...]:
        """Return the orders that are due, longest first; each is due again after `again_seconds`: bells get lost."""
        async with borrowed(self._pool, "ring for orders") as connection:
            rows = await connection.fetch(RING, orders_max, again_seconds)
        return tuple(DueOrder(plain(row["order_id"]), LicenseId(row["license_id"])) for row in rows)

    async def now(self) -> datetime:
        """Return the database's time, to be taken before a look is begun."""
        async with borrowed(self._pool, "tell the time") as connection:
            moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
        return moment

    async def pause(self, provider_account: str) -> AccountPause:
        """Return whether the account may be called."""
        async with borrowed(self._pool, "read a pause") as connection:
            row = await connection.fetchrow(
                "SELECT paused_until, pause_reason, back_offs FROM provider_account"
                " WHERE name = $1 AND paused_until > clock_timestamp()",
                provider_account,
            )
        if row is None:
            return AccountPause(paused_until=None, reason=None, back_offs=0)
        return AccountPause(paused_until=row["paused_until"], reason=row["pause_reason"], back_offs=row["back_offs"])

    async def hold_off(self, provider_account: str, asked: Pause) -> None:
        """Pause the account as a failed read asks."""
        async with borrowed(self._pool, "pause an account") as connection, connection.transaction():
            await pause_account(connection, provider_account, asked, self._times)


async def _obstacle(connection: Connection, order_id: UUID, limits: ClaimLimits) -> ClaimObstacle | None:
    row = await connection.fetchrow(ACCOUNT_STATE, order_id)
    if row is None:
        return ClaimObstacle.NOT_INTENDED
    is_money = row["kind"] in ("order", "nodes", "prolong")
    state = AccountState(
        slot_taken=row["slot_taken"],
        unresolved=row["unresolved"] if is_money else 0,
        paused_until=row["paused_until"],
    )
    now: datetime = row["now"]
    if row["state"] == OrderState.INTENDED and row["cancel_requested_at"] is not None:
        return ClaimObstacle.CANCELED  # before any pause: whoever ends a license must not wait for the provider's sake
    obstacle = obstacle_to_claim(OrderState(row["state"]), state, unresolved_max=limits.unresolved_max, now=now)
    if obstacle is not None:
        return obstacle
    if row["not_before"] is not None and now < row["not_before"]:
        return ClaimObstacle.NOT_YET
    return ClaimObstacle.BUSY if is_money and row["in_flight"] >= limits.money_in_flight_max else None


def _taken(change: Move, elid: Elid) -> Move:
    """Return the move of an order whose service turned out to be another order's."""
    return Move(
        trigger=Trigger.AMBIGUOUS,
        quarantined=(elid,),
        accepted=change.accepted,
        due_seconds=change.due_seconds,
        text=f"service {elid} belongs to another order",
    )
