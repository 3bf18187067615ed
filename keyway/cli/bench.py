"""`keyway bench`: the complete system beside baselines, interleaved in one run on this machine.

`roundtrip` loads each with several numbers of callers; `idle` asks once every 300 ms, also while the provider hangs;
`usage` hands usage events to the usage role and to a raw loop. The bench starts its own local
stack with durable servers in a folder of its own and removes it afterwards.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.clock import MachineClock
from shared.errors import KeywayError

if TYPE_CHECKING:
    from bench.contestants import Contestant
    from bench.measure import Cell, Shape
    from keyway.ka.local_stack import Stack
    from keyway.localstack.ports import PortReservations

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
USAGE_EVENTS = 20_000
QUICK_USAGE_EVENTS = 5_000
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
        usage(quick=quick, json_output=json_output)


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
    """One PURCHASE every 300 ms: latency when nobody else asks, which load would hide; and while the provider hangs."""
    from bench.measure import IDLE_PAUSE_MS, Shape

    shape = Shape(
        callers=(1,),
        rounds=rounds,
        seconds=QUICK_IDLE_SECONDS if quick else IDLE_SECONDS,
        warm_up_seconds=IDLE_WARM_UP_SECONDS,
        pause_ms=IDLE_PAUSE_MS,
    )
    run("idle", shape, save=save, json_output=json_output, hanging=True)


@app.command()
def usage(
    events: Annotated[int | None, typer.Option(min=1000, max=1_000_000, help="Usage events of one measurement")] = None,
    rounds: RoundsOption = ROUNDS,
    quick: QuickOption = False,
    save: SaveOption = True,
    json_output: JsonOption = False,
) -> None:
    """Usage events to durable counters: events per second beside a raw getmany loop with COPY into one table."""
    from bench.usage import UsageShape, measure_usage
    from bench.usage_report import document, plot, text

    shape = UsageShape(events=events or (QUICK_USAGE_EVENTS if quick else USAGE_EVENTS), rounds=rounds)
    when = MachineClock().now().isoformat(timespec="seconds")
    with failures_named(), bench_stack() as (stack, _), progress(2 * shape.rounds, hidden=json_output) as advance:
        cells = measure_usage(
            stack, shape, lambda cell: advance(f"{cell.contestant}: {cell.events_per_second:,.0f} events/s")
        )
    printed = f"{text(shape, cells)}\n\n{plot(cells)}"
    show_and_save("usage", document(shape, cells, when), printed, save=save, json_output=json_output)


def caller_counts(text: str) -> tuple[int, ...]:
    """Return the numbers in `text`, rising. Raises `typer.BadParameter` for anything else than sensible numbers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= CALLERS_MAX for part in parts):
        raise typer.BadParameter(f"{text!r}: write numbers from 1 to {CALLERS_MAX} with commas", param_hint="--callers")
    return tuple(sorted({int(part) for part in parts}))


def run(name: str, shape: "Shape", *, save: bool, json_output: bool, hanging: bool = False) -> None:
    """Start everything, measure, print and save. Raises `KeywayError` when a contestant fails."""
    from bench.report import document, plot, text

    when = MachineClock().now().isoformat(timespec="seconds")
    with failures_named(), contestants(hanging=hanging) as ready:
        cells = _measured(ready, shape, json_output=json_output)
    printed = f"{text(name, shape, cells)}\n\n{plot(name, shape, cells)}"
    show_and_save(name, document(name, shape, cells, when), printed, save=save, json_output=json_output)


def show_and_save(name: str, found: "Mapping[str, object]", printed: str, *, save: bool, json_output: bool) -> None:
    """Print a result, and keep it under `bench/results` where wanted."""
    from bench.report import RESULTS

    result = json.dumps(found, indent=1)
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(result + "\n", encoding="utf-8")
        (RESULTS / f"{name}.txt").write_text(printed + "\n", encoding="utf-8")
    print(result if json_output else printed)


@contextmanager
def failures_named() -> Iterator[None]:
    """Turn what a contestant fails with into one line. Raises `BenchFailedError`."""
    from bench.contestants import ContestantFailedError

    try:
        yield
    except (ContestantFailedError, subprocess.SubprocessError) as error:
        raise BenchFailedError(f"{type(error).__name__}: {error}") from None


@contextmanager
def bench_stack() -> "Iterator[tuple[Stack, PortReservations]]":
    """Run a stack with durable servers in a state folder of its own, with ports for what runs beside it."""
    from keyway.ka.local_stack import own_stack
    from keyway.localstack.ports import PortReservations

    state = Path(tempfile.mkdtemp(prefix="keyway-bench-", dir="/var/tmp"))
    state.chmod(0o711)  # the uid that runs PostgreSQL for root must get through
    ports = PortReservations()
    try:
        with own_stack(state) as running:
            yield running, ports
    finally:
        ports.release()
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def contestants(*, hanging: bool) -> "Iterator[Sequence[Contestant]]":
    """Run the contestants of `roundtrip` and `idle` for the time of a block."""
    from bench.contestants import echo, synchronous, system
    from bench.hanging import system_beside_a_hanging_provider

    with bench_stack() as (running, ports), ExitStack() as stack:
        yield (
            stack.enter_context(echo(running, ports)),
            stack.enter_context(synchronous(running, ports, POOL_SIZE)),
            system(running),
            *([system_beside_a_hanging_provider(running)] if hanging else ()),
        )


@contextmanager
def progress(total: int, *, hidden: bool) -> "Iterator[Callable[[str], None]]":
    """Show a bar of `total` measurements on standard error; yields what to call after each, with its result."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=hidden) as bar:
        task = bar.add_task("measuring", total=total)
        yield lambda told: bar.update(task, advance=1, description=told)


def _measured(ready: "Sequence[Contestant]", shape: "Shape", *, json_output: bool) -> "list[Cell]":
    from bench.measure import measure

    with progress(len(ready) * len(shape.callers) * shape.rounds, hidden=json_output) as advance:
        tell: Callable[[Cell], None] = lambda cell: advance(  # noqa: E731 - one expression, used once
            f"{cell.contestant} {cell.callers}: {cell.requests_per_second:,.0f}/s"
        )
        return list(measure(ready, shape, tell))
