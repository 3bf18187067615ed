"""How far `usage.reported` is taken in, for those who wait for it."""

from shared.database.pool import Pool, borrowed
from shared.domain.usage import dense


class PostgresUsageWatermark:
    """The stored watermark."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self) -> tuple[int, ...]:
        """Return the offset to read next per partition, from partition 0. Raises `UnavailableError`."""
        async with borrowed(self._pool, "read usage watermark") as connection:
            rows = await connection.fetch("SELECT partition, next_offset FROM usage_watermark")
        return dense({row["partition"]: row["next_offset"] for row in rows})
