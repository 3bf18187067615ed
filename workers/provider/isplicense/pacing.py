"""How fast an account may call: a token bucket, because nobody says where the panel's own limit lies (4.3)."""

from shared.clock import SystemClock


class CallPacer:
    """Lets `burst` calls through at once and then `per_second`; the rest wait their turn, in order."""

    def __init__(self, clock: SystemClock, *, per_second: float = 2.0, burst: int = 4) -> None:
        self._clock = clock
        self._gap_seconds = 1.0 / per_second
        self._burst = burst
        self._free_at = clock.monotonic() - burst * self._gap_seconds

    async def turn(self) -> None:
        """Wait for a turn. A turn that is canceled while waiting is lost, which only slows down."""
        now = self._clock.monotonic()
        self._free_at = max(self._free_at, now - self._burst * self._gap_seconds) + self._gap_seconds
        wait_seconds = self._free_at - now
        if wait_seconds > 0:
            await self._clock.sleep(wait_seconds)
