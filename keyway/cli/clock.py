"""`keyway clock`: the time machine of the local stack. It moves the business clock; deadlines and leases never move."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import orjson
import typer

from keyway.cli.installation import meant_folder, reads_stack
from keyway.cli.refusal import RefusedError

app = typer.Typer(
    help="Show or move the business clock of the local stack: a year passes in a second.",
    add_completion=False,
    no_args_is_help=True,
)

UNIT_SECONDS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
DURATION = re.compile(r"(?:[0-9]{1,6}[wdhms]){1,5}")
PART = re.compile(r"([0-9]+)([wdhms])")
LAST_YEAR = 9000
"""Rules add days to today; this leaves them room before the calendar ends."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
@reads_stack
def show(as_json: Json = False) -> None:
    """Print the present moment of the trade."""
    from shared.clock import read_offset

    _tell(read_offset(_offset_file()), as_json=as_json)


@app.command()
@reads_stack
def advance(
    duration: Annotated[str, typer.Argument(metavar="DURATION", help="Such as 30d, 12h, 2w3d.")],
    as_json: Json = False,
) -> None:
    """Move the clock forward."""
    from shared.clock import read_offset

    file = _offset_file()
    _move(file, read_offset(file) + parsed_duration(duration), as_json=as_json)


@app.command("set")
@reads_stack
def set_(
    moment: Annotated[str, typer.Argument(metavar="DATETIME", help="Such as 2027-03-01 or 2027-03-01T12:00:00Z.")],
    as_json: Json = False,
) -> None:
    """Move the clock to a moment, from which it goes on; without a zone it is UTC."""
    from shared.clock import MachineClock

    offset = parsed_moment(moment) - MachineClock().now()
    _move(_offset_file(), offset, as_json=as_json)


@app.command()
@reads_stack
def reset(as_json: Json = False) -> None:
    """Go back to the machine's own time."""
    _move(_offset_file(), timedelta(0), as_json=as_json)


def parsed_duration(text: str) -> timedelta:
    """Return the length that `text` writes. Raises `typer.BadParameter`."""
    if not DURATION.fullmatch(text):
        raise typer.BadParameter(f"{text!r}: write numbers with w, d, h, m or s, such as 30d or 1d12h")
    return timedelta(seconds=sum(int(count) * UNIT_SECONDS[unit] for count, unit in PART.findall(text)))


def parsed_moment(text: str) -> datetime:
    """Return the moment that `text` writes, aware. Raises `typer.BadParameter`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write a date or time in ISO 8601, such as 2027-03-01") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _offset_file() -> Path:
    from keyway.cli.world_files import clock_offset_file

    state = meant_folder()
    if not state.is_dir():
        raise RefusedError(f"{state} does not exist: start the local stack with `keyway up`, or name its --state-dir")
    return clock_offset_file(state)


def _move(file: Path, offset: timedelta, *, as_json: bool) -> None:
    from shared.security.private_file import write_private_file

    seconds = round(offset.total_seconds())
    _moved(timedelta(seconds=seconds))
    write_private_file(file, f"{seconds}\n".encode())
    _tell(timedelta(seconds=seconds), as_json=as_json)


def _moved(offset: timedelta) -> datetime:
    from shared.clock import MachineClock

    try:
        moment = MachineClock().now() + offset
    except OverflowError:
        raise RefusedError("that is outside the calendar") from None
    if moment.year > LAST_YEAR:
        raise RefusedError(f"{moment:%Y-%m-%d} is after the year {LAST_YEAR}: stay before")
    return moment


def _tell(offset: timedelta, *, as_json: bool) -> None:
    seconds = round(offset.total_seconds())
    moment = _moved(offset).isoformat(timespec="seconds")
    if as_json:
        print(orjson.dumps({"business_time": moment, "offset_seconds": seconds}).decode())
    else:
        print(f"{moment}  ({seconds:+d} s from the machine's time)")
