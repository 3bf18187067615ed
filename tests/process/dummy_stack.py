"""A local stack whose own processes are dummies: the servers and the supervision are real.

`python -m tests.process.dummy_stack OPTIONS` runs it as `keyway up` would; `OPTIONS` is a JSON object of `Plan` fields.
`... gateway|worker ROLE` is one dummy process, which answers 200 on its ports and, told to stop, says so in its log.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyway.localstack.plan import Plan
from keyway.localstack.stack import run
from shared.errors import KeywayError
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class DummyWorld:
    accounts: Mapping[str, tuple[str, str]]
    signing_keys_file: Path
    clock_offset_file: Path
    panel_password_file: Path


class Lines:
    def say(self, text: str) -> None:
        print(text, flush=True)

    def downloaded(self, fetched: int, total: int) -> None:
        del fetched, total

    def ready(self, document: Mapping[str, Any], seconds: float) -> None:
        print(f"ready after {seconds:.2f} s", len(document["processes"]), flush=True)


async def prepare(settings: Settings, state: Path) -> DummyWorld:
    assert settings.kafka_session_timeout_seconds == 3
    assert settings.require_database_url()
    assert settings.require_kafka_bootstrap()
    return DummyWorld({"ka": ("ka", "dummy-secret")}, state / "keys", state / "offset", state / "pw")


async def serve() -> None:
    """Answer 200 to everything until SIGTERM."""
    import signal

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        shown = {name: value for name, value in os.environ.items() if name.startswith("KEYWAY_")}
        body = json.dumps({"pid": os.getpid(), "settings": shown}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ports = [os.environ["KEYWAY_ADMIN_PORT"], *([os.environ["KEYWAY_HTTP_PORT"]] if sys.argv[1] == "gateway" else [])]
    servers = [await asyncio.start_server(answer, "127.0.0.1", int(port)) for port in ports]
    await stop.wait()
    asked = time.monotonic()
    for server in servers:
        server.close()
    addresses = (os.environ["KEYWAY_KAFKA_BOOTSTRAP"], os.environ["KEYWAY_DATABASE_URL"].partition("@")[2])
    served = all([await accepts(address.partition("/")[0]) for address in addresses])
    print(json.dumps({"asked": asked, "servers_up": served, "done": time.monotonic()}), flush=True)


async def accepts(address: str) -> bool:
    """Whether somebody listens on `address`."""
    try:
        _, writer = await asyncio.open_connection(*address.split(":"))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def main() -> None:
    if sys.argv[1] in ("gateway", "worker"):
        if os.environ.get("KEYWAY_LICENSE_ISSUER") == "crash" and sys.argv[1] == "worker":
            sys.exit("this worker cannot start")
        asyncio.run(serve())
        return
    options = json.loads(sys.argv[1])
    plan = Plan(
        **{"gateways": 1, "workers": {"license": 1}, "makes_archive": False, "port_base": 0, **options}
        | {"state": Path(options["state"]).resolve()},
        program=(sys.executable, "-m", "tests.process.dummy_stack"),
    )
    try:
        asyncio.run(run(plan, prepare, Lines()))
    except KeywayError as error:
        print(f"refused: {error}", flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
