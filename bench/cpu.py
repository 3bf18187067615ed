"""CPU seconds of processes, children included: the steadiest figure on a machine that others use too."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
PARENT, OWN_USER, OWN_SYSTEM, REAPED_USER, REAPED_SYSTEM = 1, 11, 12, 13, 14
"""Places of the fields after the command name in `/proc/PID/stat`, counted from the state (see proc(5))."""


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return CPU seconds used so far by each named process with all its descendants, the ended ones too.

    A process that is gone counts 0.
    """
    table = dict(_table())
    children: dict[int, list[int]] = {}
    for pid, fields in table.items():
        children.setdefault(int(fields[PARENT]), []).append(pid)
    ticks = os.sysconf("SC_CLK_TCK")
    return {name: _ticks_of(pid, table, children) / ticks for name, pid in pids.items()}


def _ticks_of(pid: int, table: Mapping[int, list[str]], children: Mapping[int, list[int]]) -> int:
    fields = table.get(pid)
    if fields is None:
        return 0
    own = sum(int(fields[place]) for place in (OWN_USER, OWN_SYSTEM, REAPED_USER, REAPED_SYSTEM))
    return own + sum(_ticks_of(child, table, children) for child in children.get(pid, ()))


def _table() -> Iterator[tuple[int, list[str]]]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()


def per_request(before: Mapping[str, float], after: Mapping[str, float], requests: int) -> dict[str, float]:
    """Return microseconds of CPU per request by process between two readings; empty without requests."""
    if requests == 0:
        return {}
    return {name: (after[name] - before.get(name, 0.0)) * 1_000_000 / requests for name in after}
