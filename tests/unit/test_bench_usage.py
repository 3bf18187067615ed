"""The usage comparison: events that the product takes, ratios within a round, and a report that names everything."""

from random import Random

from bench.raw_usage import row_of
from bench.usage import UsageCell, UsageShape, made_up
from bench.usage_report import document, plot, ratios, text
from shared.contracts.codec import decode_usage
from shared.contracts.topics import USAGE_REPORTED_PARTITIONS
from tests.unit.test_lane import Record

SHAPE = UsageShape(events=1000, rounds=3)


def cell(contestant: str, number: int, seconds: float, cpu: float = 50.0) -> UsageCell:
    return UsageCell(
        contestant=contestant,
        round=number,
        events=1000,
        seconds=seconds,
        publish_seconds=0.1,
        cpu_us_per_event={"kafka": cpu, "postgres": cpu},
    )


CELLS = [
    *(cell("R", number, seconds) for number, seconds in ((1, 1.0), (2, 2.0), (3, 1.0))),
    *(cell("S", number, seconds, 75.0) for number, seconds in ((1, 2.0), (2, 2.5), (3, 4.0))),
]


def test_events_are_such_as_the_product_takes_each_with_an_id_of_its_own() -> None:
    made = made_up(Random(1), 500, "test")

    decoded = [decode_usage(value)[0] for _, _, value in made]
    assert len({event.key for event in decoded}) == 500
    assert all(0 <= partition < USAGE_REPORTED_PARTITIONS for partition, _, _ in made)
    assert all(event.license_id.encode() == key for event, (_, key, _) in zip(decoded, made, strict=True))


def test_the_raw_loop_keeps_the_same_values_as_the_product() -> None:
    ((_, _, value),) = made_up(Random(1), 1, "test")
    event, _ = decode_usage(value)

    row = row_of(Record(0, value=value))

    assert row == (event.key.source, event.key.event_id, event.license_id, event.counter, event.value, event.at)


def test_ratios_compare_neighbors_of_the_same_round() -> None:
    found = ratios(CELLS)
    assert (found["events_per_second"].median, found["events_per_second"].lowest) == (0.5, 0.25)
    assert found["cpu_us_per_event"].median == 1.5


def test_the_report_names_contestants_ratios_and_processes_and_holds_every_cell() -> None:
    told = text(SHAPE, CELLS)
    for expected in ("COPY into one table", "S/R events_per_second", "0.50 (0.25-0.80)", "kafka 75", "= 150"):
        assert expected in told
    assert len(document(SHAPE, CELLS, "2026-01-01T00:00:00+00:00")["cells"]) == len(CELLS)  # type: ignore[arg-type]  # a list, by construction
    assert len(plot(CELLS).splitlines()) == 3
