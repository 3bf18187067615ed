"""One dedicated connection for one worker: owned, bounded, and thrown away whenever its state is in doubt."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from shared.database.failures import mapped_failures
from shared.database.pool import COMMAND_SECONDS, CONNECT_SECONDS, OwnConnection, close, open_connection
from shared.errors import ConflictError, StoreRefusedError

Outcome = TypeVar("Outcome")

INDEX_PLANS: Mapping[str, str] = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""A prepared plan lives as long as the connection, so it must not depend on how small a table was when it was made."""


class Lane:
    """A connection that opens itself when needed and serves one statement at a time."""

    def __init__(
        self, database_url: str, *, connect_seconds: float = CONNECT_SECONDS, command_seconds: float = COMMAND_SECONDS
    ) -> None:
        self._database_url = database_url
        self._connect_seconds = connect_seconds
        self._command_seconds = command_seconds
        self._connection: OwnConnection | None = None
        self._turn = asyncio.Lock()

    async def run(self, action: str, work: Callable[[OwnConnection], Awaitable[Outcome]]) -> Outcome:
        """Return what `work` returns.

        Raises `ConflictError` and `StoreRefusedError` as the server said, and `UnavailableError` for everything else.
        After that one it is not known whether the work was committed; the connection is gone, and the next call reads
        on a new one.
        """
        async with self._turn:
            connection = await self._ready()
            try:
                async with mapped_failures(action):
                    return await work(connection)
            except (ConflictError, StoreRefusedError):
                raise
            except BaseException:  # an outage, or a cancelled caller: what the server does now, nobody knows
                self._connection = None
                connection.terminate()
                raise

    async def close(self) -> None:
        """Give the connection back to the server."""
        async with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None:
                await close(connection)

    async def _ready(self) -> OwnConnection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await open_connection(
                self._database_url,
                connect_seconds=self._connect_seconds,
                command_seconds=self._command_seconds,
                settings=INDEX_PLANS,
            )
        return self._connection
