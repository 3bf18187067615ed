"""The local stack's panel from the operator's side: its books, and what is to go wrong next."""

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from keyway.sandbox.status import Status
from tests.process.whole_stack import WholeStack


@dataclass(frozen=True, slots=True)
class PanelControl:
    """The control plane of the stack's sandbox."""

    root: str

    @classmethod
    def of(cls, stack: WholeStack) -> "PanelControl":
        """Return the control plane of the stack's own sandbox."""
        address = urlsplit(json.loads((stack.state / "endpoints.json").read_text())["sandbox"])
        return cls(f"{address.scheme}://{address.netloc}/__sandbox/")

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the control plane; its JSON. Fails the test on a refusal."""
        timeout = aiohttp.ClientTimeout(total=20)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, self.root + path, json=body) as response,
        ):
            content = await response.json(content_type=None)
            assert response.status == 200, content
            return content

    async def often(
        self, mode: str, probability: float, *, func: str, phase: str | None = None, user: str = "*", **args: Any
    ) -> None:
        """Let a fault strike so many of the calls from now on, of every user or of one."""
        match = {"func": func, "user": user, "probability": probability}
        body = {"match": match, "mode": mode, "phase": phase, "args": args, "times": None}
        await self.call("POST", "faults", body)

    async def first(self, times: int, mode: str, *, func: str, phase: str, user: str) -> None:
        """Let a fault strike the next calls of a user, so many of them and each for certain."""
        body = {"match": {"func": func, "user": user}, "mode": mode, "phase": phase, "times": times}
        await self.call("POST", "faults", body)

    async def calm(self) -> None:
        """Let nothing go wrong any more."""
        await self.call("DELETE", "faults")

    async def charges(self) -> list[dict[str, Any]]:
        """Return the ledger."""
        return list((await self.call("GET", "ledger"))["charges"])

    async def services(self) -> list[dict[str, Any]]:
        """Return every service."""
        return list((await self.call("GET", "state"))["licenses"])

    async def forget_unpaid(self, server: str) -> None:
        """Remove the services for the server with that IP address that nobody paid for."""
        for each in await self.services():
            if each["ip"] == server and each["status"] == Status.ORDERED:
                await self.call("DELETE", f"licenses/{each['id']}")


def files_with(needles: list[bytes], folder: Path, *, spared: set[str]) -> list[str]:
    """Return the files below `folder` that hold one of the needles; `spared` are names of files that may."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink() or path.name in spared:
            continue
        try:
            content = written_to(path)
        except OSError:
            continue  # gone meanwhile, or not ours to read
        if any(needle in content for needle in needles):
            found.append(str(path.relative_to(folder)))
    return found


def written_to(path: Path) -> bytes:
    """Return what was written to a file, one zero for each hole: the files of Kafka's indexes are mostly room to come.

    Gigabytes of it; a search that read them all would take most of a minute.
    """
    parts: list[bytes] = []
    with path.open("rb", buffering=0) as file:
        at, end = 0, os.fstat(file.fileno()).st_size
        while at < end:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # no data behind this place
                    break
                raise
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            parts.append(os.pread(file.fileno(), at - start, start))
    return b"\0".join(parts) + b"\0"
