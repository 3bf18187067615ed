"""Making Kafka's start-up archive: Java's ahead-of-time cache, which brings the start from 2.2 s to 0.9 s.

It takes some seconds of processor time, so it is made once per cache, in the background at the lowest priority, by a
Kafka of its own whose data are thrown away. Without it everything works, only later.
"""

import asyncio
import shutil
import signal
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from keyway.localstack.installation import Installation
from keyway.localstack.java import FIRST_WITH_AOT_CACHE
from keyway.localstack.kafka import KafkaServer
from keyway.localstack.ports import PortReservations
from keyway.localstack.processes import Launch, start
from keyway.localstack.supervisor import ended

LOWEST_PRIORITY = 19
STEP_SECONDS = 120.0


async def make_archive(installation: Installation, reservations: PortReservations) -> bool:
    """Make the archive unless it exists or another process makes it; return whether it was made.

    Raises `LocalStackError` or `TimeoutError` when a step fails. Cancelling leaves nothing behind.
    """
    if installation.java.major < FIRST_WITH_AOT_CACHE:
        return False
    state = Path(tempfile.mkdtemp(prefix="archive-", dir=installation.cache))
    server = KafkaServer(
        java=installation.java,
        class_path=installation.class_path,
        cache=installation.cache,
        state=state,
        port=reservations.take(),
        controller_port=reservations.take(),
    )
    try:
        with FileLock(installation.cache / "archive.lock", timeout=0):
            if server.archive.exists():
                return False
            await _make(server, state)
            return True
    except Timeout:
        return False
    finally:
        shutil.rmtree(state)


async def _make(server: KafkaServer, state: Path) -> None:
    recording, archive = state / "recording", state / "archive"
    await asyncio.to_thread(server.initialize)
    record = server.launch("-XX:AOTMode=record", f"-XX:AOTConfiguration={recording}")
    await _run(record, server)
    create = server.launch(
        "-XX:AOTMode=create", f"-XX:AOTConfiguration={recording}", f"-XX:AOTCache={archive}", "-Xlog:aot*=off"
    )
    await _run(create, None)
    archive.rename(server.archive)


async def _run(launch: Launch, until_ready: KafkaServer | None) -> None:
    process: subprocess.Popen[bytes] = start(replace(launch, nice=LOWEST_PRIORITY))
    try:
        if until_ready is not None:
            await until_ready.wait_until_ready(seconds=STEP_SECONDS)
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STEP_SECONDS):
            await ended(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
