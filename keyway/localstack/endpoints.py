"""`endpoints.json`: what runs where, for scripts; written only once everything is ready."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyway.localstack.processes import replace_file

FILE_NAME = "endpoints.json"


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """One line of `processes`; `admin` is the address of its health and metrics, where it has one."""

    name: str
    role: str
    pid: int
    admin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Every address and credential of a running local stack."""

    gateways: Sequence[str]
    admin: str
    kafka: str
    database: str
    accounts: Mapping[str, tuple[str, str]]
    sandbox: str = ""
    """Address of the panel; empty when there is none."""

    def document(self, processes: Sequence[RunningProcess]) -> dict[str, Any]:
        """Return the JSON document with the processes as they are now."""
        return {
            "gateway": list(self.gateways),
            "isv": f"{self.gateways[0]}/isv",
            "partner": f"{self.gateways[0]}/30",
            "admin": self.admin,
            "kafka": self.kafka,
            "database": self.database,
            **({"sandbox": self.sandbox} if self.sandbox else {}),
            "accounts": {role: list(credentials) for role, credentials in self.accounts.items()},
            "processes": [
                {"name": process.name, "role": process.role, "pid": process.pid}
                | ({} if process.admin is None else {"admin": process.admin})
                for process in processes
            ],
        }


def write_endpoints(state: Path, document: Mapping[str, Any]) -> None:
    """Replace the file atomically, readable by its owner only: it holds credentials."""
    replace_file(state / FILE_NAME, json.dumps(document, indent=1) + "\n")


def remove_endpoints(state: Path) -> None:
    """Remove the file: nothing that it names can be relied on."""
    (state / FILE_NAME).unlink(missing_ok=True)
