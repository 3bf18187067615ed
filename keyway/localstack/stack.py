"""The whole local stack from the first lock to the last stop: servers, prepared world, our processes, addresses.

Everything is started by command line. What fills the servers (schema, topics, catalog, accounts, keys) comes in as the
callback `prepare`, so that this package depends on nothing that it starts.
"""

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from keyway.localstack.archive import make_archive
from keyway.localstack.endpoints import Endpoints, RunningProcess, remove_endpoints, write_endpoints
from keyway.localstack.installation import Installation, install
from keyway.localstack.kafka import KafkaServer
from keyway.localstack.layout import Ports, Wanted, assign_ports
from keyway.localstack.plan import Narrator, Plan, Prepare, World
from keyway.localstack.ports import LOOPBACK, PortReservations
from keyway.localstack.postgres import PostgresServer
from keyway.localstack.processes import LocalStackError, kill_and_wait, read_record
from keyway.localstack.readiness import wait_until_answers, wait_until_ready
from keyway.localstack.supervisor import Child, Stage, Supervisor
from shared.errors import KeywayError
from shared.settings import PREFIX, Settings, load_settings

READY_SECONDS = 120.0
RECORD = "processes.json"
KEPT_LOG_BYTES_MAX = 10_000_000


class InterruptedDownloadError(Exception):
    """Somebody asked to stop while files were being fetched."""


async def run(plan: Plan, prepare: Prepare, narrator: Narrator) -> None:
    """Run the stack until SIGINT, SIGTERM or SIGHUP, then stop everything in order.

    Raises `KeywayError` when it cannot start; whatever was started is stopped first.
    """
    settings = load_settings(plan.environment)
    plan.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    reservations = PortReservations()
    try:
        with FileLock(plan.state / "up.lock", timeout=0):
            remove_endpoints(plan.state)
            kill_and_wait(read_record(plan.state / RECORD))
            put_long_logs_aside(plan.state / "logs")
            wanted = Wanted(
                gateways=plan.gateways,
                workers=plan.workers,
                own_kafka=not settings.kafka_bootstrap,
                own_postgres=not settings.database_url.get_secret_value(),
                own_sandbox=plan.runs_sandbox,
            )
            ports = assign_ports(wanted, plan.port_base, reservations)
            await LocalStack(plan, settings, wanted, ports, narrator).run(prepare, reservations)
    except Timeout:
        raise LocalStackError(
            f"{plan.state} is in use by another `keyway up`: stop that one, or name another --state-dir"
        ) from None
    except ExceptionGroup as failures:
        raise first_reason(failures) from failures
    finally:
        reservations.release()


def first_reason(failures: ExceptionGroup[Exception]) -> Exception:
    """Return the failure to show: our own first, for its text is written for a person; else whatever came first."""
    ours = failures.subgroup(KeywayError)
    reason: Exception = failures if ours is None else ours
    while isinstance(reason, ExceptionGroup):
        reason = reason.exceptions[0]
    return reason


def put_long_logs_aside(folder: Path) -> None:
    """Rename logs that earlier runs made very long; one older generation is kept."""
    for log in folder.glob("*.log"):
        if log.stat().st_size > KEPT_LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))


