"""A real `keyway sandbox` process, killed without warning: nothing that it answered or charged is ever lost."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from tests.integration.sandbox_rig import EXAMPLE_ORDER, PASSWORD, USER, running_sandbox

pytestmark = [pytest.mark.asyncio, pytest.mark.process]

START_SECONDS = 20.0
ORDERS_MIN = 25
OPENING_BALANCE = Decimal(5000)


@dataclass(slots=True)
class SandboxProcess:
    """One life of the process."""

    process: subprocess.Popen[str]
    url: str

    @property
    def root(self) -> str:
        return self.url.removesuffix("/manager/billmgr")


@contextlib.contextmanager
def sandbox_process(folder: Path) -> Iterator[SandboxProcess]:
    """Start `keyway sandbox` on `folder`; what is left of it is killed at the end."""
    password_file = folder / "password"
    password_file.write_text(f"{PASSWORD}\n", encoding="utf-8")
    command = [sys.executable, "-m", "keyway", "sandbox", "--port", "0", "--state-dir", str(folder / "state")]
    command += ["--user", USER, "--password-file", str(password_file), "--balance", str(OPENING_BALANCE), "--control"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("sandbox ready: "), line + process.stdout.read()
        yield SandboxProcess(process, line.split()[-1])
    finally:
        process.kill()
        process.wait(START_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


async def order_until_killed(sandbox: SandboxProcess) -> list[int]:
    """Order from four callers at once, kill the process under them; the ids that were answered."""
    answered: list[int] = []

    async def keep_ordering(session: aiohttp.ClientSession) -> None:
        form = {**EXAMPLE_ORDER, "func": "softexternal.order.param", "authinfo": f"{USER}:{PASSWORD}"}
        with contextlib.suppress(aiohttp.ClientError):
            while True:
                async with session.post(sandbox.url, data=form) as response:
                    body = await response.text()
                answered.append(int(body.split("<id>")[1].split("<")[0]))
                if len(answered) == ORDERS_MIN:
                    os.kill(sandbox.process.pid, signal.SIGKILL)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as callers:
        for _ in range(4):
            callers.create_task(keep_ordering(session))
    return answered


async def test_answer_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_is_ready, disk_is_asked = threading.Event(), threading.Event()

    def slow_sync(descriptor: int) -> None:
        disk_is_asked.set()
        disk_is_ready.wait(START_SECONDS)
        os.fsync(descriptor)

    async with running_sandbox(tmp_path) as rig, asyncio.TaskGroup() as tasks:
        await rig.call("whoami")
        monkeypatch.setattr("keyway.sandbox.log.os.fdatasync", slow_sync)
        order = tasks.create_task(rig.order())
        assert await asyncio.to_thread(disk_is_asked.wait, START_SECONDS)
        reader = tasks.create_task(rig.call("softexternal"))
        await asyncio.sleep(0.1)
        early = (order.done(), reader.done())
        disk_is_ready.set()

        assert (await order).new_id == 40_001
        assert (await reader).column("id") == ["40001"]
    assert early == (False, False)


async def fetch(url: str) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        return dict(json.loads(await response.read()))


async def test_killed_sandbox_keeps_every_answered_order_and_its_one_charge(tmp_path: Path) -> None:
    with sandbox_process(tmp_path) as first:
        answered = await order_until_killed(first)
    with sandbox_process(tmp_path) as second:
        state = await fetch(f"{second.root}/__sandbox/state")
        ledger = await fetch(f"{second.root}/__sandbox/ledger")
        journal = await fetch(f"{second.root}/__sandbox/journal")
        second.process.terminate()
        assert second.process.wait(START_SECONDS) == 0

    kept = [row["id"] for row in state["licenses"]]
    charged = [charge["license"] for charge in ledger["charges"]]
    assert len(answered) >= ORDERS_MIN
    assert set(answered) <= set(kept)
    assert charged == kept, "one charge per license, none without one"
    assert len(set(kept)) == len(kept)
    assert Decimal(state["accounts"][0]["balance"]) == OPENING_BALANCE - Decimal(ledger["total"])
    effects = [effect for entry in journal["entries"] for effect in entry["effects"]]
    assert {f"created {number}" for number in answered} <= set(effects)
    assert {charge["request"] for charge in ledger["charges"]} <= {entry["number"] for entry in journal["entries"]}
