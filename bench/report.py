"""What a run found: a text table, a plot, goals, and the JSON document behind them."""

import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.measure import Cell, Figure, Shape, figure, ratios

RESULTS = Path(__file__).with_name("results")
CONTESTANTS = {
    "A": "raw aiokafka request/reply echo",
    "B": "synchronous aiohttp + asyncpg, one transaction per request",
    "S": "complete system",
    "H": "complete system while the provider hangs",
}
GOAL_CALLERS = (64, 256)
SYNCHRONOUS_GOAL = 1.2
IDLE_EXTRA_MS = 2.0
HANGING_GOAL = 1.2
PAIRS = (("S", "A"), ("S", "B"), ("H", "S"))
PLOT_WIDTH = 60
HEADER = (
    f"{'callers':>7} {'who':>3} {'requests/s':>22} {'p50 ms':>20} {'p99 ms':>20} {'failed':>6} {'load CPU':>8}  "
    "CPU us per request"
)

MEASURES: dict[str, Callable[[Cell], float]] = {
    "requests_per_second": lambda cell: cell.requests_per_second,
    "p50_ms": lambda cell: cell.load.p50_ms,
    "p99_ms": lambda cell: cell.load.p99_ms,
    "generator_cpu_share": lambda cell: cell.load.generator_cpu_seconds / cell.load.seconds,
    "failures": lambda cell: float(cell.load.failures),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One goal and what was measured."""

    text: str
    measured: float
    met: bool


def document(name: str, shape: Shape, cells: Sequence[Cell], when: str) -> dict[str, object]:
    """Return everything about a run as plain data."""
    return {
        "benchmark": name,
        "when": when,
        "machine": machine(),
        "generator": cells[0].load.generator,
        "shape": asdict(shape),
        "contestants": CONTESTANTS,
        "summary": [asdict(row) for row in summary(shape, cells)],
        "ratios": _ratio_table(shape, cells),
        "goals": [asdict(goal) for goal in goals(name, shape, cells)],
        "cells": [asdict(cell) for cell in cells],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contestant at one number of callers, over the rounds."""

    contestant: str
    callers: int
    measures: dict[str, Figure]
    cpu_us_per_request: dict[str, Figure]


def summary(shape: Shape, cells: Sequence[Cell]) -> list[Row]:
    """Return a row per number of callers and contestant."""
    return [
        _row(contestant, callers, [cell for cell in cells if (cell.contestant, cell.callers) == (contestant, callers)])
        for callers in shape.callers
        for contestant in CONTESTANTS
        if any(cell.contestant == contestant for cell in cells)
    ]


def _row(contestant: str, callers: int, cells: Sequence[Cell]) -> Row:
    names = dict.fromkeys(name for cell in cells for name in cell.cpu_us_per_request)
    return Row(
        contestant=contestant,
        callers=callers,
        measures={name: figure([value(cell) for cell in cells]) for name, value in MEASURES.items()},
        cpu_us_per_request={name: figure([cell.cpu_us_per_request.get(name, 0.0) for cell in cells]) for name in names},
    )


def _ratio_table(shape: Shape, cells: Sequence[Cell]) -> dict[str, dict[str, dict[str, float]]]:
    table: dict[str, dict[str, dict[str, float]]] = {}
    measured = {cell.contestant for cell in cells}
    for name, other in (pair for pair in PAIRS if measured.issuperset(pair)):
        for measure in ("requests_per_second", "p50_ms", "p99_ms"):
            for callers in shape.callers:
                found = ratios(cells, callers, name, other, MEASURES[measure])
                if found:
                    table.setdefault(f"{name}/{other}", {}).setdefault(measure, {})[str(callers)] = figure(found).median
    return table


def goals(name: str, shape: Shape, cells: Sequence[Cell]) -> list[Goal]:
    """Return the goals that this run can judge."""
    if name == "idle":
        return _idle_goals(shape, cells)
    found: list[Goal] = []
    for callers in GOAL_CALLERS:
        values = ratios(cells, callers, "S", "B", MEASURES["requests_per_second"]) if callers in shape.callers else []
        if values:
            measured = figure(values).median
            text = f"S/B at least {SYNCHRONOUS_GOAL} at {callers} callers"
            found.append(Goal(text=text, measured=measured, met=measured >= SYNCHRONOUS_GOAL))
    return found


def _idle_goals(shape: Shape, cells: Sequence[Cell]) -> list[Goal]:
    found: list[Goal] = []
    medians = {row.contestant: row.measures["p50_ms"].median for row in summary(shape, cells)}
    if medians.keys() >= {"A", "B", "S"}:
        limit = medians["A"] + medians["B"] + IDLE_EXTRA_MS
        text = f"p50 of S at most p50 of A + B + {IDLE_EXTRA_MS:g} ms = {limit:.1f} ms"
        found.append(Goal(text=text, measured=medians["S"], met=medians["S"] <= limit))
    if medians.keys() >= {"S", "H"}:
        slowed = figure(ratios(cells, shape.callers[0], "H", "S", MEASURES["p50_ms"])).median
        text = f"p50 of H at most {HANGING_GOAL} times p50 of S"
        found.append(Goal(text=text, measured=slowed, met=slowed <= HANGING_GOAL))
    return found


def text(name: str, shape: Shape, cells: Sequence[Cell]) -> str:
    """Return the report for people."""
    rows = summary(shape, cells)
    lines = [
        f"{name} on {machine()['cpus']} x {machine()['cpu']}; generator: {cells[0].load.generator}",
        f"medians of {shape.rounds} interleaved rounds of {shape.seconds:g} s (lowest-highest)",
        *(f"  {short} = {CONTESTANTS[short]}" for short in dict.fromkeys(row.contestant for row in rows)),
        "",
        HEADER,
    ]
    for row in rows:
        cpu = "  ".join(f"{process} {spent.median:.0f}" for process, spent in row.cpu_us_per_request.items())
        total = sum(spent.median for spent in row.cpu_us_per_request.values())
        measures = row.measures
        lines.append(
            f"{row.callers:>7} {row.contestant:>3} {_spread(measures['requests_per_second'], 0):>22} "
            f"{_spread(measures['p50_ms'], 1):>20} {_spread(measures['p99_ms'], 1):>20} "
            f"{measures['failures'].highest:>6.0f} {measures['generator_cpu_share'].median:>8.0%}  "
            f"{cpu}  = {total:.0f}"
        )
    lines += ["", *_ratio_lines(shape, cells), "", *(_goal_line(goal) for goal in goals(name, shape, cells))]
    return "\n".join(lines)


def _spread(found: Figure, digits: int) -> str:
    return f"{found.median:.{digits}f} ({found.lowest:.{digits}f}-{found.highest:.{digits}f})"


def _ratio_lines(shape: Shape, cells: Sequence[Cell]) -> list[str]:
    header = "ratio".ljust(26) + "".join(f"{callers:>8}" for callers in shape.callers) + "  callers"
    lines = [header]
    for pair, measures in _ratio_table(shape, cells).items():
        for measure, by_callers in measures.items():
            values = "".join(f"{by_callers.get(str(callers), float('nan')):>8.2f}" for callers in shape.callers)
            lines.append(f"{pair + ' ' + measure:<26}{values}")
    return lines


def _goal_line(goal: Goal) -> str:
    return f"goal: {goal.text}: {goal.measured:.2f} {'met' if goal.met else 'MISSED'}"


def plot(name: str, shape: Shape, cells: Sequence[Cell]) -> str:
    """Return a plot in characters: requests per second, or the median latency of the idle benchmark, as bars."""
    measure, unit = ("p50_ms", "ms (p50)") if name == "idle" else ("requests_per_second", "requests/s")
    rows = summary(shape, cells)
    most = max(row.measures[measure].median for row in rows) or 1.0
    lines = [f"{name}: {unit} by callers and contestant"]
    for row in rows:
        value = row.measures[measure].median
        lines.append(f"{row.callers:>5} {row.contestant} {'#' * round(value / most * PLOT_WIDTH)} {value:,.1f}")
    return "\n".join(lines)


def machine() -> dict[str, object]:
    """Return what the figures depend on."""
    return {
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
