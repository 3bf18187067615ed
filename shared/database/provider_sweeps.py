"""Sweeps as durable requests, and the findings that they leave.

Per provider account at most one sweep waits and at most one runs. Whoever asks while one waits shares it: it begins
after the question. One whose worker has not been heard of for a while is begun again by the next bell; every write of
a sweep asks first whether it is still its worker's, so a worker that comes back late changes nothing.

Every method raises `UnavailableError` when the database does not answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, LiteralString
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter

from shared.contracts.envelope import new_id
from shared.contracts.events import AttentionData, AttentionEvent
from shared.database.pool import Connection, Pool, borrowed
from shared.database.provider_moves import write_attention
from shared.database.provider_rows import plain
from shared.domain.drift import Difference, DriftKind
from shared.domain.provider_sweep import NewFinding, Sweep, SweepAsker, SweepClaim, SweepState, Turn
from shared.errors import ConflictError

LEASE_SECONDS: Final = 20.0
"""A worker that has not called `keep` for so long has died, or may as well have."""
RING_SECONDS_MAX: Final = 300.0
FORGET_ROWS_MAX: Final = 1000
FAILURE_CHARACTERS_MAX: Final = 500
DIFFERENCES: Final = TypeAdapter(tuple[Difference, ...])

ASK: Final[LiteralString] = """
INSERT INTO provider_sweep (sweep_id, provider_account, asked_by) VALUES ($1, $2, $3)
ON CONFLICT (provider_account) WHERE state = 'asked' DO UPDATE SET due_at = clock_timestamp(), rings = 0,
    asked_by = CASE WHEN excluded.asked_by = 'operator' THEN 'operator' ELSE provider_sweep.asked_by END
RETURNING sweep_id
"""
NEGLECTED: Final[LiteralString] = """
SELECT a.name FROM provider_account a WHERE a.in_use AND NOT EXISTS (SELECT FROM provider_sweep s
    WHERE s.provider_account = a.name
    AND (s.state IN ('asked', 'running') OR s.asked_at > clock_timestamp() - make_interval(secs => $1)))
ORDER BY a.name
"""
RING: Final[LiteralString] = """
UPDATE provider_sweep SET rings = rings + 1,
    due_at = clock_timestamp() + make_interval(secs => least($2 * 2 ^ least(rings, 20), $3))
