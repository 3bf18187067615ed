"""The smallest question to PostgreSQL: whether it answers at all."""

from shared.database.failures import mapped_failures
from shared.database.pool import OwnConnection, close, open_connection
from shared.patience import patience

LATE_SECONDS_MAX = 10.0
"""The driver's own limit, which knows nothing of a late event loop."""


class DatabasePing:
    """Asks on a connection of its own that is thrown away whenever it hangs."""

    def __init__(self, database_url: str, *, answer_seconds: float) -> None:
        """Connect at the first question; every question is answered within `answer_seconds` of patience or fails."""
        self._database_url = database_url
        self._answer_seconds = answer_seconds
        self._connection: OwnConnection | None = None

    async def ask(self) -> None:
        """Begin and end an empty transaction. Raises `KeywayError`."""
        try:
            async with mapped_failures("ping"), patience(self._answer_seconds):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await open_connection(
                        self._database_url, connect_seconds=LATE_SECONDS_MAX, command_seconds=LATE_SECONDS_MAX
                    )
                async with self._connection.transaction():
                    pass  # begun and ended: two answers of the server, and no table needed
        except BaseException:
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            raise

    async def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            await close(self._connection)
