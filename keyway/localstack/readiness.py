"""Asking a process whether it is ready: `GET /readyz` on its admin port, written by hand because it is all we ask."""

import asyncio
import time

from keyway.localstack.ports import LOOPBACK
from keyway.localstack.processes import LocalStackError

TRY_AGAIN_SECONDS = 0.05
ANSWER_SECONDS = 2.0
ANSWER_BYTES_MAX = 65_536
SHOWN_BYTES_MAX = 500
OK = b"200"


async def wait_until_ready(name: str, admin_port: int, *, seconds: float) -> None:
    """Return when the process answers 200. Raises `LocalStackError`, quoting its last answer, when it does not."""
    deadline = time.monotonic() + seconds
    while True:
        status, body = await _ask(admin_port)
        if status == OK:
            return
        if time.monotonic() > deadline:
            raise LocalStackError(f"{name} is not ready after {seconds:g} s: {body or 'no answer on its admin port'}")
        await asyncio.sleep(TRY_AGAIN_SECONDS)


async def wait_until_answers(name: str, port: int, *, seconds: float) -> None:
    """Return when somebody answers HTTP on `port`, whatever it says. Raises `LocalStackError`."""
    deadline = time.monotonic() + seconds
    while not (await _ask(port))[0]:
        if time.monotonic() > deadline:
            raise LocalStackError(f"{name} does not answer after {seconds:g} s")
        await asyncio.sleep(TRY_AGAIN_SECONDS)


async def _ask(port: int) -> tuple[bytes, str]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = await reader.read(ANSWER_BYTES_MAX)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b"", ""
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    return (words[1] if len(words) > 1 else b""), body[:SHOWN_BYTES_MAX].decode(errors="replace")
