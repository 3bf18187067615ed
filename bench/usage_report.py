"""What `keyway bench usage` found: a text table, a plot, and the JSON document behind them."""

from collections.abc import Sequence
from dataclasses import asdict

from bench.measure import Figure, figure
from bench.report import PLOT_WIDTH, machine
from bench.usage import UsageCell, UsageShape

USAGE_CONTESTANTS = {
    "R": "raw aiokafka getmany loop, COPY into one table",
    "S": "the usage role of the complete system",
}
HEADER = f"{'who':>3} {'events/s':>26} {'seconds':>20} {'of these publishing':>20}  CPU us per event"


def rows(cells: Sequence[UsageCell]) -> dict[str, dict[str, Figure]]:
    """Return median and spread of every measure by contestant."""
    return {
        name: {
            "events_per_second": figure([cell.events_per_second for cell in own]),
            "seconds": figure([cell.seconds for cell in own]),
            "publish_seconds": figure([cell.publish_seconds for cell in own]),
            "cpu_us_per_event": figure([sum(cell.cpu_us_per_event.values()) for cell in own]),
        }
        for name in USAGE_CONTESTANTS
        if (own := [cell for cell in cells if cell.contestant == name])
    }


def cpu_by_process(cells: Sequence[UsageCell], name: str) -> dict[str, Figure]:
    """Return CPU microseconds per event by process of a contestant."""
    own = [cell for cell in cells if cell.contestant == name]
    processes = dict.fromkeys(process for cell in own for process in cell.cpu_us_per_event)
    return {process: figure([cell.cpu_us_per_event.get(process, 0.0) for cell in own]) for process in processes}


def ratios(cells: Sequence[UsageCell]) -> dict[str, Figure]:
    """Return S over R, taken within each round, between neighbors in time."""
    by_round = {(cell.contestant, cell.round): cell for cell in cells}
    pairs = [(by_round["S", number], by_round["R", number]) for name, number in by_round if name == "S"]
    return {
        "events_per_second": figure([ours.events_per_second / raw.events_per_second for ours, raw in pairs]),
        "cpu_us_per_event": figure(
            [sum(ours.cpu_us_per_event.values()) / sum(raw.cpu_us_per_event.values()) for ours, raw in pairs]
        ),
    }


def document(shape: UsageShape, cells: Sequence[UsageCell], when: str) -> dict[str, object]:
    """Return everything about a run as plain data."""
    return {
        "benchmark": "usage",
        "when": when,
        "machine": machine(),
        "shape": asdict(shape),
        "contestants": USAGE_CONTESTANTS,
        "summary": {
            name: {
                **{measure: asdict(found) for measure, found in measures.items()},
                "cpu_us_per_event_by_process": {
                    process: asdict(found) for process, found in cpu_by_process(cells, name).items()
                },
            }
            for name, measures in rows(cells).items()
        },
        "ratios": {"S/R": {measure: asdict(found) for measure, found in ratios(cells).items()}},
        "cells": [asdict(cell) for cell in cells],
    }


def text(shape: UsageShape, cells: Sequence[UsageCell]) -> str:
    """Return the report for people."""
    lines = [
        f"usage on {machine()['cpus']} x {machine()['cpu']}",
        f"medians of {shape.rounds} interleaved rounds of {shape.events} events (lowest-highest)",
        *(f"  {short} = {long}" for short, long in USAGE_CONTESTANTS.items()),
        "",
        HEADER,
    ]
    for name, measures in rows(cells).items():
        cpu = "  ".join(f"{process} {spent.median:.0f}" for process, spent in cpu_by_process(cells, name).items())
        lines.append(
            f"{name:>3} {_spread(measures['events_per_second'], 0):>26} {_spread(measures['seconds'], 2):>20} "
            f"{_spread(measures['publish_seconds'], 2):>20}  {cpu}  = {measures['cpu_us_per_event'].median:.0f}"
        )
    lines.append("")
    for measure, found in ratios(cells).items():
        lines.append(f"S/R {measure:<22}{_spread(found, 2)}")
    return "\n".join(lines)


def plot(cells: Sequence[UsageCell]) -> str:
    """Return a plot in characters: durable events per second as bars."""
    medians = {name: measures["events_per_second"].median for name, measures in rows(cells).items()}
    most = max(medians.values())
    bars = [f"{name} {'#' * round(value / most * PLOT_WIDTH)} {value:,.0f}" for name, value in medians.items()]
    return "\n".join(["usage: durable events/s by contestant", *bars])


def _spread(found: Figure, digits: int) -> str:
    return f"{found.median:.{digits}f} ({found.lowest:.{digits}f}-{found.highest:.{digits}f})"
