"""Which process gets which port: the fixed scheme around the first gateway's port, or free ports for everything."""

from collections.abc import Mapping
from dataclasses import dataclass

from keyway.localstack.ports import PortReservations, require_free
from keyway.localstack.processes import LocalStackError

FIRST_GATEWAY = 8080
GATEWAYS_MAX = 10  # the admin ports begin ten above the gateways
WORKERS_MAX = 100
LOWEST_PORT, HIGHEST_PORT = 1024, 65535
OFFSETS = {
    "gateway": 0,
    "gateway-admin": 8090 - FIRST_GATEWAY,
    "worker-admin": 8100 - FIRST_GATEWAY,
    "kafka": 9092 - FIRST_GATEWAY,
    "kafka-controller": 9093 - FIRST_GATEWAY,
    "postgres": 5432 - FIRST_GATEWAY,
    "sandbox": 8070 - FIRST_GATEWAY,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to run: gateways, workers per role, and which servers are our own."""

    gateways: int
    workers: Mapping[str, int]
    own_kafka: bool
    own_postgres: bool
    own_sandbox: bool = False

    def worker_names(self) -> list[tuple[str, str]]:
        """Return (name, role) of every worker."""
        return [(f"{role}-{index}", role) for role, count in self.workers.items() for index in range(count)]


@dataclass(frozen=True, slots=True)
class Ports:
    """The port of every listener, by name: `gateway-0`, `gateway-0-admin`, `license-0-admin`, `kafka`, ..."""

    by_name: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.by_name[name]


def assign_ports(wanted: Wanted, base: int, reservations: PortReservations) -> Ports:
    """Return reserved ports for everything wanted; base 0 picks free ones.

    Raises `LocalStackError` when a fixed port is taken or out of range.
    """
    fixed = _fixed_ports(wanted, base)
    if base == 0:
        return Ports({name: reservations.take() for name in fixed})
    if min(fixed.values()) < LOWEST_PORT or max(fixed.values()) > HIGHEST_PORT:
        lowest = LOWEST_PORT - min(OFFSETS.values())
        highest = HIGHEST_PORT - max(OFFSETS.values())
        raise LocalStackError(f"--port-base {base} does not fit: take one between {lowest} and {highest}, or 0")
    require_free(fixed, reservations)
    return Ports(fixed)


def _fixed_ports(wanted: Wanted, base: int) -> dict[str, int]:
    ports: dict[str, int] = {}
    for index in range(wanted.gateways):
        ports[f"gateway-{index}"] = base + OFFSETS["gateway"] + index
        ports[f"gateway-{index}-admin"] = base + OFFSETS["gateway-admin"] + index
    for index, (name, _) in enumerate(wanted.worker_names()):
        ports[f"{name}-admin"] = base + OFFSETS["worker-admin"] + index
    if wanted.own_kafka:
        ports["kafka"] = base + OFFSETS["kafka"]
        ports["kafka-controller"] = base + OFFSETS["kafka-controller"]
    if wanted.own_postgres:
        ports["postgres"] = base + OFFSETS["postgres"]
    if wanted.own_sandbox:
        ports["sandbox"] = base + OFFSETS["sandbox"]
    return ports
