"""The day partitions of `command_result`: made ahead, so that forgetting a day is dropping a table."""

from datetime import date

from shared.database.failures import mapped_failures
from shared.database.pool import Connection

DAYS_AHEAD = 14


async def ensure_command_result_days(connection: Connection, first_day: date, days: int = DAYS_AHEAD) -> int:
    """Make the missing partitions of `days` days from `first_day` (UTC) on; return how many were made.

    Safe from several processes at once and quick when nothing is missing. A day without partition is no fault: its
    rows go to the default partition. Raises `UnavailableError`.
    """
    async with mapped_failures("ensure command_result days"):
        return int(await connection.fetchval("SELECT ensure_command_result_days($1, $2)", first_day, days))
