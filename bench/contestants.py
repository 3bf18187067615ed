"""The three contestants as processes: the complete system, the echo (A) and the synchronous endpoint (B).

All use the same PostgreSQL and Kafka (the system's own, with durable settings) and one HTTP process each.
"""

import asyncio
import json
import secrets
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.echo import COMMANDS_TOPIC, REPLIES_TOPIC, EchoPlan
from bench.synchronous import SynchronousPlan, prepare_database
from keyway.ka.local_stack import Stack
from keyway.localstack.ports import LOOPBACK, PortReservations
from shared.contracts.topics import LICENSE_COMMANDS_PARTITIONS

READY_SECONDS = 30.0
STOP_SECONDS = 15.0
LOOK_AGAIN_SECONDS = 0.05
COMMAND_BYTES = 540
"""A PURCHASE as an envelope on `license.commands`: what the load generator's requests become."""
REPLY_BYTES = 330
"""Its reply: the frame's head and a signed license body."""
ACCOUNT = "ka"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One contestant that runs and waits for requests."""

    name: str
    """`S`, `A`, `B` or `H`."""
    port: int
    account: str
    secret: str = field(repr=False)
    processes: Mapping[str, int]
    """Pids of everything that works for it, by name."""
    beside: Callable[[], AbstractContextManager[None]] = nullcontext
    """What is to happen beside each of its measurements, warm-up included."""


class ContestantFailedError(Exception):
    """A contestant did not start; the text ends with its log."""


def system(stack: Stack) -> Contestant:
    """Return the complete system as a contestant: its first gateway and every process of the stack."""
    port = int(stack.gateways[0].rpartition(":")[2])
    return Contestant(name="S", port=port, account=stack.account, secret=stack.secret, processes=stack.pids())


@contextmanager
def echo(stack: Stack, ports: PortReservations) -> Iterator[Contestant]:
    """Run baseline A beside the stack's Kafka for the time of a block."""
    asyncio.run(_create_echo_topics(stack.kafka))
    secret, port = secrets.token_urlsafe(16), ports.take()
    plan = asdict(
        EchoPlan(
            bootstrap=stack.kafka,
            port=port,
            authorization=_basic(secret),
            command_bytes=COMMAND_BYTES,
            reply_bytes=REPLY_BYTES,
        )
    )
    with (
        contestant_process("bench.echo", "echo", plan, stack.state) as echoing,
        contestant_process("bench.echo", "http", plan, stack.state) as http,
    ):
        pids = {"a-http": http.pid, "a-echo": echoing.pid, "kafka": stack.pids()["kafka"]}
        yield Contestant(name="A", port=port, account=ACCOUNT, secret=secret, processes=pids)


@contextmanager
def synchronous(stack: Stack, ports: PortReservations, pool_size: int) -> Iterator[Contestant]:
    """Run baseline B on a database of its own in the stack's PostgreSQL for the time of a block."""
    database = asyncio.run(prepare_database(stack.database))
    secret, port = secrets.token_urlsafe(16), ports.take()
    plan = asdict(
        SynchronousPlan(
            database=database, port=port, authorization=_basic(secret), account=ACCOUNT, pool_size=pool_size
        )
    )
    with contestant_process("bench.synchronous", "http", plan, stack.state) as http:
        pids = {"b-http": http.pid, "postgres": stack.pids()["postgres"]}
        yield Contestant(name="B", port=port, account=ACCOUNT, secret=secret, processes=pids)


def _basic(secret: str) -> str:
    return "Basic " + b64encode(f"{ACCOUNT}:{secret}".encode()).decode("ascii")


@contextmanager
def contestant_process(
    module: str, role: str, plan: Mapping[str, object], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m module role JSON` for the time of a block, once it has said that it is ready.

    Raises `ContestantFailedError` with the end of its log when it does not.
    """
    log = folder / f"{module}-{role}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, role, json.dumps(plan)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while b"ready" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ContestantFailedError(f"{module} {role} did not start: {log.read_bytes()[-2000:].decode()}")
            time.sleep(LOOK_AGAIN_SECONDS)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


async def _create_echo_topics(bootstrap: str) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        known = await client.list_topics()
        wanted = {COMMANDS_TOPIC: LICENSE_COMMANDS_PARTITIONS, REPLIES_TOPIC: 1}
        missing = [
            NewTopic(name=name, num_partitions=count, replication_factor=1)
            for name, count in wanted.items()
            if name not in known
        ]
        if missing:
            await client.create_topics(missing)
    finally:
        await client.close()


__all__ = ["LOOPBACK", "Contestant", "ContestantFailedError", "contestant_process", "echo", "synchronous", "system"]