WHERE sweep_id IN (SELECT sweep_id FROM provider_sweep WHERE due_at <= clock_timestamp()
    AND (state = 'asked' OR (state = 'running' AND lease_until <= clock_timestamp()))
    AND provider_account IN (SELECT name FROM provider_account WHERE in_use)
    ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING sweep_id, provider_account
"""
LOAD: Final[LiteralString] = """
SELECT sweep_id, provider_account, asked_by, asked_at, state, begun_at, finished_at, failure,
    differences::text AS differences
FROM provider_sweep WHERE sweep_id = $1
"""
RUNNING: Final[LiteralString] = """
SELECT 1 FROM provider_sweep
WHERE provider_account = $1 AND state = 'running' AND lease_until > clock_timestamp()
"""
CLAIM: Final[LiteralString] = """
UPDATE provider_sweep w SET state = 'running', attempt = attempt + 1, begun_at = clock_timestamp(),
    lease_until = clock_timestamp() + make_interval(secs => $2), due_at = clock_timestamp() + make_interval(secs => $2)
WHERE sweep_id = $1 AND (state = 'asked' OR (state = 'running' AND lease_until <= clock_timestamp()))
    AND NOT EXISTS (SELECT FROM provider_sweep r WHERE r.provider_account = w.provider_account AND r.state = 'running'
        AND r.sweep_id <> w.sweep_id)
RETURNING sweep_id, provider_account, attempt, asked_by = 'operator' AS is_whole, coalesce((SELECT d.nodes_through
    FROM provider_sweep d WHERE d.provider_account = w.provider_account AND d.state = 'done'
    ORDER BY d.asked_at DESC LIMIT 1), 0) AS nodes_after
"""
KEEP: Final[LiteralString] = """
UPDATE provider_sweep SET lease_until = clock_timestamp() + make_interval(secs => $3),
    due_at = clock_timestamp() + make_interval(secs => $3), rings = 0
WHERE sweep_id = $1 AND attempt = $2 AND state = 'running' RETURNING 1
"""
END: Final[LiteralString] = """
UPDATE provider_sweep SET state = $3, finished_at = clock_timestamp(), failure = $4, differences = $5::jsonb,
    nodes_through = $6
WHERE sweep_id = $1 AND attempt = $2 AND state = 'running' RETURNING 1
"""
WAKE_NEXT: Final[LiteralString] = """
UPDATE provider_sweep SET due_at = clock_timestamp(), rings = 0 WHERE provider_account = $1 AND state = 'asked'
"""
FIND: Final[LiteralString] = """
INSERT INTO provider_finding (provider_account, kind, elid, license_id, concerns, detail, seen_in, found_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp())
ON CONFLICT (provider_account, kind, coalesce(elid, 0), coalesce(license_id, ''), concerns) WHERE closed_at IS NULL
DO UPDATE SET seen_in = excluded.seen_in, detail = excluded.detail
RETURNING xmax = 0 AS is_new, clock_timestamp() AS now
"""
CLOSE_UNSEEN: Final[LiteralString] = """
UPDATE provider_finding SET closed_at = clock_timestamp()
WHERE provider_account = $1 AND closed_at IS NULL AND seen_in IS DISTINCT FROM $2
    AND NOT (kind = 'nodes' AND elid = ANY($3::bigint[])) RETURNING 1
"""
FORGET: Final[LiteralString] = """
DELETE FROM provider_sweep WHERE sweep_id IN (SELECT sweep_id FROM provider_sweep
    WHERE finished_at < clock_timestamp() - make_interval(days => $1) LIMIT $2)
RETURNING 1
"""


@dataclass(frozen=True, slots=True)
class DueSweep:
    """A sweep to ring for."""

    sweep_id: UUID
    provider_account: str
    """Key of the bell's record."""


class PostgresProviderSweeps:
    """The sweeps on a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def accounts(self) -> tuple[str, ...]:
        """Return the names of the provider accounts in use."""
        async with borrowed(self._pool, "list provider accounts") as connection:
            rows = await connection.fetch("SELECT name FROM provider_account WHERE in_use ORDER BY name")
        return tuple(row["name"] for row in rows)

    async def ask(self, provider_account: str, asked_by: SweepAsker) -> UUID:
        """Ask for a sweep of the account and return the one that will answer: not begun yet, due at once.

        Raises `StoreRefusedError` for an account that nobody knows.
        """
        async with borrowed(self._pool, "ask for a sweep") as connection:
            return plain(await connection.fetchval(ASK, new_id(), provider_account, asked_by.value))

    async def ask_for_neglected(self, every_seconds: float) -> int:
        """Ask for a sweep of each account that nobody has asked for within `every_seconds`; return how many."""
        async with borrowed(self._pool, "ask for sweeps") as connection, connection.transaction():
            neglected = await connection.fetch(NEGLECTED, every_seconds)
            for row in neglected:
                await connection.execute(ASK, new_id(), row["name"], SweepAsker.SCHEDULER.value)
        return len(neglected)

    async def ring(self, *, sweeps_max: int, again_seconds: float) -> tuple[DueSweep, ...]:
        """Return the sweeps that are due; each is due again after `again_seconds`, twice that the next time, and so on.

        A sweep that runs is due only when its worker has not been heard of.
        """
        async with borrowed(self._pool, "ring for sweeps") as connection:
            rows = await connection.fetch(RING, sweeps_max, again_seconds, RING_SECONDS_MAX)
        return tuple(DueSweep(plain(row["sweep_id"]), row["provider_account"]) for row in rows)

    async def load(self, sweep_id: UUID) -> Sweep | None:
        """Return the sweep, None for an id that is not stored (any more)."""
        async with borrowed(self._pool, "load a sweep") as connection:
            row = await connection.fetchrow(LOAD, sweep_id)
        return None if row is None else _sweep_of(row)

    async def is_running(self, provider_account: str) -> bool:
        """Whether a worker carries a sweep of the account out now."""
        async with borrowed(self._pool, "ask for a running sweep") as connection:
            return await connection.fetchval(RUNNING, provider_account) is not None

    async def claim(self, sweep_id: UUID) -> SweepClaim | None:
        """Begin the sweep; None when it is over, runs, or another one of its account runs."""
        try:
            async with borrowed(self._pool, "claim a sweep") as connection:
                row = await connection.fetchrow(CLAIM, sweep_id, LEASE_SECONDS)
        except ConflictError:
            return None  # another one of the account was begun in the same moment
        if row is None:
            return None
        return SweepClaim(
            sweep_id=sweep_id,
            provider_account=row["provider_account"],
            attempt=row["attempt"],
            is_whole=row["is_whole"],
            nodes_after=row["nodes_after"],
        )

    async def keep(self, claim: SweepClaim) -> bool:
        """Show that the claim's worker lives; False when the sweep is not its any more."""
        async with borrowed(self._pool, "keep a sweep") as connection:
            return await connection.fetchval(KEEP, claim.sweep_id, claim.attempt, LEASE_SECONDS) is not None

    async def note(self, claim: SweepClaim, findings: Sequence[NewFinding]) -> int | None:
        """Keep findings and tell of those that are new; return how many are, None when the sweep was lost.

        One transaction; what was noted before is not told again while it is open.
        """
        told = 0
        async with borrowed(self._pool, "keep findings") as connection, connection.transaction():
            if await connection.fetchval(KEEP, claim.sweep_id, claim.attempt, LEASE_SECONDS) is None:
                return None
            for finding in findings:
                told += await _note(connection, claim, finding)
        return told

    async def finish(self, claim: SweepClaim, differences: Sequence[Difference], turn: Turn) -> int | None:
        """End the sweep with what it found, and close the findings that it did not meet; return how many it closed.

        Those about numbers of nodes whose turn it was not stay open. All findings must have been noted before. None
        when the sweep was lost: then nothing was changed.
        """
        stored = DIFFERENCES.dump_json(tuple(differences)).decode()
        async with borrowed(self._pool, "finish a sweep") as connection, connection.transaction():
            if not await _end(connection, claim, SweepState.DONE, "", stored, turn.through):
                return None
            left = sorted(turn.left)
            return len(await connection.fetch(CLOSE_UNSEEN, claim.provider_account, claim.sweep_id, left))

    async def fail(self, claim: SweepClaim, failure: str) -> bool:
        """End the sweep without a result; findings stay as they were. False when it was lost."""
        async with borrowed(self._pool, "fail a sweep") as connection, connection.transaction():
            return await _end(connection, claim, SweepState.FAILED, failure[:FAILURE_CHARACTERS_MAX], "[]")

    async def forget(self, *, days: int) -> int:
        """Drop sweeps that ended so long ago, a bounded number at once; return how many."""
        async with borrowed(self._pool, "forget sweeps") as connection:
            return len(await connection.fetch(FORGET, days, FORGET_ROWS_MAX))


async def _end(
    connection: Connection, claim: SweepClaim, state: SweepState, failure: str, differences: str, through: int = 0
) -> bool:
    ended = await connection.fetchval(END, claim.sweep_id, claim.attempt, state.value, failure, differences, through)
    if ended is not None:
        await connection.execute(WAKE_NEXT, claim.provider_account)
    return ended is not None


async def _note(connection: Connection, claim: SweepClaim, finding: NewFinding) -> bool:
    """Keep one finding; whether it is new, which then stands in the outbox too."""
    about = finding.difference
    row = await connection.fetchrow(
        FIND,
        claim.provider_account,
        about.kind.value,
        about.elid,
        about.license_id,
        about.order,
        finding.text,
        claim.sweep_id,
    )
    if row is None or not row["is_new"]:
        return False
    owner, _, number = (about.license_id or "").partition(":")
    names_order = about.order and about.kind is not DriftKind.UNEXPLAINED_CHARGE
    data = AttentionData(
        license=number or None,
        account=owner or None,
        kind=finding.attention,
        text=finding.text,
        order=UUID(about.order) if names_order else None,
    )
    event_id, subject = new_id(), about.license_id or claim.provider_account
    event = AttentionEvent(event_id=event_id, subject=subject, time=row["now"], data=data)
    await write_attention(connection, event, subject, event_id)
    return True


def _sweep_of(row: asyncpg.Record) -> Sweep:
    return Sweep(
        sweep_id=plain(row["sweep_id"]),
        provider_account=row["provider_account"],
        asked_by=SweepAsker(row["asked_by"]),
        asked_at=row["asked_at"],
        state=SweepState(row["state"]),
        begun_at=row["begun_at"],
        finished_at=row["finished_at"],
        failure=row["failure"],
        differences=DIFFERENCES.validate_json(row["differences"]),
    )
