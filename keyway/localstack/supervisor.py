"""Keeping children alive: who dies is started again, who is told to stop stops in order, nobody is left behind.

A child killed from outside comes back at once. One that ends by itself soon after its start comes back after a pause
that doubles, so that a crash loop does not eat the machine; while the stack is still starting, it ends the start,
however long each of its lives took.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from keyway.localstack.processes import (
    Launch,
    LocalStackError,
    describe_exit,
    identify,
    log_tail,
    start,
    write_record,
)

QUICK_DEATH_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_AFTER_KILL_SECONDS = 0.8
QUICK_DEATHS_AT_START_MAX = 3
AFTER_KILL_SECONDS = 30.0


class Stage(IntEnum):
    """The order of starting; stopping goes the other way."""

    POSTGRES = 0
    KAFKA = 1
    SANDBOX = 2
    WORKERS = 3
    GATEWAYS = 4


@dataclass(slots=True)
class Child:
    """One supervised child and what became of it so far."""

    launch: Launch
    stage: Stage
    process: subprocess.Popen[bytes] | None = None
    quick_deaths: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def runs(self) -> bool:
        """Whether its process is alive now."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Starts children in a task group and keeps them; `record` tells the next run what to reap."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        record: Path,
        *,
        say: Callable[[str], None],
        on_change: Callable[[Sequence[Child]], None],
    ) -> None:
        self._tasks = tasks
        self._record = record
        self._say = say
        self._on_change = on_change
        self.children: list[Child] = []
        self.starting = True

    def keep(self, launch: Launch, stage: Stage) -> None:
        """Start a child now and again whenever it ends."""
        child = Child(launch, stage)
        self.children.append(child)
        self._start(child)  # at once, so that a caller who waits for its readiness waits for a process
        self._tasks.create_task(self._keep(child), name=f"keep {launch.name}")

    async def stop_all(self) -> None:
        """Stop every child, the last stage first, each within its own time."""
        for stage in reversed(Stage):
            await asyncio.gather(*(self._stop(child) for child in self.children if child.stage is stage))
        write_record(self._record, [])

    def kill_all(self) -> None:
        """Kill every child at once: somebody lost patience with `stop_all`."""
        for child in self.children:
            child.stopping.set()
            if child.process is not None and child.runs:
                child.process.kill()

    async def _keep(self, child: Child) -> None:
        while not child.stopping.is_set():
            began = time.monotonic()
            ending = await self._ending(child)
            if child.stopping.is_set():
                return
            # On a busy machine even the import of a program that cannot start takes its time.
            quick = self.starting or time.monotonic() - began < QUICK_DEATH_SECONDS
            child.quick_deaths = child.quick_deaths + 1 if quick else 0
            if self.starting and child.quick_deaths >= QUICK_DEATHS_AT_START_MAX:
                name, log = child.launch.name, child.launch.log
                raise LocalStackError(f"{name} keeps ending ({ending}); {log} ends:\n{log_tail(log)}")
            pause = pause_before_restart(child.quick_deaths, killed="SIGKILL" in ending or "SIGTERM" in ending)
            self._say(f"{child.launch.name} ended ({ending}); starting it again in {pause:.1f} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(child.stopping.wait(), pause)
            if not child.stopping.is_set():
                self._start(child)

    async def _ending(self, child: Child) -> str:
        if child.process is None:
            return "it could not be started"
        return describe_exit(await ended(child.process))

    def _start(self, child: Child) -> None:
        child.process = None
        try:
            child.process = start(child.launch)
        except (OSError, LocalStackError) as error:
            self._say(f"{child.launch.name} could not be started: {error}")
            return
        alive = (identify(other.process.pid) for other in self.children if other.process is not None)
        write_record(self._record, [identity for identity in alive if identity is not None])
        self._on_change(self.children)

    async def _stop(self, child: Child) -> None:
        child.stopping.set()
        process = child.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(child.launch.stop_signal)
        process.send_signal(signal.SIGCONT)  # a paused child could not stop in order
        try:
            async with asyncio.timeout(child.launch.stop_seconds):
                await ended(process)
        except TimeoutError:
            self._say(f"{child.launch.name} did not stop within {child.launch.stop_seconds:g} s; killing it")
            process.kill()
            async with asyncio.timeout(AFTER_KILL_SECONDS):
                await ended(process)
            child.launch.clear_remains()


def pause_before_restart(quick_deaths: int, *, killed: bool) -> float:
    """Return the seconds to wait before starting a child again after so many quick deaths in a row."""
    longest = LONGEST_PAUSE_AFTER_KILL_SECONDS if killed else LONGEST_PAUSE_SECONDS
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(quick_deaths, 16), longest)


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a child without a thread or polling; return how it ended."""
    if process.poll() is None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        descriptor = os.pidfd_open(process.pid)
        loop.add_reader(descriptor, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
    return process.wait()
