"""`keyway replay`: publish stored license events again, byte for byte, in sequence per license, at a bounded rate.

Same id, same sequence, same key, same bytes: a consumer that drops what it knows by (`subject`, `sequence`) notices
nothing, and one that has lost events, or begins anew, gets them. Only events that were published before are sent.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from keyway.cli.installation import changes_stack, stack_settings
from keyway.cli.license_argument import license_id_of
from keyway.cli.refusal import RefusedError

if TYPE_CHECKING:
    from rich.progress import Progress

    from shared.database.outbox_replay import ReplayScope
    from shared.domain.outgoing import OutgoingRecord
    from workers.outbox import OutboxSender

QUERY_SECONDS = 5.0
ATTEMPTS_MAX = 5
RATE_DEFAULT = 500

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay did, or would do."""

    events: int
    licenses: int
    seconds: float
    dry_run: bool


@app.command()
@changes_stack
def replay(  # noqa: PLR0913, PLR0917 - the options of one verb
    license: Annotated[
        str | None, typer.Argument(metavar="[LICENSE]", help="One license, such as ka:00481516.")
    ] = None,
    from_sequence: Annotated[int, typer.Option(min=1, help="Of that license: begin with this number.")] = 1,
    since: Annotated[str | None, typer.Option(help="Events stored at this time or later, ISO 8601.")] = None,
    until: Annotated[str | None, typer.Option(help="Events stored before this time, ISO 8601.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every license.")] = False,
    rate: Annotated[int, typer.Option(min=1, max=50_000, help="At most so many events a second.")] = RATE_DEFAULT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Publish license events again. Name one license, a range of time, or --all. Times without a zone are UTC."""
    scope = _scope(license, from_sequence, since, until, everything=everything)
    done = asyncio.run(_replay(scope, rate, dry_run=dry_run, shows_progress=not as_json))
    if scope.license_id is not None and not done.events:
        raise RefusedError(f"no published event of {scope.license_id} from number {scope.from_sequence} on")
    if as_json:
        print(orjson.dumps(done).decode())
        return
    verb = "would be published" if dry_run else "published"
    print(f"{done.events} events of {done.licenses} licenses {verb} again ({done.seconds:.1f} s)")


def _scope(
    license: str | None, from_sequence: int, since: str | None, until: str | None, *, everything: bool
) -> "ReplayScope":
    from shared.database.outbox_replay import ReplayScope

    ranged = since is not None or until is not None
    if [license is not None, ranged, everything].count(True) != 1:
        raise typer.BadParameter("name one of: a LICENSE, --since/--until, --all")
    if from_sequence != 1 and license is None:
        raise typer.BadParameter("--from-sequence goes with a LICENSE")
    if license is not None:
        return ReplayScope(license_id=license_id_of(license), from_sequence=from_sequence)
    begin, end = _moment("--since", since), _moment("--until", until)
    if begin is not None and end is not None and begin >= end:
        raise typer.BadParameter(f"--since {since} is not before --until {until}: nothing lies between them")
    return ReplayScope(since=begin, until=end)


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write a time such as 2027-03-05T02:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


async def _replay(scope: "ReplayScope", rate: int, *, dry_run: bool, shows_progress: bool) -> Replayed:
    from contextlib import AsyncExitStack

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from shared.clock import MachineClock
    from shared.database.outbox_replay import PAGE_ROWS, replay_pages
    from shared.database.pool import connected
    from shared.kafka import event_producer, start_client
    from workers.outbox import OutboxSender

    settings, clock = stack_settings(), MachineClock()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), disable=not shows_progress, transient=True)
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(
            connected(settings.require_database_url(), command_seconds=QUERY_SECONDS)
        )
        sender = None
        if not dry_run:
            bootstrap = settings.require_kafka_bootstrap()
            producer = event_producer(bootstrap)
            await start_client(producer, bootstrap)
            stack.push_async_callback(producer.stop)
            sender = OutboxSender(producer=producer, topic_prefix=settings.topic_prefix)
        stack.enter_context(progress)
        shown = progress.add_task("0 events")
        began, events, licenses, last = clock.monotonic(), 0, 0, ""
        async for page in replay_pages(connection, scope, page_rows=min(PAGE_ROWS, rate)):
            if sender is not None and page:
                await _send(sender, page)
            events += len(page)
            for record in page:
                licenses, last = licenses + (record.license_id != last), record.license_id
            _tell(progress, shown, events)
            ahead = 0.0 if dry_run else events / rate - (clock.monotonic() - began)
            if ahead > 0:
                await clock.sleep(ahead)
        return Replayed(events=events, licenses=licenses, seconds=clock.monotonic() - began, dry_run=dry_run)


def _tell(progress: "Progress", shown: int, events: int) -> None:
    from rich.progress import TaskID

    progress.update(TaskID(shown), description=f"{events} events")


async def _send(sender: "OutboxSender", page: "Sequence[OutgoingRecord]") -> None:
    """Send a page in order. What fails is sent again with all that follows it; twice is once for every consumer."""
    from shared.errors import UnavailableError

    missing, failures = list(page), 0
    while missing:
        sent = await sender.send(missing)
        known = {record.event_id for record in sent.acknowledged}
        missing = [record for record in missing if record.event_id not in known]
        if sent.failure:
            failures += 1
            if failures == ATTEMPTS_MAX:
                raise UnavailableError(f"{len(missing)} events were not acknowledged: {sent.failure}; replay again")
