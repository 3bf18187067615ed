"""The complete local stack as process tests treat it: kill, pause, heal, and a KA that never gives up."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

from keyway.ka import http
from keyway.ka.client import Exchange, KeyAdministrator, Outcome
from keyway.ka.forms import Order, operation_form
from keyway.ka.local_stack import Stack, StackUnavailableError
from keyway.localstack.processes import identify

BUDGET_SECONDS = 5.0
PATIENCE_SECONDS = BUDGET_SECONDS + 10
HEALTHY_SECONDS = 30.0
ASK_AGAIN_SECONDS = 0.05
PACE_SECONDS = 0.02
"""A KA breathes between requests: a load that takes every CPU would delay the very restart that is timed."""
FIRST_EXPIRY = date(2099, 1, 31)


@dataclass(frozen=True, slots=True)
class WholeStack:
    """The stack in a state folder; pids are read anew each time, because children come and go."""

    state: Path

    def now(self) -> Stack:
        """Return the stack as `endpoints.json` describes it now."""
        return Stack.read(self.state)

    def administrators(self) -> list[KeyAdministrator]:
        """Return one KA per gateway."""
        stack = self.now()
        gateways = range(len(stack.gateways))
        return [stack.administrator(gateway, patience_seconds=PATIENCE_SECONDS) for gateway in gateways]

    def pids_of(self, role: str) -> list[int]:
        """Return the pids of a role."""
        return [process.pid for process in self.now().processes if process.role == role]

    def gateway_complaints(self, since: str) -> list[str]:
        """Return what the gateways logged about failed requests and lost dependencies after the moment `since`."""
        lines = [line for log in sorted(self.state.glob("logs/gateway-*.log")) for line in log.read_text().splitlines()]
        told = [line for line in lines if '"gateway.dependency.' in line or '"gateway.request.failed"' in line]
        return [line for line in told if line.partition('"at":"')[2] > since]

    def kill(self, name: str) -> None:
        """Kill a process for good, as a power cut would."""
        os.kill(self.now().pids()[name], signal.SIGKILL)

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Stop a process and everything below it from running, and let it go on afterwards."""
        pids = [*with_descendants(self.now().pids()[name])]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)

    async def wait_until_healthy(self) -> None:
        """Return when every process lives and says that it is ready, and a purchase is not refused."""
        await until(self._is_healthy, seconds=HEALTHY_SECONDS, what="every process is ready")

    async def _is_healthy(self) -> bool:
        try:
            processes = self.now().processes
        except StackUnavailableError:
            return False
        if not all(identify(process.pid) for process in processes):
            return False
        return all([await is_ready(process.admin) for process in processes if process.admin is not None])


async def is_ready(admin: str) -> bool:
    """Whether the process with that admin address says that it is ready."""
    address = http.Address.of(f"{admin}/readyz")
    try:
        request = http.render(address, {}, b"", method="GET")
        return (await http.exchange(address, request, timeout_seconds=2)).status == 200
    except http.NoAnswerError:
        return False


def with_descendants(pid: int) -> Iterator[int]:
    """Yield `pid` and everything that runs below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from with_descendants(int(child))


def move_clock(state: Path, day: str) -> None:
    """Move the stack's business clock to noon of `day`."""
    command = [sys.executable, "-m", "keyway", "clock", "set", f"{day}T12:00", "--state-dir", str(state)]
    subprocess.run(command, check=True, capture_output=True)


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float, what: str) -> None:
    """Return once `condition` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(ASK_AGAIN_SECONDS)


def order(number: int, *, product: str = "Bronze", expires_on: date = FIRST_EXPIRY) -> Order:
    """Return an order for a fresh license."""
    return Order(number=f"{number:08}", product=product, expires_on=expires_on)


@dataclass(slots=True)
class Load:
    """KAs that buy and renew license after license, each asking again until it is answered; keeps every exchange."""

    administrators: Sequence[KeyAdministrator]
    numbers: Iterator[int]
    history: list[Exchange] = field(default_factory=list)
    stopping: bool = False

    async def play(self, first: int) -> None:
        """Play licenses one after the other until told to stop; `first` picks the gateway to begin with."""
        turn = first
        while not self.stopping:
            bought = order(next(self.numbers))
            renewed = replace(bought, expires_on=FIRST_EXPIRY + timedelta(days=28))
            for action, wanted in (("PURCHASE", bought), ("RENEW", renewed), ("RENEW", renewed), ("PURCHASE", bought)):
                turn = await self._until_settled(action, wanted, turn)
                await asyncio.sleep(PACE_SECONDS)

    async def _until_settled(self, action: str, wanted: Order, turn: int) -> int:
        """Ask until the answer is no longer unknown, each time at the next gateway; return the next turn."""
        while True:
            administrator = self.administrators[turn % len(self.administrators)]
            exchange = await administrator.send(operation_form(action, wanted))
            self.history.append(exchange)
            turn += 1
            if exchange.outcome is not Outcome.INFO:
                return turn
            await asyncio.sleep(ASK_AGAIN_SECONDS)


@asynccontextmanager
async def load(stack: WholeStack, numbers: Iterator[int], players: int = 8) -> AsyncIterator[Load]:
    """Run `players` at once for the time of a block, then let each finish its license."""
    playing = Load(stack.administrators(), numbers)
    async with asyncio.TaskGroup() as tasks:
        for first in range(players):
            tasks.create_task(playing.play(first))
        try:
            yield playing
        finally:
            playing.stopping = True
