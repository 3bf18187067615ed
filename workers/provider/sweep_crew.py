"""Sweeps in this process, each by one task: begun by bells, not waited for by them.

A sweep that fails for want of a machine is not tried again here: it has a lease, and the scheduler rings for it when
that is over. So are those for which there is no room.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from shared.errors import KeywayError

SWEEPS_AT_ONCE = 16
"""More than a process has provider accounts with something to compare."""

log = structlog.get_logger()


@dataclass(slots=True)
class SweepCrew:
    """Carries sweeps through `carry` as long as `run` runs."""

    carry: Callable[[UUID], Awaitable[None]]
    at_once: int = SWEEPS_AT_ONCE
    _group: asyncio.TaskGroup | None = field(default=None, init=False)
    _ready: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _carried: set[UUID] = field(default_factory=set, init=False)

    @property
    def carried_count(self) -> int:
        """Sweeps begun and not left yet."""
        return len(self._carried)

    async def run(self) -> None:
        """Hold the tasks until canceled; a sweep under way then waits for its lease to end."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._ready.set()
            await asyncio.Event().wait()

    async def begin(self, sweep_ids: Sequence[UUID]) -> None:
        """Begin those that are not carried already, as far as there is room."""
        await self._ready.wait()
        assert self._group is not None  # noqa: S101 - set before `_ready`
        for sweep_id in sweep_ids:
            if sweep_id not in self._carried and len(self._carried) < self.at_once:
                self._carried.add(sweep_id)
                self._group.create_task(self._carry(sweep_id))

    async def _carry(self, sweep_id: UUID) -> None:
        try:
            await self.carry(sweep_id)
        except KeywayError as error:
            log.warning("provider.sweep.postponed", event_id=sweep_id, detail=error, code=error.code)
        except Exception:
            log.exception("provider.sweep.tripped", event_id=sweep_id)  # a defect must not stop the others
        finally:
            self._carried.discard(sweep_id)
