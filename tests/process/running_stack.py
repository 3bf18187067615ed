"""A local stack in a process of its own, for tests that kill things: start it, look at it, wait for what follows."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyway.localstack.folders import CHECKOUT
from keyway.localstack.processes import Identity, identify

READY_SECONDS = 120.0
STOP_SECONDS = 120.0


@dataclass(slots=True)
class RunningStack:
    """The parent process of a local stack with dummy children, and its state folder."""

    state: Path
    process: subprocess.Popen[str]
    output: Path
    seen: list[Identity] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return `endpoints.json` as it is now."""
        document: dict[str, Any] = json.loads((self.state / "endpoints.json").read_text())
        return document

    def pid(self, name: str) -> int:
        """Return the pid that `endpoints.json` gives for a child."""
        return next(int(entry["pid"]) for entry in self.document()["processes"] if entry["name"] == name)

    def text(self) -> str:
        """Return what the parent printed so far."""
        return self.output.read_text()

    def children(self) -> list[Identity]:
        """Return everything that runs because of this stack, grandchildren included."""
        below = [self.process.pid]
        found: list[Identity] = []
        while below:
            parent = below.pop()
            with suppress(OSError):
                for task in Path(f"/proc/{parent}/task").iterdir():
                    pids = [int(pid) for pid in (task / "children").read_text().split()]
                    found += [identity for pid in pids if (identity := identify(pid)) is not None]
                    below += pids
        return found

    async def kill_child(self, name: str) -> float:
        """Kill a child with SIGKILL; return the seconds until `endpoints.json` names a living successor."""
        old = self.pid(name)
        began = time.monotonic()
        os.kill(old, signal.SIGKILL)
        await until(lambda: self.pid(name) != old and identify(self.pid(name)) is not None, seconds=60)
        return time.monotonic() - began

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask the parent to stop; return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def launch(state: Path, environment: Mapping[str, str] | None = None, **options: Any) -> RunningStack:
    """Start a stack and return at once."""
    state.mkdir(parents=True, exist_ok=True)
    output = state.with_name(f"{state.name}.out")
    with output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.process.dummy_stack", json.dumps({"state": str(state), **options})],
            cwd=CHECKOUT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return RunningStack(state, process, output)


@asynccontextmanager
async def running(
    state: Path, environment: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[RunningStack]:
    """Start a stack, wait until it is ready, and end it afterwards whatever happened."""
    stack = launch(state, environment, **options)
    try:
        await until(
            lambda: "ready after" in stack.text() or stack.process.poll() is not None,  # an old file may still be there
            seconds=READY_SECONDS,
        )
        assert stack.process.poll() is None, stack.text()
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()


async def until(true: Callable[[], bool], *, seconds: float) -> float:
    """Wait until something is true and return how long that took; fail when it does not become true in time."""
    began = time.monotonic()
    while True:
        with suppress(OSError, ValueError, StopIteration):
            if true():
                return time.monotonic() - began
        assert time.monotonic() - began < seconds, f"not true within {seconds} s"
        await asyncio.sleep(0.02)