class LocalStack:
    """One run of the stack."""

    def __init__(self, plan: Plan, settings: Settings, wanted: Wanted, ports: Ports, narrator: Narrator) -> None:
        self._plan = plan
        self._settings = settings
        self._wanted = wanted
        self._ports = ports
        self._narrator = narrator
        self._stopping = asyncio.Event()
        self._endpoints: Endpoints | None = None

    async def run(self, prepare: Prepare, reservations: PortReservations) -> None:
        """Start everything, wait for a signal, stop everything."""
        async with asyncio.TaskGroup() as tasks:
            supervisor = Supervisor(
                tasks, self._plan.state / RECORD, say=self._narrator.say, on_change=self._write_endpoints
            )
            self._obey_signals(supervisor)
            starting = tasks.create_task(self._start(supervisor, prepare, reservations), name="start")
            try:
                await self._stopping.wait()
            finally:
                self._stopping.set()  # also when starting failed: a download must end
                starting.cancel()
                self._endpoints = None
                remove_endpoints(self._plan.state)
                self._narrator.say("stopping gateways, workers, sandbox, Kafka, PostgreSQL")
                await supervisor.stop_all()

    def _obey_signals(self, supervisor: Supervisor) -> None:
        def stop() -> None:
            if self._stopping.is_set():
                supervisor.kill_all()  # asked twice: no more patience
            self._stopping.set()

        ours = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored: started with nohup, to outlive a terminal
            ours.append(signal.SIGHUP)
        for number in ours:
            asyncio.get_running_loop().add_signal_handler(number, stop)

    async def _start(self, supervisor: Supervisor, prepare: Prepare, reservations: PortReservations) -> None:
        began = time.monotonic()
        installation = await self._install()
        servers = {} if installation is None else await self._start_servers(supervisor, installation)
        environment = self._plan.child_environment(servers)
        self._narrator.say("preparing schema, topics, catalog, accounts and keys")
        settings = load_settings(environment)
        world = await prepare(settings, self._plan.state)
        environment |= {
            f"{PREFIX}SIGNING_KEYS_FILE": str(world.signing_keys_file),
            f"{PREFIX}CLOCK_OFFSET_FILE": str(world.clock_offset_file),
            **self._plan.panel_environment(world, self._ports),
        }
        async with asyncio.TaskGroup() as waiting:
            if self._plan.runs_sandbox:
                supervisor.keep(self._plan.sandbox_launch(environment, world, self._ports), Stage.SANDBOX)
                waiting.create_task(
                    wait_until_answers("sandbox", self._ports["sandbox"], seconds=READY_SECONDS)
                )  # beside the others, who call it only once there is something to order
            waiting.create_task(self._start_processes(supervisor, environment))
        supervisor.starting = False
        self._endpoints = self._all_endpoints(load_settings(environment), world)
        self._write_endpoints(supervisor.children)
        self._narrator.ready(self._endpoints.document(self._running(supervisor.children)), time.monotonic() - began)
        if installation is not None and self._plan.makes_archive and self._wanted.own_kafka:
            await self._make_archive(installation, reservations)

    async def _install(self) -> Installation | None:
        if not (self._wanted.own_kafka or self._wanted.own_postgres):
            return None

        def follow(fetched: int, total: int) -> None:
            if self._stopping.is_set():
                raise InterruptedDownloadError
            self._narrator.downloaded(fetched, total)

        self._narrator.say("checking the files of PostgreSQL and Kafka")
        return await asyncio.to_thread(install, self._settings, follow)

    async def _start_servers(self, supervisor: Supervisor, installation: Installation) -> dict[str, str]:
        """Start our own servers side by side; return the variables that name them."""
        state, ports = self._plan.state, self._ports
        named: dict[str, str] = {}
        self._narrator.say("starting PostgreSQL and Kafka")
        async with asyncio.TaskGroup() as both:
            if self._wanted.own_postgres:
                postgres = PostgresServer(binaries=installation.binaries, state=state, port=ports["postgres"])
                both.create_task(_bring_up(supervisor, postgres, Stage.POSTGRES, named))
            if self._wanted.own_kafka:
                kafka = KafkaServer(
                    java=installation.java,
                    class_path=installation.class_path,
                    cache=installation.cache,
                    state=state,
                    port=ports["kafka"],
                    controller_port=ports["kafka-controller"],
                )
                both.create_task(_bring_up(supervisor, kafka, Stage.KAFKA, named))
        return named

    async def _start_processes(self, supervisor: Supervisor, environment: dict[str, str]) -> None:
        launches = self._plan.process_launches(environment, self._ports)
        self._narrator.say("starting " + ", ".join(launch.name for _, launch in launches))
        for stage, launch in launches:
            supervisor.keep(launch, stage)
        async with asyncio.TaskGroup() as waiting:
            for _, launch in launches:
                admin_port = self._ports[f"{launch.name}-admin"]
                waiting.create_task(wait_until_ready(launch.name, admin_port, seconds=READY_SECONDS))

    async def _make_archive(self, installation: Installation, reservations: PortReservations) -> None:
        try:
            if await make_archive(installation, reservations):
                self._narrator.say("made the archive with which Kafka starts a second sooner next time")
        except (LocalStackError, OSError, TimeoutError) as error:
            self._narrator.say(f"no archive for a quicker start of Kafka, which only costs a second: {error}")

    def _all_endpoints(self, settings: Settings, world: World) -> Endpoints:
        return Endpoints(
            gateways=[self._address(f"gateway-{index}") for index in range(self._plan.gateways)],
            admin=self._address("gateway-0-admin"),
            kafka=settings.kafka_bootstrap,
            database=settings.database_url.get_secret_value(),
            accounts=world.accounts,
            sandbox=settings.provider_isplicense_url,
        )

    def _write_endpoints(self, children: Sequence[Child]) -> None:
        """Write the file again whenever a child has a new pid; not before everything was ready once."""
        if self._endpoints is not None:
            write_endpoints(self._plan.state, self._endpoints.document(self._running(children)))

    def _running(self, children: Sequence[Child]) -> list[RunningProcess]:
        running: list[RunningProcess] = []
        for child in sorted(children, key=lambda child: child.stage, reverse=True):
            if child.process is not None:
                name, role = child.launch.name, child.launch.role
                admin = self._address(f"{name}-admin") if f"{name}-admin" in self._ports.by_name else None
                running.append(RunningProcess(name, role, child.process.pid, admin))
        return running

    def _address(self, name: str) -> str:
        return f"http://{LOOPBACK}:{self._ports[name]}"


async def _bring_up(
    supervisor: Supervisor, server: PostgresServer | KafkaServer, stage: Stage, named: dict[str, str]
) -> None:
    await asyncio.to_thread(server.initialize)
    supervisor.keep(server.launch(), stage)
    await server.wait_until_ready(seconds=READY_SECONDS)
    if isinstance(server, PostgresServer):
        named[f"{PREFIX}DATABASE_URL"] = server.url
    else:
        named[f"{PREFIX}KAFKA_BOOTSTRAP"] = server.bootstrap
