"""System clocks for tests: time that only the test, or sleeping, moves."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(2027, 2, 5, tzinfo=UTC)


class TimeEndedError(Exception):
    """The clock was told to run for so many sleeps only."""


class ManualSystemClock:
    """Stands still until it is moved; sleeping moves it at once. Raises `TimeEndedError` after `sleeps_max` sleeps."""

    def __init__(self, *, sleeps_max: int | None = None) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []
        self.sleeps_max = sleeps_max

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        if len(self.slept) == self.sleeps_max:
            raise TimeEndedError
        self.slept.append(seconds)
        self.seconds += seconds
