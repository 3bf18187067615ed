"""The embedded Kafka: one node, broker and controller in one, started on loopback from verified jars."""

import asyncio
import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from keyway.localstack.artifacts import KAFKA_VERSION
from keyway.localstack.folders import CHECKOUT
from keyway.localstack.java import FIRST_WITH_AOT_CACHE, Java
from keyway.localstack.ports import LOOPBACK
from keyway.localstack.processes import Launch, LocalStackError, run_to_end

PROPERTIES = CHECKOUT / "deploy" / "kafka" / "server.properties"  # docker-compose.yml mounts the same file
LOGGING = Path(__file__).with_name("log4j2.properties")
CLUSTER_ID = "S2V5d2F5TG9jYWxTdGFjaw"
QUICK_START = ("-Xms64m", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
FORMAT_SECONDS = 60.0
READY_TRY_SECONDS = 0.05
ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaServer:
    """One Kafka below `state`; `cache` holds what servers share: the formatted seed and the start-up archive."""

    java: Java
    class_path: str
    cache: Path
    state: Path
    port: int
    controller_port: int
    dies_with_parent: bool = True

    @property
    def bootstrap(self) -> str:
        """Address for clients."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.state / "logs" / "kafka.log"

    @property
    def archive(self) -> Path:
        """Ahead-of-time cache of this class path on this Java, which more than halves the start; it may be missing."""
        mark = hashlib.sha256(self.class_path.encode()).hexdigest()[:8]
        return self.cache / f"kafka-{KAFKA_VERSION}-{mark}-java-{self.java.version}.aot"

    def initialize(self) -> None:
        """Write the properties for the present ports; make the data folder unless it exists."""
        folder = self.state / "kafka"
        folder.mkdir(exist_ok=True)
        (folder / "server.properties").write_text(self._properties(folder / "data"), encoding="utf-8")
        if not (folder / "data").exists():
            fresh = folder / "data.new"
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(self._seed(), fresh)
            fresh.rename(folder / "data")

    def launch(self, *extra_flags: str) -> Launch:
        """Return how to start it; `extra_flags` go to Java in place of the archive."""
        flags = extra_flags or self._archive_flags()
        return Launch(
            name="kafka",
            role="kafka",
            command=(
                *self._java(*flags, f"-Dlog4j2.configurationFile={LOGGING}"),
                "kafka.Kafka",
                str(self.state / "kafka" / "server.properties"),
            ),
            environment=_environment(),
            log=self.log,
            dies_with_parent=self.dies_with_parent,
        )

    async def wait_until_ready(self, *, seconds: float) -> None:
        """Return when it answers a question for metadata. Raises `LocalStackError` when it does not in time."""
        deadline = time.monotonic() + seconds
        while not await _answers_metadata(self.port):
            if time.monotonic() > deadline:
                raise LocalStackError(f"Kafka is not ready after {seconds:g} s; see {self.log}")
            await asyncio.sleep(READY_TRY_SECONDS)

    def _java(self, *flags: str) -> tuple[str, ...]:
        return (str(self.java.executable), *QUICK_START, *flags, "-cp", self.class_path)

    def _archive_flags(self) -> tuple[str, ...]:
        if self.java.major < FIRST_WITH_AOT_CACHE or not self.archive.exists():
            return ()
        return (f"-XX:AOTCache={self.archive}", "-Xlog:aot*=off")

    def _properties(self, data: Path) -> str:
        ours = {
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "listeners": f"OUTSIDE://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"OUTSIDE://{self.bootstrap}",
            "inter.broker.listener.name": "OUTSIDE",
            "log.dirs": str(data),
        }
        try:
            template = PROPERTIES.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise LocalStackError(f"{PROPERTIES} is missing: the local stack runs from a checkout") from None
        kept = [line for line in template.splitlines() if line.partition("=")[0] not in ours]
        return "\n".join([*kept, *(f"{name}={value}" for name, value in ours.items()), ""])

    def _seed(self) -> Path:
        """Return the formatted, empty data folder to copy from; formatting takes over a second, a copy nothing."""
        seed = self.cache / f"kafka-{KAFKA_VERSION}-seed"
        with FileLock(self.cache / "seed.lock", timeout=FORMAT_SECONDS):
            if not seed.exists():
                fresh = seed.with_name(f"{seed.name}.new")
                shutil.rmtree(fresh, ignore_errors=True)
                properties = self.cache / "seed.properties"
                properties.write_text(self._properties(fresh), encoding="utf-8")
                self._format(properties)
                fresh.rename(seed)
        return seed

    def _format(self, properties: Path) -> None:
        arguments = ("--cluster-id", CLUSTER_ID, "--config", str(properties))
        run_to_end(
            Launch(
                name="kafka-format",
                role="kafka",
                command=(*self._java(), "kafka.tools.StorageTool", "format", *arguments),
                environment=_environment(),
                log=self.log,
            ),
            seconds=FORMAT_SECONDS,
        )


async def _answers_metadata(port: int) -> bool:
    """Whether the broker on `port` accepts connections and names itself in its metadata."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.close()  # asked first, because the client below logs an error when nobody listens
            await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return await _describes_itself(port)


async def _describes_itself(port: int) -> bool:
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - half a second that overlaps with Kafka's start
    from aiokafka.errors import KafkaError  # noqa: PLC0415 - the same

    client = AIOKafkaAdminClient(
        bootstrap_servers=f"{LOOPBACK}:{port}",
        client_id="keyway-localstack",
        request_timeout_ms=int(ANSWER_SECONDS * 1000),  # the library's own: cancelling its start leaks a connection
    )
    try:
        await client.start()
        described = await client.describe_cluster()
    except KafkaError:
        return False
    finally:
        await client.close()
    return bool(described["brokers"])


def _environment() -> dict[str, str]:
    """Return what Java needs of our environment: no option that some shell profile put there for other programs."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
