"""The load generator: N callers that each wait for the answer before they ask again, in a process of its own.

Raw sockets on uvloop: no HTTP library, no pipelining, one prepared request whose license number alone changes, so that
every request buys a new license. `python -m bench.load JSON` prints one JSON result. With `pause_ms` there is one
caller that asks on a fixed beat (the `idle` benchmark).
"""

import asyncio
import json
import math
import sys
import time
from array import array
from base64 import b64encode
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop

SETTLE_SECONDS = 30.0
NUMBER_DIGITS = 10
OK = b"200"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to send where, and for how long."""

    host: str
    port: int
    path: str
    account: str
    secret: str = field(repr=False)
    callers: int
    seconds: float
    first_number: int
    """License numbers count up from here; nobody else may use them."""
    expires_on: str
    """`DD/MM/YYYY`, in the future."""
    pause_ms: int = 0
    """One request every so many milliseconds instead of one after the other; then `callers` is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What came back. Latencies are in milliseconds and of answered requests only."""

    seconds: float
    requests: int
    """Answered with 200."""
    failures: int
    """Answered otherwise, or not at all."""
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    generator_cpu_seconds: float
    generator: str


def percentile(latencies: list[float], share: float) -> float:
    """Return the smallest latency that at least `share` of the sorted `latencies` do not exceed; 0 when empty."""
    if not latencies:
        return 0.0
    return latencies[max(0, math.ceil(share * len(latencies)) - 1)]


class Run:
    """One run: hands out requests, takes answers."""

    def __init__(self, plan: LoadPlan) -> None:
        self._head, self._tail = request_parts(plan)
        self._number = plan.first_number
        self.pause_seconds = plan.pause_ms / 1000
        self.seconds = plan.seconds
        self.latencies = array("d")
        self.failures = 0
        self.callers_left = plan.callers
        self.ended = asyncio.get_running_loop().create_future()
        self.start_at = time.perf_counter()
        self.stop_at = self.start_at + plan.seconds

    def next_request(self) -> bytes:
        """Return a request for a license that nobody has asked for."""
        number = self._number
        self._number = number + 1
        return b"%b%010d%b" % (self._head, number, self._tail)

    def leave(self, *, failed: bool) -> None:
        """Count a caller out."""
        self.failures += failed
        self.callers_left -= 1
        if self.callers_left == 0 and not self.ended.done():
            self.ended.set_result(None)

    def result(self, cpu_seconds: float) -> LoadResult:
        """Return the figures of the run."""
        ordered = [seconds * 1000 for seconds in sorted(self.latencies)]
        return LoadResult(
            seconds=self.seconds,
            requests=len(ordered),
            failures=self.failures,
            p50_ms=percentile(ordered, 0.5),
            p90_ms=percentile(ordered, 0.9),
            p99_ms=percentile(ordered, 0.99),
            max_ms=ordered[-1] if ordered else 0.0,
            generator_cpu_seconds=cpu_seconds,
            generator="raw sockets",
        )


class Caller(asyncio.Protocol):
    """One connection: ask, wait, ask again until the time is up."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._transport: asyncio.WriteTransport | None = None
        self._asked_at = 0.0
        self._waiting = False
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast(asyncio.WriteTransport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take the answer once it is whole."""
        received = self._received + data if self._received else data
        if not is_whole(received):
            self._received = received
            return
        self._received = b""
        self._waiting = False
        now = time.perf_counter()
        run = self._run
        if received[9:12] != OK:
            run.failures += 1
        elif now <= run.stop_at:
            run.latencies.append(now - self._asked_at)
        if now >= run.stop_at:
            self._end()
        elif run.pause_seconds:
            beat = max(0.0, self._asked_at + run.pause_seconds - now)
            asyncio.get_running_loop().call_later(beat, self._ask)
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is asyncio's
        """Count an answer that never came."""
        if self._transport is not None:
            self._transport = None
            self._run.leave(failed=self._waiting)

    def _ask(self) -> None:
        if self._transport is None:
            return
        self._waiting = True
        self._asked_at = time.perf_counter()
        self._transport.write(self._run.next_request())

    def _end(self) -> None:
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.close()
            self._run.leave(failed=False)


def is_whole(received: bytes) -> bool:
    """Whether `received` is a complete answer with a stated length."""
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    head = received[: head_end + 2].lower()
    length_at = head.find(b"\r\ncontent-length:")
    if length_at < 0:
        return True
    line = head[length_at + 17 : head.find(b"\r\n", length_at + 17)]
    return len(received) >= head_end + 4 + int(line)


def form_parts(plan: LoadPlan) -> tuple[str, str]:
    """Return the form of a PURCHASE before and after the license number."""
    before = "APS_PROTOCOL_MODEL=2&APS_ACTION=PURCHASE&APS_TEST_MODE=N&PURCHASE_ID="
    expiry = plan.expires_on.replace("/", "%2F")
    return before, f"&PRODUCT_ID=Bronze&EXPIRY_DATE={expiry}&REG_NAME=60321"


def request_parts(plan: LoadPlan) -> tuple[bytes, bytes]:
    """Return the bytes of a PURCHASE request before and after the license number."""
    before, after = form_parts(plan)
    credentials = b64encode(f"{plan.account}:{plan.secret}".encode()).decode("ascii")
    head = (
        f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\nAccept: */*\r\n"
        f"Authorization: Basic {credentials}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(before) + NUMBER_DIGITS + len(after)}\r\n\r\n"
    )
    return (head + before).encode("ascii"), after.encode("ascii")


async def generate(plan: LoadPlan) -> LoadResult:
    """Carry out `plan` and return the figures. Raises `OSError` when nobody listens."""
    loop = asyncio.get_running_loop()
    run = Run(plan)
    cpu_before = time.process_time()
    async with asyncio.timeout(plan.seconds + SETTLE_SECONDS):
        for _ in range(plan.callers):
            await loop.create_connection(lambda: Caller(run), plan.host, plan.port)
        await run.ended
    return run.result(time.process_time() - cpu_before)


def main() -> None:
    """Run the plan given as the one argument."""
    plan = LoadPlan(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(uvloop.run(generate(plan)))))


if __name__ == "__main__":
    main()
