"""A whole gateway with PostgreSQL and Kafka of its own: start, pauses of either server, and the orderly end.

Commands are answered by a stand-in for the license worker; that is enough to see what the gateway does.
"""

import asyncio
import base64
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.app import run
from keyway.cli.topics import apply_topics
from keyway.localstack.installation import Installation
from keyway.localstack.kafka import KafkaServer
from keyway.localstack.ports import PortReservations
from keyway.localstack.postgres import PostgresServer
from keyway.localstack.processes import start
from shared.database.accounts import PostgresAccounts
from shared.database.migrate import migrate
from shared.database.pool import open_pool
from shared.errors import KeywayError
from shared.security.account_secrets import hash_secret
from shared.security.accounts import Role
from shared.settings import Settings, load_settings
from tests.fakes.replier import Replier, replying
from tests.stack import temporary_state

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.services, pytest.mark.timeout(300)]

BUDGET_SECONDS = 4.0
START_SECONDS = 90.0
PATIENCE_SECONDS = 30.0
STOP_SECONDS = 30.0
STEADY_ASKS = 50
"""So many answers in a row show that a server is served again for good."""


@dataclass(frozen=True)
class Servers:
    """Pids and settings of the servers of this module."""

    settings: Settings
    pids: dict[str, int]

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Stop a server and its children, and let them go on."""
        pids = list(with_descendants(self.pids[name]))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)


def with_descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from with_descendants(int(child))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(local_installation: Installation) -> AsyncIterator[Servers]:
    installed, ports = local_installation, PortReservations()
    with ExitStack() as stack:
        stack.callback(ports.release)
        state = stack.enter_context(temporary_state())
        postgres = PostgresServer(binaries=installed.binaries, state=state, port=ports.take(), durable=False)
        kafka = KafkaServer(
            java=installed.java,
            class_path=installed.class_path,
            cache=installed.cache,
            state=state,
            port=ports.take(),
            controller_port=ports.take(),
        )
        pids = {}
        for name, server in (("postgres", postgres), ("kafka", kafka)):
            server.initialize()
            process = start(server.launch())
            stack.callback(process.wait, STOP_SECONDS)
            stack.callback(process.send_signal, server.launch().stop_signal)
            await server.wait_until_ready(seconds=START_SECONDS)
            pids[name] = process.pid
        settings = load_settings(
            {
                "KEYWAY_DATABASE_URL": postgres.url,
                "KEYWAY_KAFKA_BOOTSTRAP": kafka.bootstrap,
                "KEYWAY_REPLY_BUDGET_SECONDS": str(BUDGET_SECONDS),
                "KEYWAY_HTTP_PORT": str(ports.take()),
                "KEYWAY_ADMIN_PORT": str(ports.take()),
            }
        )
        await migrate(postgres.url)
        await apply_topics(settings)
        async with open_pool(postgres.url) as pool:
            await PostgresAccounts(pool).add("ka", Role.KA, hash_secret("secret"))
        yield Servers(settings, pids)


@dataclass(frozen=True)
class Life:
    """A running gateway."""

    settings: Settings
    stop: asyncio.Event
    ended: asyncio.Task[None]

    async def ask(self, number: int) -> tuple[int, str, float]:
        """Send a PURCHASE; returns status, head and seconds, or status 0 when the connection was refused or cut."""
        form = f"APS_ACTION=PURCHASE&PURCHASE_ID={number}&PRODUCT_ID=Bronze&EXPIRY_DATE=15/03/2027".encode()
        pair = base64.b64encode(b"ka:secret").decode()
        head = (
            f"POST /isv HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Basic {pair}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
        )
        return await self._exchange(self.settings.http_port, head.encode() + form)

    async def until_ready(self, status: int) -> None:
        """Wait until `/readyz` has `status`."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while (told := (await self._exchange(self.settings.admin_port, got("/readyz")))[0]) != status:
            assert time.monotonic() < ends, f"{told}, not {status}"
            await asyncio.sleep(0.05)

    async def until_waiting(self, count: int) -> None:
        """Wait until so many callers wait for their reply."""
        ends = time.monotonic() + PATIENCE_SECONDS
        wanted = f"keyway_gateway_pending_replies {float(count)}"
        while wanted not in (await self._exchange(self.settings.admin_port, got("/metrics")))[1].splitlines():
            assert time.monotonic() < ends, f"never: {wanted}"
            await asyncio.sleep(0.05)

    async def until(self, number: int, status: int) -> None:
        """Ask until the answer has `status`."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while (answer := await self.ask(number))[0] != status:
            assert time.monotonic() < ends, answer
            await asyncio.sleep(0.05)

    async def until_steady(self) -> None:
        """Ask until `STEADY_ASKS` in a row are answered: a broker just resumed may lose and regain its partitions."""
        ends = time.monotonic() + PATIENCE_SECONDS
        answered = 0
        while answered < STEADY_ASKS:
            answer = await self.ask(answered)
            answered = answered + 1 if answer[0] == 200 else 0
            assert time.monotonic() < ends, answer

    async def _exchange(self, port: int, data: bytes) -> tuple[int, str, float]:
        """Return status, the whole answer and seconds."""
        started = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return 0, "", time.monotonic() - started
        try:
            writer.write(data)
            answer = (await reader.read()).decode()
        except OSError:
            answer = ""
        finally:
            writer.close()
        status = int(answer.split(" ")[1]) if answer else 0
        return status, answer, time.monotonic() - started


def got(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


@pytest_asyncio.fixture(loop_scope="module")
async def replier(servers: Servers) -> AsyncIterator[Replier]:
    async with replying(servers.settings.kafka_bootstrap, "") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def life(servers: Servers, replier: Replier) -> AsyncIterator[Life]:
    assert replier.paused.is_set()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        made = Life(servers.settings, stop, group.create_task(run(servers.settings, stop)))
        await made.until(1, 200)
        yield made
        stop.set()


async def test_a_paused_server_is_refused_early_and_served_again_without_a_restart(
    servers: Servers, life: Life
) -> None:
    for server in ("kafka", "postgres"):
        await life.until_ready(200)
        async with asyncio.TaskGroup() as group:
            with servers.paused(server):
                caught = group.create_task(life.ask(1))
                await life.until_ready(503)
                status, answer, seconds = await life.ask(2)
                assert (status, "Retry-After: 5" in answer) == (503, True), server
                assert seconds < BUDGET_SECONDS, "refused without a wait for the budget"
                await asyncio.sleep(BUDGET_SECONDS + 2)
        if server == "kafka":
            assert caught.result()[0] == 504
            assert BUDGET_SECONDS <= caught.result()[2] < 2 * BUDGET_SECONDS
        await life.until_steady()


async def test_the_end_answers_who_waits_and_refuses_who_comes(life: Life, replier: Replier) -> None:
    replier.paused.clear()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(life.ask(number)) for number in range(20)]
        await life.until_waiting(20)
        life.stop.set()
        await life.until_ready(503)
        assert (await life.ask(99))[0] == 0
        replier.paused.set()
    assert [task.result()[0] for task in waiting] == [200] * 20
    async with asyncio.timeout(STOP_SECONDS):
        await life.ended


async def test_the_end_comes_within_the_budget_when_nobody_answers(life: Life, replier: Replier) -> None:
    replier.paused.clear()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(life.ask(7))
        await life.until_waiting(1)
        life.stop.set()
        async with asyncio.timeout(STOP_SECONDS):
            await life.ended
    assert waiting.result()[0] == 504
    replier.paused.set()


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("KEYWAY_KAFKA_BOOTSTRAP", "127.0.0.1:9", "KEYWAY_KAFKA_BOOTSTRAP"),
        ("KEYWAY_DATABASE_URL", "postgresql://x:y@127.0.0.1:9/x", "database"),
        ("KEYWAY_TOPIC_PREFIX", "absent.", "keyway topics apply"),
    ],
)
async def test_a_start_that_cannot_succeed_says_in_one_line_why(
    servers: Servers, variable: str, value: str, hint: str
) -> None:
    settings = servers.settings
    environment = {
        "KEYWAY_DATABASE_URL": settings.database_url.get_secret_value(),
        "KEYWAY_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "KEYWAY_ADMIN_PORT": "0",
        variable: value,
    }
    with pytest.raises((KeywayError, ExceptionGroup)) as caught:
        await run(load_settings(environment), asyncio.Event())
    error: BaseException = caught.value
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, KeywayError)
    assert hint in str(error)
    assert "\n" not in str(error)
