"""The business clock of a local stack in the hands of `keyway demo`: a month passes in seconds, and is given back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from keyway.cli.world_files import clock_offset_file
from keyway.ka.local_stack import Stack
from shared.clock import OFFSET_FILE_LOOKUP_SECONDS, MachineClock, SystemClock, read_offset
from shared.security.private_file import write_private_file

CLOCK_SETTLES_SECONDS = OFFSET_FILE_LOOKUP_SECONDS + 0.05


@dataclass(slots=True)
class DemoClock:
    """Both clocks of the demo: the machine's own, and the stack's business clock, which it moves."""

    offset_file: Path
    offset_before: timedelta
    system: SystemClock = field(default_factory=MachineClock)
    _day: int = field(default=0, init=False)

    def now(self) -> datetime:
        """Return the moment of the trade, aware UTC."""
        return self.system.now() + self.offset_before + timedelta(days=self._day)

    async def reach(self, day: int) -> None:
        """Make it so many days after the demo began, and return when every process of the stack knows."""
        if day != self._day:
            self.move(day)
            await self.system.sleep(CLOCK_SETTLES_SECONDS)

    def move(self, day: int) -> None:
        """Make it so many days after the demo began."""
        self._day = day
        offset = self.offset_before + timedelta(days=day)
        write_private_file(self.offset_file, f"{round(offset.total_seconds())}\n".encode())


@contextmanager
def moved_clock(stack: Stack) -> Iterator[DemoClock]:
    """Give the stack's clock for the block and put it back afterwards."""
    file = clock_offset_file(stack.state)
    clock = DemoClock(file, read_offset(file))
    try:
        yield clock
    finally:
        clock.move(0)
