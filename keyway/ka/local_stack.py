"""A local stack seen from outside: `endpoints.json` of a running one, or one of our own as a child process."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from keyway.ka.client import PATIENCE_SECONDS, KeyAdministrator
from shared.errors import KeywayError

FILE_NAME = "endpoints.json"
SANDBOX = "sandbox"
START_SECONDS = 300.0  # the first start on a machine fetches 60 MB
STOP_SECONDS = 40.0
LOOK_AGAIN_SECONDS = 0.05
LOG_TAIL_BYTES = 2000


class StackUnavailableError(KeywayError):
    """There is no local stack to talk to; the text says what to do."""

    code = "stack_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackProcess:
    """One process of the stack."""

    name: str
    role: str
    pid: int
    admin: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What `endpoints.json` tells."""

    state: Path
    gateways: tuple[str, ...]
    kafka: str
    database: str = field(repr=False)
    account: str
    secret: str = field(repr=False)
    processes: tuple[StackProcess, ...]
    panel: str | None = None
    """Address of the stack's own sandbox panel; None when a provider's real one is in use, or none."""

    @classmethod
    def read(cls, state: Path) -> Self:
        """Return the stack that runs in the folder `state`. Raises `StackUnavailableError` when none does."""
        try:
            document: dict[str, Any] = json.loads((state / FILE_NAME).read_text(encoding="utf-8"))
            account, secret = document["accounts"]["ka"]
            own_panel = any(line["role"] == SANDBOX for line in document["processes"])
            return cls(
                state=state,
                gateways=tuple(document["gateway"]),
                kafka=document["kafka"],
                database=document["database"],
                account=account,
                secret=secret,
                processes=tuple(
                    StackProcess(name=line["name"], role=line["role"], pid=line["pid"], admin=line.get("admin"))
                    for line in document["processes"]
                ),
                panel=document["sandbox"] if own_panel else None,
            )
        except FileNotFoundError:
            raise StackUnavailableError(f"no local stack is ready in {state}: start one with `make up`") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StackUnavailableError(f"{state / FILE_NAME} cannot be read: {type(error).__name__} {error}") from None

    def pids(self) -> dict[str, int]:
        """Return pids by process name."""
        return {process.name: process.pid for process in self.processes}

    def administrator(self, gateway: int = 0, *, patience_seconds: float = PATIENCE_SECONDS) -> KeyAdministrator:
        """Return a KA that speaks to the gateway of that number."""
        return KeyAdministrator(
            url=f"{self.gateways[gateway]}/isv",
            account=self.account,
            secret=self.secret,
            patience_seconds=patience_seconds,
        )


@contextmanager
def own_stack(state: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Run `keyway up` on free ports in the folder `state` for the time of a block.

    `environment` replaces our own. Raises `StackUnavailableError` with the end of the output when it does not start.
    """
    state.mkdir(mode=0o711, parents=True, exist_ok=True)
    (state / FILE_NAME).unlink(missing_ok=True)
    command = [sys.executable, "-m", "keyway", "up", "--port-base", "0", "--state-dir", str(state), *arguments]
    log = state / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(process, state, log)
        yield Stack.read(state)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


def _wait_until_ready(process: subprocess.Popen[bytes], state: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not (state / FILE_NAME).exists():
        if process.poll() is not None:
            raise StackUnavailableError(f"`keyway up` ended with status {process.returncode}:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise StackUnavailableError(f"`keyway up` is not ready after {START_SECONDS:g} s:\n{_tail(log)}")
        time.sleep(LOOK_AGAIN_SECONDS)


def _tail(log: Path) -> str:
    return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
