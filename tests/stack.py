"""Real servers for tests: one PostgreSQL and one Kafka per session, started on first use; unit tests never start them.

`postgres_server` and `kafka_server` give the addresses; `database_url` a fresh, migrated database per test;
`topic_prefix` a prefix per test, whose topics are deleted afterwards. External servers are used instead where
`KEYWAY_DATABASE_URL` / `KEYWAY_KAFKA_BOOTSTRAP` are set. With `KEYWAY_TEST_REUSE=1` the servers outlive the session and
the next one finds them; `python -m tests.stack` stops them.

The servers share the download cache with `make up`. They forget quickly (no fsync): a test that kills a server and
wants to see what survived starts its own, durable one.
"""

import asyncio
import hashlib
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient
from filelock import FileLock

from keyway.localstack.folders import cache_folder
from keyway.localstack.installation import Installation, install
from keyway.localstack.kafka import KafkaServer
from keyway.localstack.ports import PortReservations
from keyway.localstack.postgres import PostgresServer
from keyway.localstack.processes import Identity, identify, kill_and_wait, read_record, start, write_record
from shared.settings import Settings, load_settings

START_SECONDS = 90.0
STOP_SECONDS = 30.0
SERVICE_FIXTURES = {"postgres_server", "kafka_server", "local_installation"}
MIGRATIONS = Path(__file__).resolve().parents[1] / "shared" / "database" / "migrations"
TEMPLATE_LOCK = 0x6B657977
IN_USE_TRIES = 200
GONE_TRIES = 600

Server = TypeVar("Server", PostgresServer, KafkaServer)

_reservations = PortReservations()
_kept: list[subprocess.Popen[bytes]] = []  # servers that outlive us: dropping the objects would warn about that


def local_settings() -> Settings:
    """Return the settings of the test session itself."""
    return load_settings()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch the servers' files before the first test, so that no test's time limit includes a download."""
    settings = local_settings()
    external = settings.database_url.get_secret_value() and settings.kafka_bootstrap
    wanted = any(
        SERVICE_FIXTURES & set(item.fixturenames) or item.get_closest_marker("process")
        for item in session.items
        if isinstance(item, pytest.Function)
    )
    if wanted and not external and not session.config.option.collectonly:
        install(settings, report_download)


def pytest_unconfigure() -> None:
    """Give the session's ports back."""
    _reservations.release()


def report_download(fetched: int, total: int) -> None:
    """Say on standard error how far the one-time download is."""
    if fetched == 0 or fetched >= total:
        print(f"fetching Kafka and PostgreSQL: {fetched >> 20} of {total >> 20} MB", file=sys.stderr)


@pytest.fixture(scope="session")
def local_installation() -> Installation:
    """The verified files of both servers."""
    return install(local_settings(), report_download)


