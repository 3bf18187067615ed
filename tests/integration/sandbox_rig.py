"""A running sandbox for tests: served in this process, reset before each test, called over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

import aiohttp
from lxml import etree

from keyway.sandbox.app import Addresses, Options, serving
from keyway.sandbox.store import Opening
from shared.clock import MachineClock

USER = "reseller"
PASSWORD = "pw"
FROZEN_AT = "2025-11-22T10:00:00+00:00"
PATIENCE_SECONDS = 20.0
DISK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the head, the bytes, and the document that they hold."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def doc(self) -> Any:
        """The document, parsed without entities."""
        return etree.fromstring(self.body, etree.XMLParser(resolve_entities=False, no_network=True))

    def text(self, path: str) -> str | None:
        """Return the text at `path` below the root, None when there is no such element."""
        found = self.doc.find(path)
        return None if found is None else found.text or ""

    @property
    def error(self) -> tuple[str, str] | None:
        """Type and object of the error, None without one."""
        found = self.doc.find("error")
        return None if found is None else (found.get("type"), found.get("object"))

    @property
    def new_id(self) -> int:
        """The id of what was made."""
        text = self.text("id")
        assert text is not None, self.body
        return int(text)

    def column(self, name: str) -> list[str]:
        """Return one cell of every row."""
        return [row.findtext(name) for row in self.doc.findall("elem")]


@dataclass(frozen=True, slots=True)
class Ending:
    """What a raw socket saw: the bytes, and how the connection ended."""

    received: bytes
    how: Literal["closed", "reset", "waiting"]

    @property
    def body(self) -> bytes:
        """The bytes after the head."""
        return self.received.partition(b"\r\n\r\n")[2]


@dataclass(slots=True)
class SandboxRig:
    """A sandbox and ways to talk to it."""

    addresses: Addresses
    session: aiohttp.ClientSession
    state_dir: Path
    defaults: dict[str, str] = field(default_factory=lambda: {"authinfo": f"{USER}:{PASSWORD}", "lang": "en"})

    @property
    def root(self) -> str:
        """Scheme, host and port."""
        return self.addresses.url.removesuffix("/manager/billmgr")

    async def call(self, func: str, /, headers: dict[str, str] | None = None, **parameters: str) -> Reply:
        """POST one panel call, with the usual credentials and language unless given others."""
        form = {**self.defaults, "func": func, **parameters}
        options = {"data": form, "headers": headers, "allow_redirects": False}
        async with self.session.post(self.addresses.url, **options) as response:
            return Reply(response.status, dict(response.headers), await response.read())

    async def get(self, path: str) -> Reply:
        """GET a path."""
        async with self.session.get(f"{self.root}{path}", allow_redirects=False) as response:
            return Reply(response.status, dict(response.headers), await response.read())

    async def order(self, **parameters: str) -> Reply:
        """Order a license as example 1 does, but for `parameters`."""
        return await self.call("softexternal.order.param", **{**EXAMPLE_ORDER, **parameters})

    async def control(self, method: str, path: str, body: object = None) -> Any:
        """Call the control plane; its JSON. Fails the test on a refusal."""
        status, content = await self.control_status(method, path, body)
        assert status == 200, content
        return content

    async def control_status(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Call the control plane; status and JSON."""
        async with self.session.request(method, f"{self.root}/__sandbox/{path}", json=body) as response:
            return response.status, await response.json(content_type=None)

    async def fault(self, mode: str, func: str = "*", phase: str | None = None, nth: int = 1, **args: object) -> None:
        """Set a fault that strikes once, at the nth matching call from now."""
        match = {"func": func, "nth": nth}
        await self.control("POST", "faults", {"match": match, "mode": mode, "phase": phase, "args": args})

    async def charges(self) -> list[dict[str, Any]]:
        """Return the ledger's lines."""
        ledger = await self.control("GET", "ledger")
        return list(ledger["charges"])

    async def until_charged(self, count: int) -> None:
        """Wait until the ledger holds so many lines: an effect is there once the disk has it."""
        async with asyncio.timeout(DISK_SECONDS):
            while len(charged := await self.charges()) < count:
                await MachineClock().sleep(0.01)
        assert len(charged) == count

    async def licenses(self) -> list[dict[str, Any]]:
        """Return every license of the state."""
        state = await self.control("GET", "state")
        return list(state["licenses"])

    async def journal(self) -> list[dict[str, Any]]:
        """Return the journal's entries."""
        return list((await self.control("GET", "journal"))["entries"])

    async def raw(self, func: str, /, wait_seconds: float = PATIENCE_SECONDS, **parameters: str) -> Ending:
        """Send a call through a plain socket and read until the connection ends, or for `wait_seconds`."""
        address = urlsplit(self.addresses.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        body = urlencode({**self.defaults, "func": func, **parameters})
        head = (
            f"POST {address.path} HTTP/1.1\r\nHost: panel\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write((head + body).encode())
        pieces: list[bytes] = []
        how: Literal["closed", "reset", "waiting"] = "closed"
        try:
            async with asyncio.timeout(wait_seconds):
                while piece := await reader.read(65_536):
                    pieces.append(piece)
        except ConnectionResetError:
            how = "reset"
        except TimeoutError:
            how = "waiting"
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return Ending(b"".join(pieces), how)


EXAMPLE_ORDER = {
    "clicked_button": "finish",
    "ip": "203.0.113.10",
    "licname": "web-01 lb-k3q7n5c2xw4mdz6tjy2ahv5pru",
    "period": "1",
    "pricelist": "546",
    "autoprolong": "null",
    "sok": "ok",
    "skipbasket": "on",
}


def options(state_dir: Path, *, control: bool = True, tls: bool = False) -> Options:
    """Return the options of a sandbox on free ports."""
    opening = Opening(seed="test", user=USER, password=PASSWORD, balance=10_000_0000)
    return Options(
        host="127.0.0.1",
        port=0,
        tls_port=0 if tls else None,
        state_dir=state_dir,
        control=control,
        opening=opening,
    )


@contextlib.asynccontextmanager
async def running_sandbox(state_dir: Path, *, control: bool = True, tls: bool = False) -> AsyncIterator[SandboxRig]:
    """Serve a sandbox inside the block."""
    clock = MachineClock()
    async with (
        serving(options(state_dir, control=control, tls=tls), clock, clock) as addresses,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
    ):
        yield SandboxRig(addresses, session, state_dir)
