"""`keyway dead`: work through what nobody could read. Letters are named `partition/offset` on their dead-letter topic.

`retry` sends the original record back to where it came from: same bytes, key, headers and so the same command id, so
that a second retry has no second effect. What was retried or discarded is recorded and listed no more.
"""

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import structlog
import typer

from keyway.cli.installation import changes_stack, reads_stack, stack_settings
from keyway.cli.refusal import RefusedError
from shared.contracts.topics import DEAD_SUFFIX

if TYPE_CHECKING:
    from keyway.cli.dead_letters import Letter
    from shared.database.dead_letter_actions import LetterAction
    from shared.database.pool import OwnConnection
    from shared.settings import Settings

QUERY_SECONDS = 5.0

app = typer.Typer(help="Dead letters.", add_completion=False, no_args_is_help=True)
app.callback()(lambda: None)

log = structlog.get_logger()

Topic = Annotated[str, typer.Argument(help="Topic, such as license.commands (or license.commands.dead).")]
Letters = Annotated[list[str] | None, typer.Argument(metavar="[LETTER]...", help="Letters, such as 3/17.")]
Reason = Annotated[str | None, typer.Option(help="Letters of one reason, such as id_reuse.")]
Everything = Annotated[bool, typer.Option("--all", help="Every open letter of the topic.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which letters of a topic are meant: those named, or open ones, of one reason or all."""

    named: frozenset[tuple[int, int]] = frozenset()
    reason: str | None = None

    def takes(self, letter: "Letter") -> bool:
        """Whether a letter is meant."""
        return self.reason is None or letter.reason == self.reason


@app.command("list")
@reads_stack
def list_(
    topic: Annotated[str | None, typer.Argument(help="Topic; all of them unless given.")] = None,
    reason: Reason = None,
    done: Annotated[bool, typer.Option("--done", help="Those retried or discarded too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Print at most so many.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Print open dead letters: where they stand, why, and where they came from. Nothing of their content."""
    asyncio.run(_list(topic, Choice(reason=reason), limit, with_done=done, as_json=as_json))


@app.command()
@reads_stack
def show(
    topic: Topic, letter: Annotated[str, typer.Argument(help="Letter, such as 3/17.")], as_json: AsJson = False
) -> None:
    """Print one letter whole: bytes, key, headers, origin, reason, attempts. It may hold a customer's data."""
    found, state = asyncio.run(_one(topic, letter))
    told = _told(found, state) | _content(found)
    if as_json:
        print(orjson.dumps(told).decode())
        return
    for name, value in told.items():
        print(f"{name:<14} {orjson.dumps(value).decode() if isinstance(value, list) else value}")


@app.command()
@changes_stack
def retry(
    topic: Topic,
    letters: Letters = None,
    reason: Reason = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send open letters back to where they came from, and note that. Exit status 1 when one could not be sent."""
    _deal("retried", topic, _choice(letters, reason, everything=everything), dry_run=dry_run, as_json=as_json)


@app.command()
@changes_stack
def discard(
    topic: Topic,
    letters: Letters = None,
    reason: Reason = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Note that open letters need nothing more. The topic keeps them until it forgets them."""
    _deal("discarded", topic, _choice(letters, reason, everything=everything), dry_run=dry_run, as_json=as_json)


def _choice(letters: list[str] | None, reason: str | None, *, everything: bool) -> Choice:
    if [bool(letters), reason is not None, everything].count(True) != 1:
        raise typer.BadParameter("name letters, or --reason, or --all")
    return Choice(named=frozenset(_letter_name(text) for text in letters or ()), reason=reason)


def _letter_name(text: str) -> tuple[int, int]:
    partition, _, offset = text.partition("/")
    if not (partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()):
        raise typer.BadParameter(f"{text!r}: write partition/offset, such as 3/17")
    return int(partition), int(offset)


async def _list(topic: str | None, choice: Choice, limit: int, *, with_done: bool, as_json: bool) -> None:
    """Print as they are read, so that thousands need no memory."""

    settings = stack_settings()
    listed, more = 0, False
    if as_json:
        print('{"letters":[', end="")
    for dead_topic in _dead_topics(settings, topic):
        async for letter, state in _letters(settings, dead_topic, choice):
            if state is not None and not with_done:
                continue
            if listed == limit:
                more = True
                break
            print(_line(letter, state, comma=listed > 0) if as_json else _row(letter, state))
            listed += 1
    if as_json:
        print(f'],"more":{str(more).lower()}}}')
    elif more:
        print(f"… and more: raise --limit above {limit}, or ask for less")
    elif not listed:
        print("no open dead letters")


def _line(letter: "Letter", state: "LetterAction | None", *, comma: bool) -> str:
    return ("," if comma else "") + orjson.dumps(_told(letter, state)).decode()


def _row(letter: "Letter", state: "LetterAction | None") -> str:
    told = _told(letter, state)
    mark = "" if state is None else f"  ({state})"
    return (
        f"{told['topic']}  {told['letter']:<10}  {told['at']}  {told['reason']:<14}  attempt {told['attempt']}  "
        f"{told['size_bytes']} bytes  from {told['origin'] or '?'}  {told['detail']}{mark}"
    )


def _told(letter: "Letter", state: "LetterAction | None") -> dict[str, Any]:
    record = letter.record
    return {
        "topic": record.topic,
        "letter": letter.name,
        "at": f"{letter.place.at:%Y-%m-%dT%H:%M:%SZ}",
        "state": "open" if state is None else state.value,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempt": letter.attempt,
        "origin": None if letter.origin is None else "/".join(str(part) for part in letter.origin),
        "key": None if record.key is None else record.key.decode("utf-8", "replace"),
        "size_bytes": len(record.value or b""),
    }


def _content(letter: "Letter") -> dict[str, Any]:
    value = letter.record.value
    headers = [{"name": name, **_bytes("value", content)} for name, content in letter.record.headers]
    return {**_bytes("key", letter.record.key), "headers": headers, **_bytes("value", value)}


def _bytes(name: str, content: bytes | None) -> dict[str, str | None]:
    """Return bytes as text, where they are text, and always exactly."""
    if content is None:
        return {name: None, f"{name}_base64": None}
    return {name: content.decode("utf-8", "replace"), f"{name}_base64": base64.b64encode(content).decode()}


async def _one(topic: str, name: str) -> "tuple[Letter, LetterAction | None]":

    settings, choice = stack_settings(), Choice(named=frozenset((_letter_name(name),)))
    (dead_topic,) = _dead_topics(settings, topic)
    async for letter, state in _letters(settings, dead_topic, choice):
        return letter, state
    raise RefusedError(f"there is no letter {name} on {dead_topic}: `keyway dead list` shows what there is")


def _dead_topics(settings: "Settings", topic: str | None) -> list[str]:
    """Return the dead-letter topics meant, with the prefix. Raises `RefusedError` for one that is not declared."""
    from keyway.cli.topics import read_declaration

    declared = [name for name in read_declaration().topics if name.endswith(DEAD_SUFFIX)]
    if topic is None:
        return [settings.topic_prefix + name for name in declared]
    name = topic.removeprefix(settings.topic_prefix).removesuffix(DEAD_SUFFIX) + DEAD_SUFFIX
    if name not in declared:
        raise RefusedError(f"{topic} has no dead letters; these topics have: {', '.join(declared)}")
    return [settings.topic_prefix + name]


async def _letters(
    settings: "Settings", dead_topic: str, choice: Choice
) -> "AsyncIterator[tuple[Letter, LetterAction | None]]":
    """Yield the letters meant, open and done, with what was done."""
    from shared.database.pool import connected

    async with connected(settings.require_database_url(), command_seconds=QUERY_SECONDS) as connection:
        async for portion in _portions(settings, connection, dead_topic, choice):
            for letter in portion:
                yield letter


async def _portions(
    settings: "Settings", connection: "OwnConnection", dead_topic: str, choice: Choice
) -> "AsyncIterator[list[tuple[Letter, LetterAction | None]]]":
    from keyway.cli.dead_letters import read_letters
    from keyway.cli.topics import read_declaration
    from shared.database.dead_letter_actions import done_letters

    count = read_declaration().topics[dead_topic.removeprefix(settings.topic_prefix)].partitions
    async for letters in read_letters(settings.require_kafka_bootstrap(), dead_topic, count, choice.named):
        meant = [letter for letter in letters if choice.takes(letter)]
        if meant:
            done = await done_letters(connection, [letter.place for letter in meant])
            yield [(letter, done.get(letter.place)) for letter in meant]


def _deal(action: str, topic: str, choice: Choice, *, dry_run: bool, as_json: bool) -> None:
    from shared.database.dead_letter_actions import LetterAction
    from shared.telemetry.logging import configure_logging

    settings = stack_settings()
    configure_logging(settings.log_level, "dead", stream=sys.stderr.buffer)
    (dead_topic,) = _dead_topics(settings, topic)
    tally = asyncio.run(_deal_with(LetterAction(action), settings, dead_topic, choice, dry_run=dry_run))
    if as_json:
        print(orjson.dumps(tally | {"topic": dead_topic, "dry_run": dry_run}).decode())
    else:
        words = f"{'would be ' if dry_run else ''}{action}"
        print(f"{tally['done']} letters {words}, {tally['skipped']} left as they are")
    missing = len(choice.named) - sum(tally.values())
    if missing > 0:
        raise RefusedError(f"{missing} of the letters named are not on {dead_topic}")
    if tally["failed"]:
        raise RefusedError(f"{tally['failed']} letters cannot be {action}: see the log lines above")


async def _deal_with(
    action: "LetterAction", settings: "Settings", dead_topic: str, choice: Choice, *, dry_run: bool
) -> dict[str, int]:
    """Deal with the open letters meant, a portion at a time; return how many were done, skipped and failed."""
    from contextlib import AsyncExitStack

    from shared.database.dead_letter_actions import LetterAction, record_action
    from shared.database.pool import connected
    from shared.kafka import dead_letter_producer, start_client

    tally = {"done": 0, "skipped": 0, "failed": 0}
    async with AsyncExitStack() as stack:
        url = settings.require_database_url()
        connection = await stack.enter_async_context(connected(url, command_seconds=QUERY_SECONDS))
        send: Callable[[Sequence[Letter]], Awaitable[None]] | None = None
        if action is LetterAction.RETRIED and not dry_run:
            bootstrap = settings.require_kafka_bootstrap()
            producer = dead_letter_producer(bootstrap)
            await start_client(producer, bootstrap)
            stack.push_async_callback(producer.stop)

            async def send(letters: "Sequence[Letter]") -> None:
                await _send_back(letters, producer)

        async for portion in _portions(settings, connection, dead_topic, choice):
            ready = []
            for letter, state in portion:
                obstacle = letter.obstacle if action is LetterAction.RETRIED and state is None else None
                if obstacle is not None:
                    log.error("dead_letter.not_retried", detail=obstacle, **_where(letter))
                tally["skipped"] += state is not None
                tally["failed"] += obstacle is not None
                if state is None and obstacle is None:
                    ready.append(letter)
            tally["done"] += len(ready)
            if dry_run or not ready:
                continue
            if send is not None:
                await send(ready)
            await record_action(connection, action, [(letter.place, letter.attempt) for letter in ready])
            for letter in ready:
                log.info(
                    "dead_letter.dealt_with",
                    outcome=action,
                    reason=letter.reason,
                    attempt=letter.attempt,
                    **_where(letter),
                )
    return tally


def _where(letter: "Letter") -> dict[str, Any]:
    return {"topic": letter.record.topic, "partition": letter.record.partition, "offset": letter.record.offset}


async def _send_back(letters: "Sequence[Letter]", producer: Any) -> None:  # noqa: ANN401 - handed through
    """Send records back in order and wait for all acknowledgments. Raises `UnavailableError` when one is missing."""
    from keyway.cli.dead_letters import parcel_back
    from shared.errors import UnavailableError

    parcels = [parcel_back(letter, producer) for letter in letters]
    for parcel in parcels:
        await parcel.begin()
    failed = [parcel.failure for parcel in parcels if not await parcel.is_acknowledged()]
    if failed:
        raise UnavailableError(f"{len(failed)} records were not acknowledged ({failed[0]}): retry again")