@pytest_asyncio.fixture(scope="session")
async def postgres_server(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Address of the session's PostgreSQL, with credentials of a superuser."""
    external = local_settings().database_url.get_secret_value()
    if external:
        yield external
        return
    installation: Installation = request.getfixturevalue("local_installation")

    def make(state: Path, port: int, _second: int, *, kept: bool) -> PostgresServer:
        return PostgresServer(
            binaries=installation.binaries, state=state, port=port, durable=False, dies_with_parent=not kept
        )

    async with _session_server("postgres", make) as server:
        yield server.url


@pytest_asyncio.fixture(scope="session")
async def kafka_server(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Bootstrap address of the session's Kafka."""
    external = local_settings().kafka_bootstrap
    if external:
        yield external
        return
    installation: Installation = request.getfixturevalue("local_installation")

    def make(state: Path, port: int, second: int, *, kept: bool) -> KafkaServer:
        return KafkaServer(
            java=installation.java,
            class_path=installation.class_path,
            cache=installation.cache,
            state=state,
            port=port,
            controller_port=second,
            dies_with_parent=not kept,
        )

    async with _session_server("kafka", make) as server:
        yield server.bootstrap


@pytest_asyncio.fixture(scope="session")
async def database_template(postgres_server: str) -> str:
    """Name of a migrated database to copy; made once per server and set of migrations."""
    from shared.database.migrate import migrate

    digest = hashlib.sha256(time.strftime("%F", time.gmtime()).encode())  # migrating also makes a partition per day
    for path in sorted(MIGRATIONS.glob("*.sql")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    name = f"keyway_template_{digest.hexdigest()[:12]}"
    connection = await asyncpg.connect(postgres_server)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", TEMPLATE_LOCK)
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            unfinished = f"keyway_unfinished_{secrets.token_hex(4)}"
            await connection.execute(f"CREATE DATABASE {unfinished}")
            await migrate(with_database(postgres_server, unfinished))
            await _while_in_use(lambda: connection.execute(f"ALTER DATABASE {unfinished} RENAME TO {name}"))
    finally:
        await connection.close()
    return name


@pytest_asyncio.fixture
async def database_url(postgres_server: str, database_template: str) -> AsyncIterator[str]:
    """Address of a fresh, migrated database of this test alone."""
    name = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(postgres_server)
    try:
        create = f"CREATE DATABASE {name} TEMPLATE {database_template} STRATEGY FILE_COPY"
        await _while_in_use(lambda: connection.execute(create))
        yield with_database(postgres_server, name)
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()


@pytest_asyncio.fixture
async def topic_prefix(kafka_server: str) -> AsyncIterator[str]:
    """A prefix for this test's topics and groups; topics that carry it are deleted afterwards."""
    prefix = f"{secrets.token_hex(4)}."
    yield prefix
    client = AIOKafkaAdminClient(bootstrap_servers=kafka_server)
    await client.start()
    try:
        if ours := await _topics_of(client, prefix):
            await client.delete_topics(ours)
            for _ in range(GONE_TRIES):  # told of for a moment after they were deleted
                if not await _topics_of(client, prefix):
                    break
                await asyncio.sleep(0.05)
    finally:
        await client.close()


async def _topics_of(client: AIOKafkaAdminClient, prefix: str) -> list[str]:
    return [topic for topic in await client.list_topics() if topic.startswith(prefix)]


def with_database(url: str, name: str) -> str:
    """Return `url` with another database."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def _while_in_use(action: Callable[[], Awaitable[Any]]) -> None:
    """Try again while the template has a connection: one that was just closed lingers for some milliseconds."""
    for left in reversed(range(IN_USE_TRIES)):
        try:
            await action()
        except asyncpg.ObjectInUseError:
            if not left:
                raise
            await asyncio.sleep(0.05)
        else:
            return


@asynccontextmanager
async def _session_server(name: str, make: Callable[..., Server]) -> AsyncIterator[Server]:
    if local_settings().test_reuse:
        yield await _reused_server(name, make)
        return
    with temporary_state() as state:
        server = make(state, _reservations.take(), _reservations.take(), kept=False)
        server.initialize()
        process = start(server.launch())
        try:
            await server.wait_until_ready(seconds=START_SECONDS)
            yield server
        finally:
            process.send_signal(server.launch().stop_signal)
            process.wait(STOP_SECONDS)


@contextmanager
def temporary_state() -> Iterator[Path]:
    """A state folder that is gone afterwards, whoever owns what in it."""
    state = Path(tempfile.mkdtemp(prefix="keyway-test-")).resolve()
    try:
        yield state
    finally:
        shutil.rmtree(state)


async def _reused_server(name: str, make: Callable[..., Server]) -> Server:
    """Find the server that an earlier session left, or start one that will outlive this session."""
    state = _reuse_folder() / name
    state.mkdir(parents=True, exist_ok=True)
    record, ports_file = state / "processes.json", state / "ports.json"
    with FileLock(state / "start.lock", timeout=START_SECONDS):
        if read_record(record):
            server = make(state, *json.loads(ports_file.read_text()), kept=True)
        else:
            shutil.rmtree(state / name, ignore_errors=True)
            ports = [_reservations.take(), _reservations.take()]
            ports_file.write_text(json.dumps(ports))
            server = make(state, *ports, kept=True)
            server.initialize()
            _kept.append(start(server.launch()))
            identity = identify(_kept[-1].pid)
            assert identity is not None, f"{name} ended at once; see {server.log}"
            write_record(record, [identity])
        await server.wait_until_ready(seconds=START_SECONDS)
    return server


def _reuse_folder() -> Path:
    return cache_folder(local_settings().local_cache_dir) / "test-servers"


def stop_reused_servers() -> list[Identity]:
    """End the servers that sessions with `KEYWAY_TEST_REUSE` left."""
    running = [identity for record in _reuse_folder().glob("*/processes.json") for identity in read_record(record)]
    kill_and_wait(running)
    return running


if __name__ == "__main__":
    print(f"stopped {len(stop_reused_servers())} servers")
