"""Leases of reply partitions: which gateway process listens where.

Two owners of one slot are harmless, because a reply is taken by its correlation id only; leases just keep the load
apart. Time is the database's, the one clock that all gateways share.
"""

from datetime import timedelta
from uuid import UUID

from shared.database.pool import Pool, borrowed
from shared.errors import UnavailableError

LEASE_SECONDS = 30.0


class PostgresReplySlots:
    """The slots 0 to 63. Every method raises `UnavailableError` when the database does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def lease(self, owner: UUID, *, seconds: float = LEASE_SECONDS) -> int:
        """Return a slot that is free, leased to `owner` for `seconds`; the one that has been free longest.

        Raises `UnavailableError` also when all are taken.
        """
        async with borrowed(self._pool, "lease a reply slot") as connection:
            slot = await connection.fetchval(
                "UPDATE reply_slot SET owner = $1, leased_until = clock_timestamp() + $2 WHERE slot = ("
                " SELECT slot FROM reply_slot WHERE leased_until IS NULL OR leased_until < clock_timestamp()"
                " ORDER BY leased_until NULLS FIRST, slot LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING slot",
                owner,
                timedelta(seconds=seconds),
            )
        if slot is None:
            raise UnavailableError(f"all reply slots are leased: stop a gateway, or wait {LEASE_SECONDS:.0f} s")
        return int(slot)

    async def renew(self, owner: UUID, slot: int, *, seconds: float = LEASE_SECONDS) -> bool:
        """Prolong the lease; return False when somebody else has the slot by now."""
        async with borrowed(self._pool, "renew a reply slot") as connection:
            renewed = await connection.fetchval(
                "UPDATE reply_slot SET leased_until = clock_timestamp() + $3 WHERE slot = $2 AND owner = $1"
                " RETURNING true",
                owner,
                slot,
                timedelta(seconds=seconds),
            )
        return renewed is not None

    async def release(self, owner: UUID, slot: int) -> None:
        """Give the slot back; nothing happens when somebody else has it by now."""
        async with borrowed(self._pool, "release a reply slot") as connection:
            await connection.execute(
                "UPDATE reply_slot SET owner = NULL, leased_until = NULL WHERE slot = $2 AND owner = $1", owner, slot
            )
