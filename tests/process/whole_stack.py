"""The complete local stack as process tests treat it: kill, pause, heal, and a KA that never gives up."""

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from keyway.ka import http
from keyway.ka.client import Exchange, KeyAdministrator, Outcome
from keyway.ka.forms import Form, Order, operation_form
from keyway.ka.local_stack import Stack, StackUnavailableError
from keyway.localstack.processes import identify
from shared.clock import OFFSET_FILE_LOOKUP_SECONDS
from shared.contracts.identifiers import license_id, partition_of
from shared.contracts.topics import LICENSE_COMMANDS_PARTITIONS
from shared.kafka import ConsumedRecord

BUDGET_SECONDS = 5.0
PATIENCE_SECONDS = BUDGET_SECONDS + 10
TEST_SECONDS = 600
"""What a test on the whole stack may take at most, the start of the stack and its healing included; none comes near."""
HEALTHY_SECONDS = 120.0
"""A client that lost the group's coordinator is noticed after 20 s only; its process then starts and joins anew."""
SETTLED_SECONDS = 90.0
STEADY_SECONDS = 3.0
"""As long as sessions last: whoever is no longer a member of its group has noticed by then."""
FRESH_SECONDS = 2.5
"""Workers look at their dependencies every second; `/readyz` itself believes in them for another four."""
CLOCK_SEEN_SECONDS = 2 * OFFSET_FILE_LOOKUP_SECONDS
ASK_AGAIN_SECONDS = 0.05
PACE_SECONDS = 0.02
"""A KA breathes between requests: a load that takes every CPU would delay the very restart that is timed."""
FIRST_EXPIRY = date(2099, 1, 31)


@dataclass(slots=True)
class WholeStack:
    """The stack in a state folder; pids are read anew each time, because children come and go."""

    state: Path
    numbers: Iterator[int] = field(repr=False)
    """License numbers that nobody has used."""
    stood_still: bool = False
    """Whether something was paused: it goes on as if nothing had been, until it hears that others did without it."""

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

    async def kill(self, name: str) -> None:
        """Kill a process for good, as a power cut would; one that is just being started again is waited for."""

        async def lives() -> bool:
            return identify(self.now().pids().get(name, 0)) is not None

        await until(lives, seconds=HEALTHY_SECONDS, what=f"{name} lives")
        os.kill(self.now().pids()[name], signal.SIGKILL)

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Stop a process and everything below it from running, and let it go on afterwards."""
        self.stood_still = True
        pids = [*with_descendants(self.now().pids()[name])]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)

    async def wait_until_ready(self) -> None:
        """Return when every process lives and says that it is ready."""
        await until(self._is_healthy, seconds=HEALTHY_SECONDS, what="every process is ready")

    async def wait_until_healthy(self) -> None:
        """Return when every process is ready and a purchase is not refused."""
        await self.wait_until_ready()
        for gateway in range(len(self.now().gateways)):
            await self._close_circuits(gateway)

    async def wait_until_steady(self) -> None:
        """Return when the stack has been healthy, by news and not by memory, for as long as sessions last."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        since = time.monotonic()
        while time.monotonic() - since < STEADY_SECONDS:
            assert time.monotonic() < deadline, f"not steady within {HEALTHY_SECONDS:g} s"
            await asyncio.sleep(ASK_AGAIN_SECONDS)
            if not await self._is_healthy(age_seconds=FRESH_SECONDS):
                since = time.monotonic()
        await self.wait_until_healthy()

    async def is_ready(self, name: str) -> bool:
        """Whether the process of that name lives and says that it is ready."""
        found = next((process for process in self.now().processes if process.name == name), None)
        if found is None or identify(found.pid) is None:
            return False
        return found.admin is None or await is_ready(found.admin)

    async def _is_healthy(self, age_seconds: float = float("inf")) -> bool:
        try:
            processes = self.now().processes
        except StackUnavailableError:
            return False
        if not all(identify(process.pid) for process in processes):
            return False
        return all([await is_ready(each.admin, age_seconds) for each in processes if each.admin is not None])

    async def _close_circuits(self, gateway: int) -> None:
        """Let one KA try each partition that the gateway distrusts: until then several at once would be refused."""

        async def all_trusted() -> bool:
            return await open_circuits(admin) == 0

        admin = next(each.admin for each in self.now().processes if each.name == f"gateway-{gateway}")
        if await all_trusted():
            return
        administrator = self.administrators()[gateway]
        untried = set(range(LICENSE_COMMANDS_PARTITIONS))
        while untried:
            wanted = order(next(self.numbers))
            key = license_id(administrator.account, wanted.number).encode()
            partition = partition_of(key, LICENSE_COMMANDS_PARTITIONS)
            if partition in untried:
                untried.remove(partition)
                await settled([administrator], operation_form("PURCHASE", wanted))
        await until(all_trusted, seconds=HEALTHY_SECONDS, what="no circuit is open")


