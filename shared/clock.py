"""Two clocks, never mixed: the business clock tells dates of the trade, the system clock drives the machine.

`BusinessClock` answers "which day is it for a license" (expiry, lapse, event times). In the local stack it can be moved
through a small file, so that a year passes in seconds. `SystemClock` serves deadlines, leases, retries and ids; nothing
ever moves it. Only this module reads the machine's time or sleeps.
"""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

OFFSET_FILE_LOOKUP_SECONDS = 0.2


class BusinessClock(Protocol):
    """The time of the trade, aware UTC."""

    def now(self) -> datetime:
        """Return the present moment of the trade."""
        ...


class SystemClock(Protocol):
    """The machine's own time."""

    def now(self) -> datetime:
        """Return the wall clock, aware UTC: for deadlines that cross processes."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump: for deadlines inside one process."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        ...


class SendClock(SystemClock, Protocol):
    """The machine's own time, and one that goes on while the machine itself is suspended."""

    def since_boot(self) -> float:
        """Return seconds that never jump and leave out no suspend: for what must not happen late (isplicense 9.3)."""
        ...


class MachineClock:
    """Both clocks read from the machine, unmoved."""

    def now(self) -> datetime:
        """Return the wall clock, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the monotonic clock, seconds."""
        return time.monotonic()

    def since_boot(self) -> float:
        """Return the boot clock, seconds; the monotonic one where the machine has none."""
        boot = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boot is None else time.clock_gettime(boot)

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        await asyncio.sleep(seconds)


@dataclass(slots=True)
class MovableBusinessClock:
    """The machine's time plus an offset read from a file: the local stack's time machine.

    The file holds one integer, seconds to add (see `keyway clock`); a missing or unreadable file counts as 0. It is
    looked at again at most every `OFFSET_FILE_LOOKUP_SECONDS`.
    """

    offset_file: Path
    _offset: timedelta = field(default=timedelta(0), init=False)
    _looked_at: float = field(default=float("-inf"), init=False)

    def now(self) -> datetime:
        """Return the moved present, aware UTC."""
        moment = time.monotonic()
        if moment - self._looked_at >= OFFSET_FILE_LOOKUP_SECONDS:
            self._looked_at = moment
            self._offset = read_offset(self.offset_file)
        return datetime.now(UTC) + self._offset


def read_offset(offset_file: Path) -> timedelta:
    """Return the offset stored in `offset_file`, zero when there is none."""
    try:
        return timedelta(seconds=int(offset_file.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return timedelta(0)


def business_clock(offset_file: Path | None) -> BusinessClock:
    """Return the movable clock where a file is named (local stack), else the machine's."""
    return MachineClock() if offset_file is None else MovableBusinessClock(offset_file)
