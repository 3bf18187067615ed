"""The report: medians over rounds, ratios within a round, goals judged by what was measured."""

import os

import pytest

from bench.cpu import cpu_seconds, per_request
from bench.load import LoadResult
from bench.measure import Cell, Numbers, Shape, figure, ratios
from bench.report import document, goals, plot, text

CPU = {"gateway-0": 120.0}
SHAPE = Shape(callers=(64,), rounds=3, seconds=2.0, warm_up_seconds=1.0)


def cell(contestant: str, number: int, requests: int, *, callers: int = 64, p50_ms: float = 5.0) -> Cell:
    load = LoadResult(
        seconds=2.0,
        requests=requests,
        failures=0,
        p50_ms=p50_ms,
        p90_ms=8.0,
        p99_ms=9.0,
        max_ms=10.0,
        generator_cpu_seconds=0.5,
        generator="wrk",
    )
    return Cell(
        contestant=contestant, callers=callers, round=number, load=load, cpu_us_per_request={"gateway-0": 120.0}
    )


CELLS = [
    *(cell("A", number, 8000) for number in (1, 2, 3)),
    *(cell("B", number, requests) for number, requests in ((1, 2000), (2, 1000), (3, 2000))),
    *(cell("S", number, requests) for number, requests in ((1, 3000), (2, 2000), (3, 2600))),
]


def test_ratios_compare_neighbors_of_the_same_round() -> None:
    found = ratios(CELLS, 64, "S", "B", lambda cell: cell.requests_per_second)
    assert found == [1.5, 2.0, 1.3]
    assert figure(found).median == 1.5


@pytest.mark.parametrize(("requests", "met"), [(2600, True), (2000, False)])
def test_the_goal_against_the_synchronous_endpoint_is_judged(requests: int, *, met: bool) -> None:
    cells = [*(cell("B", number, 2000) for number in (1, 2, 3)), *(cell("S", number, requests) for number in (1, 2, 3))]
    assert [goal.met for goal in goals("roundtrip", SHAPE, cells)] == [met]


@pytest.mark.parametrize(("system_ms", "met"), [(11.9, True), (12.1, False)])
def test_the_idle_goal_allows_two_milliseconds_over_both_baselines(system_ms: float, *, met: bool) -> None:
    cells = [cell("A", 1, 9, p50_ms=6.0), cell("B", 1, 9, p50_ms=4.0), cell("S", 1, 9, p50_ms=system_ms)]
    assert [goal.met for goal in goals("idle", SHAPE, cells)] == [met]


@pytest.mark.parametrize(("hanging_ms", "met"), [(6.0, True), (6.1, False)])
def test_the_idle_goal_holds_a_hanging_provider_to_the_latency_beside_it(hanging_ms: float, *, met: bool) -> None:
    cells = [cell("S", 1, 9, p50_ms=5.0), cell("H", 1, 9, p50_ms=hanging_ms)]
    assert [(goal.measured, goal.met) for goal in goals("idle", SHAPE, cells)] == [(hanging_ms / 5.0, met)]
    assert "H/S p50_ms" in text("idle", SHAPE, cells)


def test_the_text_names_every_contestant_ratio_goal_and_process() -> None:
    told = text("roundtrip", SHAPE, CELLS)
    for expected in ("1300 (1000-1500)", "S/B requests_per_second", "1.50", "met", "gateway-0 120", "load CPU"):
        assert expected in told


def test_the_document_holds_every_cell_and_the_plot_every_bar() -> None:
    written = document("roundtrip", SHAPE, CELLS, "2026-01-01T00:00:00+00:00")
    assert len(written["cells"]) == len(CELLS)  # type: ignore[arg-type]  # a list, by construction
    assert len(plot("roundtrip", SHAPE, CELLS).splitlines()) == 4


def test_ranges_of_numbers_never_overlap_and_never_leave_ten_digits() -> None:
    numbers = Numbers()
    ranges = [numbers.next_range() for _ in range(899)]
    assert len({start // 10_000_000 for start in ranges}) == 899
    assert max(ranges) + 10_000_000 <= 10**10
    with pytest.raises(ValueError, match="fewer"):
        numbers.next_range()


def test_cpu_of_this_very_process_grows_with_work() -> None:
    before = cpu_seconds({"self": os.getpid()})
    sum(number * number for number in range(3_000_000))
    after = cpu_seconds({"self": os.getpid()})
    assert per_request(before, after, 10)["self"] > 0


def test_a_process_that_is_gone_counts_nothing() -> None:
    assert cpu_seconds({"gone": 2**22 + 1}) == {"gone": 0}