async def is_ready(admin: str, age_seconds: float = float("inf")) -> bool:
    """Whether the process with that admin address says that it is ready, by answers not older than `age_seconds`."""
    try:
        answer = await asked(admin, "/readyz")
    except http.NoAnswerError:
        return False
    if answer.status != 200:
        return False
    lines = [line for line in json.loads(answer.body)["dependencies"] if line["stale_after_seconds"] is not None]
    return all(line["age_seconds"] <= age_seconds for line in lines)


async def open_circuits(admin: str) -> int | None:
    """Return how many command partitions a gateway distrusts; None when it does not tell."""
    try:
        answer = await asked(admin, "/metrics")
    except http.NoAnswerError:
        return None
    told = re.search(rb"^keyway_gateway_circuits_open(?:\{.*\})? ([0-9.]+)$", answer.body, re.MULTILINE)
    assert told is not None, "the gauge has another name now"
    return int(float(told[1]))


async def asked(admin: str, page: str) -> http.Answer:
    """Return a page of an admin port. Raises `NoAnswerError`."""
    address = http.Address.of(admin + page)
    return await http.exchange(address, http.render(address, {}, b"", method="GET"), timeout_seconds=5)


def with_descendants(pid: int) -> Iterator[int]:
    """Yield `pid` and everything that runs below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from with_descendants(int(child))


def move_clock(state: Path, day: str) -> None:
    """Move the stack's business clock to noon of `day`, and return when every process has looked at it."""
    command = [sys.executable, "-m", "keyway", "clock", "set", f"{day}T12:00", "--state-dir", str(state)]
    subprocess.run(command, check=True, capture_output=True)
    time.sleep(CLOCK_SEEN_SECONDS)


async def settled(administrators: Sequence[KeyAdministrator], form: Form) -> Exchange:
    """Ask the administrators in turn, as KA does, until the answer is no longer unknown; fail when that never comes."""
    turns = itertools.cycle(administrators)
    return await known(lambda: next(turns).send(form))


async def known(ask: Callable[[], Awaitable[Exchange]]) -> Exchange:
    """Ask until the answer is no longer unknown; fail when that never comes."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while (exchange := await ask()).outcome is Outcome.INFO:
        assert time.monotonic() < deadline, f"not settled within {SETTLED_SECONDS:g} s: {exchange}"
        await asyncio.sleep(ASK_AGAIN_SECONDS)
    return exchange


async def whole_topic(bootstrap: str, topic: str, partitions: int) -> list[ConsumedRecord]:
    """Return every record that stands on a topic now, copies included, in the order of each partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        every = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(every)
        ends = await consumer.end_offsets(every)
        found: list[ConsumedRecord] = []
        deadline = time.monotonic() + SETTLED_SECONDS
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            assert time.monotonic() < deadline, f"{topic} is not read within {SETTLED_SECONDS:g} s"
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += records
        return found
    finally:
        await consumer.stop()


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
