"""Choosing ports: fixed ones are checked and their holder named; free ones are reserved against other local stacks.

A free port is taken from outside the kernel's ephemeral range, or an outgoing connection could sit on it while a child
restarts, and is reserved by an abstract socket of that name: other stacks skip it, and the kernel gives it back however
the holder ends.
"""

import errno
import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from keyway.localstack.processes import LocalStackError

LOOPBACK = "127.0.0.1"
FREE_PORTS = range(10240, 65000)
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
TRIES_MAX = 2000
LISTENING = "0A"


@dataclass(slots=True)
class PortReservations:
    """Free ports handed out by this process; they stay reserved until `release` or the end of the process."""

    _holds: list[socket.socket] = field(default_factory=list)

    def take(self) -> int:
        """Return a port that nobody listens on and no other local stack was given."""
        lowest, highest = _ephemeral_range()
        chance = random.SystemRandom()
        for _ in range(TRIES_MAX):
            port = chance.choice(FREE_PORTS)
            if not lowest <= port <= highest and self.reserve(port) and is_free(port):
                return port
        raise LocalStackError("no free port found on 127.0.0.1")

    def release(self) -> None:
        """Give all reservations back."""
        while self._holds:
            self._holds.pop().close()

    def reserve(self, port: int) -> bool:
        """Keep `port` from other local stacks; False when one of them has it."""
        hold = socket.socket(socket.AF_UNIX)
        try:
            hold.bind(f"\0keyway-port-{port}")
        except OSError:
            hold.close()
            return False
        self._holds.append(hold)
        return True


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def require_free(ports: Mapping[str, int], reservations: PortReservations) -> None:
    """Reserve every named port. Raises `LocalStackError`, one sentence naming port, purpose and holder."""
    for purpose, port in ports.items():
        if not is_free(port) or not reservations.reserve(port):
            raise LocalStackError(
                f"port {port} (wanted for {purpose}) is taken by {holder_of(port)}: stop that, "
                "or choose other ports with --port-base N (0 picks free ones)"
            )


def holder_of(port: int) -> str:
    """Return who listens on `port`, as far as this user may see."""
    inodes = set(_listening_inodes(port))
    for process in Path("/proc").iterdir() if inodes else ():
        if not process.name.isdigit():
            continue
        with suppress(OSError):
            if any(str(descriptor.readlink()) in inodes for descriptor in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"pid {process.name} ({command[:120]})"
    return "another process"


def _listening_inodes(port: int) -> list[str]:
    found: list[str] = []
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    found.append(f"socket:[{fields[9]}]")
    return found


def _ephemeral_range() -> tuple[int, int]:
    try:
        lowest, highest = EPHEMERAL_RANGE.read_text().split()
    except (OSError, ValueError):
        return 32768, 60999
    return int(lowest), int(highest)
