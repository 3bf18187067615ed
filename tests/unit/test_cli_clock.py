"""`keyway clock`: the business clock moves by a file, and by that file only."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.clock import MovableBusinessClock, read_offset
from tests.command_line import Shell, shell

__all__ = ["shell"]


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("30d", 2_592_000), ("12h", 43_200), ("1w", 604_800), ("90m", 5400), ("5s", 5), ("1d12h30m", 131_400), ("0s", 0)],
)
def test_advance_adds_the_duration_each_time(shell: Shell, tmp_path: Path, duration: str, seconds: int) -> None:
    for times in (1, 2):
        ran = shell.keyway("clock", "advance", duration, "--state-dir", tmp_path, "--json")
        assert (ran.status, ran.document["offset_seconds"]) == (0, seconds * times)
        assert read_offset(tmp_path / "clock-offset") == timedelta(seconds=seconds * times)


def test_moved_clock_is_seen_by_the_business_clock_and_reset_undoes_it(shell: Shell, tmp_path: Path) -> None:
    shell.keyway("clock", "advance", "365d", "--state-dir", tmp_path)
    moved = MovableBusinessClock(tmp_path / "clock-offset").now()
    assert timedelta(days=364) < moved - datetime.now(UTC) < timedelta(days=366)
    assert shell.keyway("clock", "reset", "--state-dir", tmp_path).status == 0
    assert abs(MovableBusinessClock(tmp_path / "clock-offset").now() - datetime.now(UTC)) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("moment", "meant"),
    [
        ("2031-03-01", datetime(2031, 3, 1, tzinfo=UTC)),
        ("2031-03-01T12:00:00Z", datetime(2031, 3, 1, 12, tzinfo=UTC)),
        ("2031-03-01T12:00:00+02:00", datetime(2031, 3, 1, 10, tzinfo=UTC)),
        ("2020-02-29 01:00", datetime(2020, 2, 29, 1, tzinfo=UTC)),
    ],
)
def test_set_goes_to_the_moment_and_the_clock_goes_on(
    shell: Shell, tmp_path: Path, moment: str, meant: datetime
) -> None:
    ran = shell.keyway("clock", "set", moment, "--state-dir", tmp_path, "--json")
    told = datetime.fromisoformat(ran.document["business_time"])
    assert timedelta(seconds=-2) < told - meant < timedelta(minutes=5)
    shown = shell.keyway("clock", "show", "--state-dir", tmp_path, "--json").document
    assert datetime.fromisoformat(shown["business_time"]) >= told


def test_clock_that_was_never_moved_shows_the_machines_time(shell: Shell, tmp_path: Path) -> None:
    shown = shell.keyway("clock", "show", "--state-dir", tmp_path)
    assert shown.status == 0
    assert "(+0 s from the machine's time)" in shown.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("duration", ["", "30", "d", "-5d", "3.5d", "5 d", "5y", "5D", "\u0665d", "1234567d", "1d" * 6])
def test_duration_that_cannot_be_meant_is_wrong_usage(shell: Shell, tmp_path: Path, duration: str) -> None:
    ran = shell.keyway("clock", "advance", "--state-dir", tmp_path, "--", duration)
    assert ran.status == 2
    assert "write numbers with w, d, h, m or s" in " ".join(ran.err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["tomorrow", "2027-02-30", "01/03/2027"])
def test_moment_that_cannot_be_meant_is_wrong_usage(shell: Shell, tmp_path: Path, moment: str) -> None:
    assert shell.keyway("clock", "set", moment, "--state-dir", tmp_path).status == 2


@pytest.mark.parametrize("arguments", [("advance", "999999w"), ("advance", "999999w999999w"), ("set", "9500-01-01")])
def test_clock_stays_inside_the_calendar(shell: Shell, tmp_path: Path, arguments: tuple[str, str]) -> None:
    ran = shell.keyway("clock", *arguments, "--state-dir", tmp_path)
    assert ran.status == 1
    assert ran.err.startswith("keyway clock: ")
    assert list(tmp_path.iterdir()) == []


def test_missing_state_folder_is_refused_and_not_made(shell: Shell, tmp_path: Path) -> None:
    ran = shell.keyway("clock", "advance", "1d", "--state-dir", tmp_path / "absent")
    assert ran.status == 1
    assert "keyway up" in ran.err
    assert not (tmp_path / "absent").exists()
