"""What a local stack is asked to be, and what it asks of those who start it."""

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from keyway.localstack.layout import Ports
from keyway.localstack.ports import LOOPBACK
from keyway.localstack.processes import Launch
from keyway.localstack.supervisor import Stage
from shared.settings import PREFIX, Settings

OF_THE_STACK_ALONE = (f"{PREFIX}LOCAL_", f"{PREFIX}TEST_")
SESSION_TIMEOUT = {f"{PREFIX}KAFKA_SESSION_TIMEOUT_SECONDS": "3"}  # decision 31; the user's own value wins
PROCESS_STOP_SECONDS = 15.0
PANEL_USER = "keyway"
PANEL_PATH = "/manager/billmgr"
PANEL = f"{PREFIX}PROVIDER_ISPLICENSE_"
LOCAL_ACCOUNT = {
    f"{PREFIX}PROVIDER_DRIFT_PATROL_SECONDS": "60",
    f"{PANEL}LOOPBACK_ALLOWED": "true",
    f"{PANEL}CALLS_PER_SECOND": "50",
    f"{PANEL}CALLS_BURST": "50",
    f"{PANEL}MONEY_IN_FLIGHT": "8",
    f"{PANEL}UNRESOLVED_MAX": "64",
    f"{PANEL}RELEASE": "auto",
    f"{PANEL}QUIET_SECONDS": "20",
    f"{PANEL}LOOKS_APART_SECONDS": "5",
    f"{PANEL}DELETES_EVERYWHERE": "true",
    f"{PANEL}BREAKER_SECONDS": "15",
    f"{PANEL}BACK_OFF_SECONDS": "1",
    f"{PANEL}LOSSES_PAUSE_SECONDS": "0.5",
}
"""How the local stack's provider account is used; the user's own values win."""


class World(Protocol):
    """What `Prepare` made: the accounts with their secrets and the files that our processes need."""

    @property
    def accounts(self) -> Mapping[str, tuple[str, str]]:
        """Account -> (name, secret)."""
        ...

    @property
    def signing_keys_file(self) -> Path:
        """Private keys of the license worker."""
        ...

    @property
    def clock_offset_file(self) -> Path:
        """Offset of the movable business clock."""
        ...

    @property
    def panel_password_file(self) -> Path:
        """Password of the sandbox's panel user."""
        ...


Prepare = Callable[[Settings, Path], Awaitable[World]]


class Narrator(Protocol):
    """Tells the person at the terminal what is going on."""

    def say(self, text: str) -> None:
        """Tell one thing that happens now."""
        ...

    def downloaded(self, fetched: int, total: int) -> None:
        """Tell how many bytes of the one-time download are there; called from other threads."""
        ...

    def ready(self, document: Mapping[str, Any], seconds: float) -> None:
        """Tell that everything answers; `document` is what `endpoints.json` holds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to start and where. `program` is the command line of `keyway` itself."""

    state: Path
    port_base: int
    gateways: int
    workers: Mapping[str, int]
    program: tuple[str, ...] = (sys.executable, "-m", "keyway")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    makes_archive: bool = True
    has_sandbox: bool = False
    """Whether a panel of our own is started unless the user names another."""

    @property
    def runs_sandbox(self) -> bool:
        """Whether our own panel is started."""
        return self.has_sandbox and not self.environment.get(f"{PANEL}URL")

    def panel_environment(self, world: World, ports: Ports) -> dict[str, str]:
        """Return the variables by which our processes find the panel and use it."""
        named = dict(LOCAL_ACCOUNT)
        if self.runs_sandbox:
            named |= {
                f"{PANEL}URL": f"http://{LOOPBACK}:{ports['sandbox']}{PANEL_PATH}",
                f"{PANEL}USER": PANEL_USER,
                f"{PANEL}PASSWORD_FILE": str(world.panel_password_file),
            }
        return {
            name: value
            for name, value in named.items()
            if name not in self.environment and name.removesuffix("_FILE") not in self.environment
        }

    def sandbox_launch(self, environment: Mapping[str, str], world: World, ports: Ports) -> Launch:
        """Return how to start our own panel."""
        options = ("--user", PANEL_USER, "--password-file", str(world.panel_password_file))
        switches = ("--control", "--further-accounts")
        where = ("--state-dir", str(self.state / "sandbox"), "--port", str(ports["sandbox"]))
        return Launch(
            name="sandbox",
            role="sandbox",
            command=(*self.program, "sandbox", *where, *options, *switches),
            environment=dict(environment),
            log=self.state / "logs" / "sandbox.log",
            stop_seconds=PROCESS_STOP_SECONDS,
        )

    def child_environment(self, ours: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of our processes: the user's, without what only the stack knows, plus `ours`."""
        passed_on = {name: value for name, value in self.environment.items() if not name.startswith(OF_THE_STACK_ALONE)}
        return SESSION_TIMEOUT | passed_on | dict(ours)

    def process_launches(self, environment: Mapping[str, str], ports: Ports) -> list[tuple[Stage, Launch]]:
        """Return how to start every worker and gateway."""
        launches: list[tuple[Stage, Launch]] = []
        for role, count in self.workers.items():
            for index in range(count):
                launch = self._launch(f"{role}-{index}", role, ("worker", role), environment, ports)
                launches.append((Stage.WORKERS, launch))
        for index in range(self.gateways):
            name = f"gateway-{index}"
            public = {f"{PREFIX}HTTP_PORT": str(ports[name])}
            launch = self._launch(name, "gateway", ("gateway",), {**environment, **public}, ports)
            launches.append((Stage.GATEWAYS, launch))
        return launches

    def _launch(
        self, name: str, role: str, verb: tuple[str, ...], environment: Mapping[str, str], ports: Ports
    ) -> Launch:
        return Launch(
            name=name,
            role=role,
            command=(*self.program, *verb),
            environment={**environment, f"{PREFIX}ADMIN_PORT": str(ports[f"{name}-admin"])},
            log=self.state / "logs" / f"{name}.log",
            stop_seconds=PROCESS_STOP_SECONDS,
        )
