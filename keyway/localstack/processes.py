"""Starting child processes, and knowing for certain which running process is one of ours.

A pid alone proves nothing, since the kernel uses it again: pid and start time together do. The record file of a state
folder holds both for every child, and only matching processes are ever killed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from keyway.localstack.folders import CHECKOUT
from shared.errors import KeywayError

UNPRIVILEGED_UID = 65534  # nobody: what PostgreSQL runs as when we are root, for it refuses to be root
LOG_TAIL_BYTES = 2000
REAP_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.02


class LocalStackError(KeywayError):
    """The local stack cannot start or go on; the text is one sentence for the person at the terminal."""

    code = "local_stack"


def nothing_remains() -> None:
    """Do nothing: this child leaves nothing behind that would hinder its next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Everything needed to start one child, again and again, and to stop it.

    `clear_remains` runs before every start and after every kill.
    """

    name: str
    role: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    folder: Path | None = None
    unprivileged: bool = False
    dies_with_parent: bool = True
    nice: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    clear_remains: Callable[[], None] = nothing_remains


@dataclass(frozen=True, slots=True)
class Identity:
    """A process of ours: its pid and the moment it started, which together never repeat on one machine."""

    pid: int
    started: str


def start(launch: Launch) -> subprocess.Popen[bytes]:
    """Start the child in a session of its own, so that Ctrl-C reaches only the parent; its output goes to its log."""
    launch.clear_remains()
    launch.log.parent.mkdir(parents=True, exist_ok=True)
    plan = {
        "parent": os.getpid() if launch.dies_with_parent else 0,
        "uid": UNPRIVILEGED_UID if launch.unprivileged and os.geteuid() == 0 else None,
        "folder": None if launch.folder is None else str(launch.folder),
        "nice": launch.nice,
        "command": launch.command,
    }
    shim = [sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py")), json.dumps(plan)]
    with launch.log.open("ab") as log:
        return subprocess.Popen(
            shim,
            env=dict(launch.environment),
            cwd="/" if launch.unprivileged else CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run_to_end(launch: Launch, *, seconds: float) -> None:
    """Run a short-lived child to its end. Raises `LocalStackError` with the end of its log when it fails."""
    process = start(launch)
    try:
        status = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise LocalStackError(f"{launch.name} did not finish within {seconds:g} s; see {launch.log}") from None
    if status != 0:
        raise LocalStackError(f"{launch.name} failed ({describe_exit(status)}); its log ends:\n{log_tail(launch.log)}")


def describe_exit(status: int) -> str:
    """Return how a process ended, in words."""
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


def log_tail(log: Path) -> str:
    """Return the last lines of a log file."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace").strip()
    return "(no log)"


def identify(pid: int) -> Identity | None:
    """Return who `pid` is now, or None when it has ended (a zombie has)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, started_ticks = fields[0], fields[19]
    return None if state in "ZX" else Identity(pid, f"{boot}:{started_ticks}")


def write_record(record: Path, identities: Iterable[Identity]) -> None:
    """Replace the record file, whole or not at all."""
    replace_file(record, json.dumps([[identity.pid, identity.started] for identity in identities]))


def read_record(record: Path) -> list[Identity]:
    """Return the recorded processes that still run."""
    try:
        entries = [Identity(int(pid), str(started)) for pid, started in json.loads(record.read_text())]
    except (OSError, ValueError):
        return []
    return [identity for identity in entries if identify(identity.pid) == identity]


def kill_and_wait(identities: Iterable[Identity]) -> None:
    """Kill the given processes, skipping any that ended and whose pid is another's now; wait until they are gone."""
    remaining = [identity for identity in identities if identify(identity.pid) == identity]
    for identity in remaining:
        with suppress(ProcessLookupError):
            os.kill(identity.pid, signal.SIGKILL)
    deadline = time.monotonic() + REAP_SECONDS
    while remaining := [identity for identity in remaining if identify(identity.pid) == identity]:
        if time.monotonic() > deadline:
            raise LocalStackError(f"process {remaining[0].pid} of an earlier run does not end after SIGKILL")
        time.sleep(LOOK_AGAIN_SECONDS)


def processes_in(folder: Path, executable: Path) -> list[Identity]:
    """Return the processes that run `executable` with `folder` as their working folder."""
    found: list[Identity] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if (entry / "cwd").readlink() == folder and (entry / "exe").readlink() == executable:
                identity = identify(int(entry.name))
                found += [] if identity is None else [identity]
    return found


def replace_file(path: Path, text: str) -> None:
    """Write `path` atomically, readable by its owner only."""
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)
