"""The watermark is the lowest unfinished offset, whatever the order of ending."""

from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.watermark import PartitionWatermark, Watermarks


def received(*offsets: int) -> PartitionWatermark:
    mark = PartitionWatermark()
    for offset in offsets:
        mark.receive(offset)
    return mark


def test_watermark_stands_at_the_lowest_unfinished_offset() -> None:
    mark = received(10, 11, 12)

    mark.finish(11)
    mark.finish(12)

    assert mark.offset == 10
    assert mark.open_count == 3


def test_watermark_passes_all_that_is_finished_once_the_lowest_is() -> None:
    mark = received(10, 11, 12)

    for offset in (11, 10):
        mark.finish(offset)

    assert mark.offset == 12


def test_watermark_with_nothing_open_is_the_next_offset_and_never_one_more() -> None:
    mark = received(10)

    mark.finish(10)
    mark.finish(10)

    assert mark.offset == 11


def test_gaps_in_the_log_are_passed() -> None:
    mark = received(10, 15)

    mark.finish(10)

    assert mark.offset == 15


def test_rewound_partition_starts_again_at_the_lower_offset() -> None:
    mark = received(100, 101)
    mark.finish(100)

    mark.receive(50)
    mark.finish(101)  # a batch of before the rewind

    assert mark.offset == 50


def test_finishing_a_partition_that_was_taken_away_changes_nothing() -> None:
    marks = Watermarks()
    marks.receive(3, 7)
    marks.clear()

    marks.finish(3, 7)

    assert marks.offsets() == {}


def test_dropped_records_hold_their_partition_back_and_no_other() -> None:
    marks = Watermarks()
    for partition in (1, 2):
        for offset in (5, 6):
            marks.receive(partition, offset)

    for partition, offset in ((1, 5), (2, 5), (2, 6)):
        marks.finish(partition, offset)

    assert marks.offsets() == {1: 6, 2: 7}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_watermark_never_passes_an_unfinished_record(gaps: list[int], chance: object) -> None:
    offsets, offset = [], 0
    for gap in gaps:
        offset += gap + 1
        offsets.append(offset)
    mark = received(*offsets)
    unfinished = list(offsets)
    chance.shuffle(unfinished)  # type: ignore[attr-defined] # hypothesis gives a random.Random

    while unfinished:
        mark.finish(unfinished.pop())
        assert mark.offset == (min(unfinished) if unfinished else offsets[-1] + 1)
