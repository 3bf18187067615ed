"""A server of raw bytes on loopback: it reads one request per connection and answers exactly what a test says."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from shared.clock import MachineClock

REQUEST_BYTES_MAX = 65_536
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request as it stood on the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class WireServer:
    """What arrived, and what to answer: `answers` in order, then `otherwise`."""

    answers: list[Answering] = field(default_factory=list)
    requests: list[WireRequest] = field(default_factory=list)
    connections: int = 0
    silent_bytes: list[bytes] = field(default_factory=list)
    """What connections sent that were never a whole request."""
    open_connections: int = 0
    port: int = 0
    _listening: asyncio.Server | None = None

    def stop_listening(self) -> None:
        """Refuse every further connection."""
        assert self._listening is not None
        self._listening.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds: what a client did is noticed here a moment later."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await MachineClock().sleep(0.01)

    async def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, answer it, close."""
        self.connections += 1
        self.open_connections += 1
        try:
            request = await self._read(reader)
            if request is not None:
                self.requests.append(request)
                answer = self.answers.pop(0) if self.answers else reply(b"<doc><ok/></doc>")
                await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> WireRequest | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as cut:
            self.silent_bytes.append(cut.partial)
            return None
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return WireRequest(method, target, headers, body)


@contextlib.asynccontextmanager
async def wire_server(*answers: Answering) -> AsyncIterator[WireServer]:
    """Serve inside the block; every connection still open at its end is cut."""
    state = WireServer(answers=list(answers))
    tasks: set[asyncio.Task[None]] = set()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await state.on_connection(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0, limit=REQUEST_BYTES_MAX)
    state._listening = server
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def raw(content: bytes) -> Answering:
    """Send these bytes and close."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()

    return answer


def reply(body: bytes, *, status: int = 200, headers: tuple[str, ...] = ()) -> Answering:
    """Send a whole HTTP answer and close."""
    lines = (f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Content-Type: text/xml", *headers)
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


async def close(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Close without a byte."""


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Cut the connection with a TCP reset."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Say nothing until the client goes away."""
    await reader.read()


def drip(content: bytes, *, pieces: int, every_seconds: float) -> Answering:
    """Send `content` again and again, `pieces` times."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(pieces):
            writer.write(content)
            await writer.drain()
            await asyncio.sleep(every_seconds)

    return answer
