"""`keyway bench`: what its options accept."""

import pytest
import typer

from keyway.cli.bench import caller_counts


def test_callers_are_numbers_in_rising_order_each_once() -> None:
    assert caller_counts("64, 1,16,64") == (1, 16, 64)


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "1,,2", "2049", "²"])
def test_other_callers_are_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write numbers"):
        caller_counts(text)
