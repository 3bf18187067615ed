"""`keyway demo`: a KA's month against a real stack, every exchange printed.

Uses the local stack that runs in the state folder, or starts one of its own and removes it afterwards. The month passes
in seconds, because the demo moves the stack's business clock; at the end it is put back.
"""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from keyway.ka import http
from keyway.ka.client import Exchange, KeyAdministrator
from keyway.ka.forms import encode
from keyway.ka.license_body import BodyRefusedError, read_claims
from keyway.ka.local_stack import Stack, StackUnavailableError, own_stack
from keyway.ka.month import STANDARD_MONTH, Scene, Step, faults
from shared.clock import OFFSET_FILE_LOOKUP_SECONDS, MachineClock, read_offset
from shared.errors import KeywayError
from shared.security.private_file import write_private_file

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

ANSWER_SECONDS = 30.0
CLOCK_SETTLES_SECONDS = OFFSET_FILE_LOOKUP_SECONDS + 0.05
SHOWN_BODY_BYTES = 40
LOST_REPLY_SETTLES_SECONDS = 0.3
QUIET_FIELDS = frozenset({"APS_ACTION", "APS_PROTOCOL_MODEL", "APS_TEST_MODE", "REG_NAME"})


class DemoFailedError(KeywayError):
    """The endpoint did not answer as it should."""

    code = "demo"


@app.command()
def demo(
    state_dir: Annotated[
        Path | None, typer.Option(help="State folder of a running local stack; without one the demo starts its own")
    ] = None,
) -> None:
    """Play a KA's month: purchase, lost reply, renewal, upgrade, NFR mark, termination."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    with running_stack(state_dir, console) as stack, moved_clock(stack) as clock:
        found = asyncio.run(Demo(stack, clock, console).play())
    if found:
        raise DemoFailedError(f"{len(found)} answers were not as they should be: {'; '.join(found)}")
    console.print("\n[green]All answers were as they should be.[/green]")


@contextmanager
def running_stack(state_dir: Path | None, console: "Console") -> Iterator[Stack]:
    """Give the stack that runs in `state_dir` (the default one when None), else one of our own for the block.

    Raises `StackUnavailableError` when a folder was named and nothing runs there.
    """
    from keyway.localstack.folders import default_state_folder

    try:
        stack = Stack.read(default_state_folder() if state_dir is None else state_dir)
    except StackUnavailableError:
        if state_dir is not None:
            raise
        console.print("No local stack is running: starting one for the demo. (`make up` keeps one.)")
        own = Path(tempfile.mkdtemp(prefix="keyway-demo-", dir="/var/tmp"))
        own.chmod(0o711)  # the uid that runs PostgreSQL for root must get through
        try:
            with own_stack(own) as started:
                yield started
        finally:
            shutil.rmtree(own, ignore_errors=True)
    else:
        yield stack


@dataclass(frozen=True, slots=True)
class DemoClock:
    """The stack's business clock in the demo's hands."""

    offset_file: Path
    offset_before: timedelta

    def today(self) -> date:
        """Return the day of the trade before the demo moved anything."""
        return (MachineClock().now() + self.offset_before).date()

    def move(self, days: int) -> None:
        """Let so many days pass since the demo began."""
        offset = self.offset_before + timedelta(days=days)
        write_private_file(self.offset_file, f"{round(offset.total_seconds())}\n".encode())


@contextmanager
def moved_clock(stack: Stack) -> Iterator[DemoClock]:
    """Give the stack's clock for the block and put it back afterwards."""
    from keyway.cli.world_files import clock_offset_file

    file = clock_offset_file(stack.state)
    clock = DemoClock(file, read_offset(file))
    try:
        yield clock
    finally:
        clock.move(0)


class Demo:
    """One performance of the month."""

    def __init__(self, stack: Stack, clock: DemoClock, console: "Console") -> None:
        self._stack = stack
        self._clock = clock
        self._console = console
        self._ka: KeyAdministrator = stack.administrator(patience_seconds=ANSWER_SECONDS)
        self._sleep = MachineClock().sleep

    async def play(self) -> list[str]:
        """Play every step and return what was wrong."""
        scene = Scene(first_day=self._clock.today(), number=f"{secrets.randbelow(10**8):08}")
        keys = await self._published_keys()
        found: list[str] = []
        day = 0
        for number, step in enumerate(STANDARD_MONTH, 1):
            if step.day != day:
                day = step.day
                self._clock.move(day)
                await self._sleep(CLOCK_SETTLES_SECONDS)
            exchange = await self._ask(step, scene)
            claims = None
            if step.licensed is not None:
                try:
                    claims = read_claims(exchange.body, keys)
                except BodyRefusedError as error:
                    found.append(f"{step.name}: {error}")
            found += [f"{step.name}: {fault}" for fault in faults(step, exchange, scene, claims)]
            self._print(f"{number}. {step.title}", scene.first_day + timedelta(days=day), exchange, claims)
            if step.same_as:
                same = exchange.body == scene.answers[step.same_as].body
                self._console.print(
                    f"  [green]byte for byte as at {step.same_as!r}[/green]" if same else "  OTHER BYTES"
                )
            scene = replace(scene, answers={**scene.answers, step.name: exchange})
        return found

    async def _ask(self, step: Step, scene: Scene) -> Exchange:
        form = step.request(scene)
        if not step.reply_is_lost:
            return await self._ka.send(form)
        address = http.Address.of(self._ka.url)
        await http.send_and_leave(address, http.render(address, self._ka.headers(), encode(form)))
        await self._sleep(LOST_REPLY_SETTLES_SECONDS)
        return Exchange(form=form, sent_at=0.0, seconds=0.0, answer=None, problem="the connection broke")

    async def _published_keys(self) -> dict[str, object]:
        address = http.Address.of(f"{self._stack.gateways[0]}/.well-known/jwks.json")
        try:
            answer = await http.exchange(
                address, http.render(address, {}, b"", method="GET"), timeout_seconds=ANSWER_SECONDS
            )
        except http.NoAnswerError as error:
            raise DemoFailedError(f"the gateway at {address.host}:{address.port} does not answer: {error}") from None
        keys: dict[str, object] = orjson.loads(answer.body)
        return keys

    def _print(self, title: str, day: date, exchange: Exchange, claims: "dict[str, object] | None") -> None:
        tell = self._console.print
        tell(f"\n[bold]{title}[/bold]  [dim]{day:%d %B %Y}[/dim]")
        fields = [f"{name}={_short(value)}" for name, value in exchange.form if name not in QUIET_FIELDS]
        tell(f"  -> {exchange.action}  {' '.join(fields)}", markup=False)
        if exchange.answer is None:
            tell(f"  <- nothing: {exchange.problem}", markup=False)
            return
        expiry = f"  X-APS-Expiration-Date: {exchange.expiry}" if exchange.expiry else ""
        tell(f"  <- {exchange.status} in {exchange.seconds * 1000:.0f} ms{expiry}", markup=False)
        if claims is not None:
            shown = exchange.body[:SHOWN_BODY_BYTES].decode()
            told = f"{claims['product']}, revision {claims['revision']}"
            tell(f"     {shown}... ({len(exchange.body)} bytes; signature good: {told})", markup=False)
        elif exchange.body:
            tell(f"     {exchange.body.decode(errors='replace')}", markup=False)


def _short(value: str) -> str:
    return value if len(value) <= SHOWN_BODY_BYTES else f"{value[:16]}..."
