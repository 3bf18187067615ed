"""`keyway usage topic`: the topics that have borne the name `usage.reported`, and the word that trusts a new one."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from keyway.cli.installation import changes_stack, stack_settings
from keyway.cli.refusal import RefusedError

if TYPE_CHECKING:
    from shared.database.usage_topic import TopicGeneration

REASON_MIN = 3


@changes_stack
def topic(
    accept: Annotated[bool, typer.Option("--accept", help="Trust the newest topic; needs --reason.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="What became of unread events of the one before.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the topics that have borne the name usage.reported; with --accept trust the newest.

    A topic that was deleted and made anew may have taken acknowledged events with it that nobody had read. Until people
    accept the new one, sums are answered with 503. First let the senders send again what they sent since the last event
    that was taken in: what is known already changes nothing.
    """
    if accept and len(reason.strip()) < REASON_MIN:
        raise typer.BadParameter("say what became of unread events of the topic before", param_hint="--reason")
    found, accepted = asyncio.run(_topics(reason.strip() if accept else None))
    if accept and not accepted:
        raise RefusedError("no topic waits to be accepted: `keyway usage topic` shows them")
    if as_json:
        print(orjson.dumps({"topics": [_row(each) for each in found], "accepted": accepted}, default=str).decode())
        return
    for each in found:
        _print(each)
    if not found:
        print("no usage worker has looked at the topic yet")


async def _topics(reason: str | None) -> tuple[Sequence["TopicGeneration"], list[int]]:
    from shared.clock import MachineClock
    from shared.database.pool import connected
    from shared.database.usage_topic import accept_topic, topic_generations

    async with connected(stack_settings().require_database_url()) as connection:
        accepted = [] if reason is None else await accept_topic(connection, reason, MachineClock().now())
        return await topic_generations(connection), accepted


def _row(found: "TopicGeneration") -> dict[str, object]:
    return {
        "generation": found.generation,
        "topic_id": str(found.topic_id),
        "noticed_at": found.noticed_at,
        "earlier_watermark": list(found.earlier_watermark),
        "earlier_event_at": found.earlier_event_at,
        "accepted_at": found.accepted_at,
        "reason": found.reason,
    }


def _print(found: "TopicGeneration") -> None:
    print(f"{found.generation}  {found.topic_id}  noticed {found.noticed_at:%F %T} UTC")
    if found.generation == 1:
        return
    last = "none" if found.earlier_event_at is None else f"{found.earlier_event_at:%F %T} UTC"
    print(f"   {sum(found.earlier_watermark)} records of the one before were read; its last event was taken in: {last}")
    if found.accepted_at is not None:
        print(f"   accepted {found.accepted_at:%F %T} UTC: {found.reason}")
    else:
        print(
            "   NOT ACCEPTED: sums are answered with 503. Let the senders send again what they sent since then,\n"
            "   and then run: keyway usage topic --accept --reason TEXT"
        )
