"""One active process of a role: whoever holds the role's advisory lock, on a connection that also does its work.

Lock and work share the connection on purpose: when it is lost, both are, and no statement of a former leader can still
be carried out. Others stand by and ask again.
"""

from collections.abc import Awaitable, Callable
from typing import Final, LiteralString, TypeVar

import asyncpg

from shared.database.failures import mapped_failures
from shared.database.lane import INDEX_PLANS
from shared.database.pool import COMMAND_SECONDS, OwnConnection, close, open_connection
from shared.errors import ConflictError, StoreRefusedError, UnavailableError

Outcome = TypeVar("Outcome")

TRY: Final[LiteralString] = "SELECT pg_try_advisory_lock(hashtextextended('keyway:' || $1::text, 0))"


class LedConnection:
    """The connection of the active process of `role`; one statement at a time."""

    def __init__(self, database_url: str, role: str, *, command_seconds: float = COMMAND_SECONDS) -> None:
        self._database_url = database_url
        self._role = role
        self._command_seconds = command_seconds
        self._connection: OwnConnection | None = None
        self._leads = False

    @property
    def leads(self) -> bool:
        """Whether this process is the active one, as far as it knows: the next statement tells for sure."""
        return self._leads and self._connection is not None and not self._connection.is_closed()

    async def lead(self) -> bool:
        """Become the active process, or learn that another one is. Raises `UnavailableError`."""
        if self.leads:
            return True
        if self._connection is None or self._connection.is_closed():
            self._leads = False
            self._connection = await open_connection(
                self._database_url, command_seconds=self._command_seconds, settings=INDEX_PLANS
            )
        self._leads = bool(await self._guarded(f"lead {self._role}", self._connection, _try_lock(self._role)))
        return self._leads

    async def run(self, action: str, work: Callable[[OwnConnection], Awaitable[Outcome]]) -> Outcome:
        """Return what `work` returns, as the active process.

        Raises `ConflictError` and `StoreRefusedError` as the server said, and `UnavailableError` when this process is
        not the active one (any more) or the database does not answer; then the leadership is given up.
        """
        connection = self._connection
        if connection is None or not self.leads:
            raise UnavailableError(f"{action}: this process is not the active {self._role}")
        return await self._guarded(action, connection, work)

    async def close(self) -> None:
        """Let another process lead."""
        self._leads = False
        connection, self._connection = self._connection, None
        if connection is not None:
            await close(connection)

    async def _guarded(
        self, action: str, connection: OwnConnection, work: Callable[[OwnConnection], Awaitable[Outcome]]
    ) -> Outcome:
        try:
            async with mapped_failures(action):
                return await work(connection)
        except (ConflictError, StoreRefusedError):
            raise
        except BaseException:  # an outage, or a cancelled caller: what the server does now, nobody knows
            self._leads = False
            self._connection = None
            connection.terminate()
            raise


def _try_lock(role: str) -> Callable[[OwnConnection], Awaitable[asyncpg.Record | None]]:
    return lambda connection: connection.fetchval(TRY, role)
