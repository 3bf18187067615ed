"""`keyway up` itself, as a newcomer types it: the printed line works, and works again after a restart."""

import base64
import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from keyway.localstack.folders import CHECKOUT
from keyway.localstack.processes import identify
from tests.process.running_stack import until

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]

STOP_SECONDS = 120.0
COMMAND = [sys.executable, "-m", "keyway", "up", "--port-base", "0"]


@contextmanager
def up(state: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command and stop it afterwards as Ctrl-C does."""
    with subprocess.Popen(
        [*COMMAND, "--state-dir", str(state), *options], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(STOP_SECONDS) == 0


def pasted_line(process: subprocess.Popen[str]) -> list[str]:
    """Return the printed `curl` line, split as a shell does."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("curl "):
            return shlex.split(line)
    raise AssertionError("no curl line was printed")


def answer_to(curl: list[str]) -> tuple[int, dict[str, str], bytes]:
    """Send what `curl -u USER -d FORM URL` sends."""
    url, form, user = curl[-1], curl[curl.index("-d") + 1], curl[curl.index("-u") + 1]
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        credentials = base64.b64encode(user.encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", f"/{path}", form, headers)
        response = connection.getresponse()
        return (
            response.status,
            {name: value for name, value in response.getheaders() if name != "Date"},
            response.read(),
        )
    finally:
        connection.close()


@pytest.mark.asyncio
async def test_printed_line_buys_once_and_the_stack_outlives_its_reader(tmp_path: Path) -> None:
    with up(tmp_path / "state") as process:
        curl = pasted_line(process)
        first = answer_to(curl)
        assert first[0] == 200
        assert answer_to(curl) == first

    with up(tmp_path / "state") as process:
        again = pasted_line(process)
        assert again[:-1] == curl[:-1], "secrets survive a restart"
        assert answer_to(again) == first

        assert process.stdout is not None
        process.stdout.close()
        pids = {entry["name"]: entry["pid"] for entry in endpoints(tmp_path)}
        os.kill(pids["license-0"], signal.SIGKILL)  # now the stack has something to say, and nobody hears it

        def replaced() -> bool:
            pid = next(entry["pid"] for entry in endpoints(tmp_path) if entry["name"] == "license-0")
            return pid != pids["license-0"] and identify(pid) is not None

        await until(replaced, seconds=60)


def endpoints(folder: Path) -> list[dict[str, Any]]:
    processes: list[dict[str, Any]] = json.loads((folder / "state" / "endpoints.json").read_text())["processes"]
    return processes
