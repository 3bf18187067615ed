"""Measuring in rounds: A, B, S, and again, so that whatever else the machine does hits all of them alike.

Every cell is one contestant under one load; each has a short warm-up of its own. Figures of a cell are the generator's
and the CPU seconds that the contestant's processes used meanwhile.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from bench.contestants import LOOPBACK, Contestant
from bench.cpu import cpu_seconds, per_request
from bench.load import SETTLE_SECONDS, LoadPlan, LoadResult
from bench.wrk import generate_with_wrk, wrk_path

NUMBERS_PER_CELL = 10_000_000
FIRST_NUMBER = 1_000_000_000
CELLS_MAX = 899
IDLE_PAUSE_MS = 300
EXPIRES_ON = "31/12/2099"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much to measure."""

    callers: tuple[int, ...]
    rounds: int
    seconds: float
    warm_up_seconds: float
    pause_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One measurement."""

    contestant: str
    callers: int
    round: int
    load: LoadResult
    cpu_us_per_request: dict[str, float]

    @property
    def requests_per_second(self) -> float:
        """Answered requests per second."""
        return self.load.requests / self.load.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure over the rounds."""

    median: float
    lowest: float
    highest: float


class Numbers:
    """Hands out ranges of license numbers, each once; a database that has seen a run is not used for another."""

    def __init__(self) -> None:
        self._cells = 0

    def next_range(self) -> int:
        """Return the first number of a fresh range. Raises `ValueError` when ten digits are used up."""
        if self._cells >= CELLS_MAX:
            raise ValueError(f"over {CELLS_MAX} measurements in one run: fewer callers or rounds, please")
        self._cells += 1
        return FIRST_NUMBER + (self._cells - 1) * NUMBERS_PER_CELL


def measure(contestants: Sequence[Contestant], shape: Shape, tell: Callable[[Cell], None]) -> Iterator[Cell]:
    """Yield every cell of `shape`, rounds outermost; `tell` is called with each as it is done."""
    numbers = Numbers()
    for number in range(1, shape.rounds + 1):
        for callers in shape.callers:
            for contestant in contestants:
                with contestant.beside():
                    _load(contestant, shape, callers, shape.warm_up_seconds, numbers)
                    before = cpu_seconds(contestant.processes)
                    result = _load(contestant, shape, callers, shape.seconds, numbers)
                spent = per_request(before, cpu_seconds(contestant.processes), result.requests)
                cell = Cell(
                    contestant=contestant.name, callers=callers, round=number, load=result, cpu_us_per_request=spent
                )
                tell(cell)
                yield cell


def _load(contestant: Contestant, shape: Shape, callers: int, seconds: float, numbers: Numbers) -> LoadResult:
    plan = LoadPlan(
        host=LOOPBACK,
        port=contestant.port,
        path="/isv",
        account=contestant.account,
        secret=contestant.secret,
        callers=callers,
        seconds=seconds,
        first_number=numbers.next_range(),
        expires_on=EXPIRES_ON,
        pause_ms=shape.pause_ms,
    )
    wrk = wrk_path()
    if wrk is not None and not shape.pause_ms:
        return generate_with_wrk(wrk, plan)
    ended = subprocess.run(
        [sys.executable, "-m", "bench.load", json.dumps(asdict(plan))],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + SETTLE_SECONDS * 2,
    )
    return LoadResult(**json.loads(ended.stdout))


def figure(values: Sequence[float]) -> Figure:
    """Return median and spread of `values`."""
    return Figure(median=statistics.median(values), lowest=min(values), highest=max(values))


def ratios(cells: Sequence[Cell], callers: int, name: str, other: str, value: Callable[[Cell], float]) -> list[float]:
    """Return `name` over `other` of each round at `callers`: neighbours in time, so drift cancels."""
    by_round: dict[tuple[str, int], float] = {
        (cell.contestant, cell.round): value(cell) for cell in cells if cell.callers == callers
    }
    rounds = sorted({number for _, number in by_round})
    return [by_round[name, number] / by_round[other, number] for number in rounds if by_round.get((other, number))]
