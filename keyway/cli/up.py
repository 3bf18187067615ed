"""`keyway up`: the local stack with everything in it, and what a newcomer needs to see to use it."""

import asyncio
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from keyway.localstack.folders import default_state_folder, found_state_folder
from keyway.localstack.layout import FIRST_GATEWAY, GATEWAYS_MAX, WORKERS_MAX
from keyway.localstack.plan import Plan
from keyway.localstack.roles import WORKER_ROLES
from keyway.localstack.stack import run
from shared.settings import load_settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SHOW_PROGRESS_SECONDS = 2.0
MEGABYTE = 1_000_000
ROLES = ", ".join(role.name for role in WORKER_ROLES)
# The one request to paste: nothing in it depends on the day, so that it buys once and is answered alike ever after.
EXAMPLE_NUMBER = "10000001"
EXAMPLE_FORM = f"APS_ACTION=PURCHASE&PURCHASE_ID={EXAMPLE_NUMBER}&PRODUCT_ID=Bronze&EXPIRY_DATE=31%2F12%2F2099"


@app.command()
def up(
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data, logs and endpoints.json; it survives restarts")
    ] = None,
    port_base: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the first gateway, the others follow; 0 picks free ports")
    ] = FIRST_GATEWAY,
    gateways: Annotated[int, typer.Option(min=1, max=GATEWAYS_MAX, help="How many gateways")] = 1,
    workers: Annotated[str, typer.Option(metavar="ROLE=N,...", help=f"How many workers per role ({ROLES})")] = "",
    without: Annotated[str, typer.Option(metavar="ROLE,...", help="Roles to leave out")] = "",
    json_output: Annotated[bool, typer.Option("--json", help="Print endpoints.json when ready")] = False,
) -> None:
    """Start PostgreSQL, Kafka, the sandbox panel, gateways and workers; Ctrl-C stops everything and keeps the data.

    Servers named by KEYWAY_DATABASE_URL, KEYWAY_KAFKA_BOOTSTRAP and KEYWAY_PROVIDER_ISPLICENSE_URL are used instead of
    our own. Accounts in KEYWAY_PROVIDER_ISPLICENSE_ACCOUNTS that name no panel are opened at the sandbox panel too.
    """
    plan = Plan(
        state=(state_dir or load_settings().local_state_dir or default_state_folder()).resolve(),
        port_base=port_base,
        gateways=gateways,
        workers=worker_counts(workers, without),
        has_sandbox=True,
    )
    from keyway.cli.prepare import prepare_world

    asyncio.run(run(plan, prepare_world, TerminalNarrator(plan.state, json_output=json_output)))


def worker_counts(workers: str, without: str) -> dict[str, int]:
    """Return how many workers of each role to start. Raises `typer.BadParameter` for what cannot be meant."""
    counts = {role.name: role.count for role in WORKER_ROLES}
    for part in filter(None, workers.split(",")):
        role, _, number = part.partition("=")
        if role not in counts or not number.isascii() or not number.isdigit():
            raise typer.BadParameter(f"{part!r}: write ROLE=N; roles are {ROLES}", param_hint="--workers")
        counts[role] = int(number)
    for role in filter(None, without.split(",")):
        if role not in counts:
            raise typer.BadParameter(f"no role {role!r}; roles are {ROLES}", param_hint="--without")
        counts[role] = 0
    if sum(counts.values()) > WORKERS_MAX:
        raise typer.BadParameter(f"more than {WORKERS_MAX} workers", param_hint="--workers")
    return counts


class TerminalNarrator:
    """Writes plain lines; on a terminal the download is a bar. With `json_output` only the document is on stdout."""

    def __init__(self, state: Path, *, json_output: bool) -> None:
        self._state = state
        self._json_output = json_output
        self._out = sys.stderr if json_output else sys.stdout
        self._began = time.monotonic()
        self._told_at = float("-inf")
        self._bar: Any = None

    def say(self, text: str) -> None:
        """Write one line with the seconds since the start."""
        self._write(f"[{time.monotonic() - self._began:6.1f} s] {text}")

    def downloaded(self, fetched: int, total: int) -> None:
        """Show the download: a bar on a terminal, else a line every two seconds."""
        if self._out.isatty():
            self._show_bar(fetched, total)
        elif fetched >= total or time.monotonic() - self._told_at > SHOW_PROGRESS_SECONDS:
            self._told_at = time.monotonic()
            self.say(f"downloading, once: {fetched / MEGABYTE:.0f} of {total / MEGABYTE:.0f} MB")

    def ready(self, document: Mapping[str, Any], seconds: float) -> None:
        """Print addresses, credentials and one line to paste."""
        if self._json_output:
            print(json.dumps(document), flush=True)
            return
        self._write("\n".join(ready_text(document, self._state, seconds)))

    def _write(self, text: str) -> None:
        try:
            print(text, file=self._out, flush=True)
        except OSError:  # whoever read us has gone; the stack lives on, and nothing is left to tell
            self._out = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until the process ends

    def _show_bar(self, fetched: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        if self._bar is None:
            self._bar = Progress(
                TextColumn("downloading, once"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=Console(file=self._out),
            )
            self._bar.add_task("", total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=fetched)
        if fetched >= total:
            self._bar.stop()


def _command() -> list[str]:
    """Return how to call `keyway` from any terminal: the console script beside our Python, else that Python."""
    installed = Path(sys.executable).with_name("keyway")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "keyway"]


def ready_text(document: Mapping[str, Any], state: Path, seconds: float) -> list[str]:
    """Return what a person sees when everything is ready."""
    name, secret = document["accounts"]["ka"]
    paste = f"curl -sS -i -u {shlex.quote(f'{name}:{secret}')} -d '{EXAMPLE_FORM}' {document['isv']}"
    keyway = [*_command(), "explain", f"{name}:{EXAMPLE_NUMBER}"]
    if state != found_state_folder():
        keyway += ["--state-dir", str(state)]
    return [
        "",
        f"Keyway is ready after {seconds:.1f} s. A local stack, not for production.",
        "",
        *(f"  {'gateway':<10}{address}" for address in document["gateway"]),
        f"  {'admin':<10}{document['admin']}  (/readyz, /metrics)",
        f"  {'kafka':<10}{document['kafka']}",
        f"  {'database':<10}{document['database']}",
        *([f"  {'sandbox':<10}{document['sandbox']}"] if "sandbox" in document else []),
        "",
        *(f"  {'account':<10}{account} : {password}" for account, password in document["accounts"].values()),
        "",
        f"  {'state':<10}{state}  (endpoints.json, logs)",
        "",
        "Buy a license; sent again, today or next month, the answer is the same, byte for byte:",
        "",
        paste,
        "",
        "Then ask what became of it; with --help the same command lists all verbs, and all of them find this stack:",
        "",
        shlex.join(keyway),
        "",
        "Ctrl-C stops everything and keeps the data.",
    ]
