"""`keyway bench`: the complete system beside two baselines, interleaved in one run on this machine.

`roundtrip` loads each with several numbers of callers; `idle` asks once every 300 ms. The bench starts its own local
stack with durable servers in a folder of its own and removes it afterwards.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.clock import MachineClock
from shared.errors import KeywayError

if TYPE_CHECKING:
    from bench.contestants import Contestant
    from bench.measure import Cell, Shape

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

CALLERS = "1,16,64,256,512"
QUICK_CALLERS = "16,64,256"
ROUNDS = 3
SECONDS = 8.0
WARM_UP_SECONDS = 3.0
QUICK_SECONDS = 4.0
QUICK_WARM_UP_SECONDS = 2.0
IDLE_SECONDS = 30.0
QUICK_IDLE_SECONDS = 10.0
IDLE_WARM_UP_SECONDS = 3.0
CALLERS_MAX = 2048
POOL_SIZE = 32
"""Connections of baseline B; more or fewer were slower on two cores (docs/benchmarks.md)."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result document instead of the table")]
QuickOption = Annotated[bool, typer.Option(help="Fewer callers and shorter cells: a look, not a measurement")]
RoundsOption = Annotated[int, typer.Option(min=1, max=9, help="Interleaved rounds; medians are taken over them")]
SaveOption = Annotated[bool, typer.Option(help="Write bench/results/NAME.json")]


class BenchFailedError(KeywayError):
    """A benchmark could not run to its end."""

    code = "bench"


@app.callback(invoke_without_command=True)
def everything(context: typer.Context, quick: QuickOption = False, json_output: JsonOption = False) -> None:
    """Measure the system beside two baselines; without a command all benchmarks run, one after the other."""
    if context.invoked_subcommand is None:
        roundtrip(quick=quick, json_output=json_output)
        idle(quick=quick, json_output=json_output)


@app.command()
def roundtrip(
    callers: Annotated[str, typer.Option(metavar="N,...", help="Numbers of callers, a connection each")] = "",
    rounds: RoundsOption = ROUNDS,
    seconds: Annotated[float | None, typer.Option(min=1, max=120, help="Length of one measurement")] = None,
    quick: QuickOption = False,
    save: SaveOption = True,
    json_output: JsonOption = False,
) -> None:
    """PURCHASE over HTTP under load: requests per second, latencies, CPU per request of every process."""
    from bench.measure import Shape

    shape = Shape(
        callers=caller_counts(callers or (QUICK_CALLERS if quick else CALLERS)),
        rounds=rounds,
        seconds=seconds or (QUICK_SECONDS if quick else SECONDS),
        warm_up_seconds=QUICK_WARM_UP_SECONDS if quick else WARM_UP_SECONDS,
    )
    run("roundtrip", shape, save=save, json_output=json_output)


@app.command()
def idle(
    rounds: RoundsOption = ROUNDS,
    quick: QuickOption = False,
    save: SaveOption = True,
    json_output: JsonOption = False,
) -> None:
    """One PURCHASE every 300 ms: latency when nobody else asks, which load would hide."""
    from bench.measure import IDLE_PAUSE_MS, Shape

    shape = Shape(
        callers=(1,),
        rounds=rounds,
        seconds=QUICK_IDLE_SECONDS if quick else IDLE_SECONDS,
        warm_up_seconds=IDLE_WARM_UP_SECONDS,
        pause_ms=IDLE_PAUSE_MS,
    )
    run("idle", shape, save=save, json_output=json_output)


def caller_counts(text: str) -> tuple[int, ...]:
    """Return the numbers in `text`, rising. Raises `typer.BadParameter` for anything else than sensible numbers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= CALLERS_MAX for part in parts):
        raise typer.BadParameter(f"{text!r}: write numbers from 1 to {CALLERS_MAX} with commas", param_hint="--callers")
    return tuple(sorted({int(part) for part in parts}))


def run(name: str, shape: "Shape", *, save: bool, json_output: bool) -> None:
    """Start everything, measure, print and save. Raises `KeywayError` when a contestant fails."""
    from bench.contestants import ContestantFailedError
    from bench.report import RESULTS, document, plot, text

    when = MachineClock().now().isoformat(timespec="seconds")
    try:
        with contestants() as ready:
            cells = _measured(ready, shape, json_output=json_output)
    except (ContestantFailedError, subprocess.SubprocessError) as error:
        raise BenchFailedError(f"{type(error).__name__}: {error}") from None
    result = json.dumps(document(name, shape, cells, when), indent=1)
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(result + "\n", encoding="utf-8")
        (RESULTS / f"{name}.txt").write_text(
            f"{text(name, shape, cells)}\n\n{plot(name, shape, cells)}\n", encoding="utf-8"
        )
    print(result if json_output else f"{text(name, shape, cells)}\n\n{plot(name, shape, cells)}")


@contextmanager
def contestants() -> "Iterator[Sequence[Contestant]]":
    """Run all three contestants for the time of a block, in a state folder of their own."""
    from bench.contestants import echo, synchronous, system
    from keyway.ka.local_stack import own_stack
    from keyway.localstack.ports import PortReservations

    state = Path(tempfile.mkdtemp(prefix="keyway-bench-", dir="/var/tmp"))
    state.chmod(0o711)  # the uid that runs PostgreSQL for root must get through
    ports = PortReservations()
    try:
        with ExitStack() as stack:
            running = stack.enter_context(own_stack(state))
            yield (
                stack.enter_context(echo(running, ports)),
                stack.enter_context(synchronous(running, ports, POOL_SIZE)),
                system(running),
            )
    finally:
        ports.release()
        shutil.rmtree(state, ignore_errors=True)


def _measured(ready: "Sequence[Contestant]", shape: "Shape", *, json_output: bool) -> "list[Cell]":
    from rich.console import Console
    from rich.progress import Progress

    from bench.measure import measure

    with Progress(console=Console(stderr=True), disable=json_output) as progress:
        task = progress.add_task("measuring", total=len(ready) * len(shape.callers) * shape.rounds)
        tell: Callable[[Cell], None] = lambda cell: progress.update(  # noqa: E731 - one expression, used once
            task, advance=1, description=f"{cell.contestant} {cell.callers}: {cell.requests_per_second:,.0f}/s"
        )
        return list(measure(ready, shape, tell))
