"""The embedded PostgreSQL: made once in the state folder, started on loopback, recovered after any crash.

As root it runs as an unprivileged uid that owns nothing but its own folder; no user is created. It asks for a random
password even on loopback, because a superuser without one would let every local user run programs in our name.
Its OpenSSL and ICU are old: never for production.
"""

import asyncio
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from keyway.localstack.ports import LOOPBACK
from keyway.localstack.processes import (
    UNPRIVILEGED_UID,
    Launch,
    LocalStackError,
    kill_and_wait,
    processes_in,
    replace_file,
    run_to_end,
)

SUPERUSER = "keyway"
DATABASE = "postgres"  # the one that every cluster has
CONNECTIONS_MAX = 200
INITDB_SECONDS = 60.0
READY_TRY_SECONDS = 0.02
CONNECT_SECONDS = 2.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}  # TZ spares initdb a search of all time zones
CLUSTER = (
    "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
    "--no-sync", "--no-instructions",
)  # fmt: skip
QUICK_BUT_FORGETFUL = (
    "fsync=off", "synchronous_commit=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0",
    "autovacuum=off",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """One PostgreSQL below `state`. `durable=False` trades crash safety for speed: throw-away test servers only."""

    binaries: Path
    state: Path
    port: int
    durable: bool = True
    dies_with_parent: bool = True

    @property
    def folder(self) -> Path:
        """Folder that belongs to the server's uid; the cluster is in `data` below it."""
        return self.state / "postgres"

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.state / "logs" / "postgres.log"

    @property
    def password(self) -> str:
        """The superuser's password."""
        return (self.state / "postgres.password").read_text(encoding="ascii")

    @property
    def url(self) -> str:
        """Address with credentials."""
        return f"postgresql://{SUPERUSER}:{self.password}@{LOOPBACK}:{self.port}/{DATABASE}"

    def initialize(self) -> None:
        """Make the cluster unless it exists; a half-made one is made anew."""
        if self.folder.exists():
            return
        password = secrets.token_urlsafe(24)
        replace_file(self.state / "postgres.password", password)
        fresh = self.state / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password_file = fresh / "password"
        replace_file(password_file, password)
        if os.geteuid() == 0:
            os.chown(password_file, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
            os.chown(fresh, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
        run_to_end(
            Launch(
                name="initdb",
                role="postgres",
                command=(
                    str(self.binaries / "bin" / "initdb"), "-D", "{folder}/data", "-U", SUPERUSER,
                    "-A", "scram-sha-256", "--pwfile={folder}/password", *CLUSTER,
                ),
                environment=ENVIRONMENT,
                log=self.log,
                folder=fresh,
                unprivileged=True,
            ),
            seconds=INITDB_SECONDS,
        )  # fmt: skip
        password_file.unlink()
        fresh.rename(self.folder)

    def launch(self) -> Launch:
        """Return how to start it. It stops by SIGINT: sessions are ended, everything committed is kept."""
        return Launch(
            name="postgres",
            role="postgres",
            command=(str(self.binaries / "bin" / "postgres"), "-D", "{folder}/data", *self._flags()),
            environment=ENVIRONMENT,
            log=self.log,
            folder=self.folder,
            unprivileged=True,
            dies_with_parent=self.dies_with_parent,
            stop_signal=signal.SIGINT,
            clear_remains=self.clear_remains,
        )

    def clear_remains(self) -> None:
        """End what a killed server left: backends that still work in our folder, a pid file that names a stranger."""
        data = (self.folder / "data").resolve()
        kill_and_wait(processes_in(data, (self.binaries / "bin" / "postgres").resolve()))
        pid_file = data / "postmaster.pid"
        with suppress(OSError, ValueError, IndexError):
            if Path(f"/proc/{int(pid_file.read_text().split()[0])}").exists():
                pid_file.unlink()  # a stranger's pid now, or a zombie that no init reaps: PostgreSQL would give way

    async def wait_until_ready(self, *, seconds: float) -> None:
        """Return when it answers. Raises `LocalStackError` when it does not in time."""
        import asyncpg  # noqa: PLC0415 - not needed by those who use an external server

        deadline = time.monotonic() + seconds
        while True:
            try:
                connection = await asyncpg.connect(self.url, timeout=CONNECT_SECONDS)
            except (OSError, TimeoutError, asyncpg.PostgresError):
                if time.monotonic() > deadline:
                    raise LocalStackError(f"PostgreSQL is not ready after {seconds:g} s; see {self.log}") from None
                await asyncio.sleep(READY_TRY_SECONDS)
            else:
                await connection.close()
                return

    def _flags(self) -> Iterator[str]:
        settings = [
            f"port={self.port}", f"listen_addresses={LOOPBACK}", "unix_socket_directories=",
            f"max_connections={CONNECTIONS_MAX}", "log_checkpoints=off",
            "log_error_verbosity=terse",  # the detail of a failed row holds activation data
            "log_timezone=UTC", "timezone=UTC",
            *(() if self.durable else QUICK_BUT_FORGETFUL),
        ]  # fmt: skip
        for setting in settings:
            yield from ("-c", setting)
