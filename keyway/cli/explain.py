"""`keyway explain`: the whole story of one license, from the records that were written with every change.

Requests and decisions come from the audit chain, which is checked link by link. Bodies, activation data and codes are
never shown.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import orjson
import typer

from keyway.cli.installation import reads_stack, stack_settings
from keyway.cli.refusal import RefusedError
from shared.contracts.identifiers import ACCOUNT_NAME, LICENSE_NUMBER, LicenseId, license_id

if TYPE_CHECKING:
    from shared.database.license_queries import LicenseFacts, LicenseStory
    from shared.database.provider_oversight import StoryLine

app = typer.Typer(add_completion=False)

FAILED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStory:
    """One order at the provider and everything that happened to it."""

    order_id: UUID
    step: str
    state: str
    service: int | None
    refusal: str | None
    intended_at: datetime
    lines: "Sequence[StoryLine]"


QUERY_SECONDS = 5.0


def _license_id(text: str) -> LicenseId:
    account, _, number = text.partition(":")
    if not ACCOUNT_NAME.fullmatch(account) or not LICENSE_NUMBER.fullmatch(number):
        raise typer.BadParameter(f"{text!r}: write account and number, such as ka:00481516")
    return license_id(account, number)


@app.command()
@reads_stack
def explain(
    license: Annotated[str, typer.Argument(metavar="LICENSE", help="Account and number, such as ka:00481516.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell everything on record about one license: requests, decisions, revisions, events, replies.

    Exit status 1 when there is no such license, or when its audit chain is broken.
    """
    asked = _license_id(license)
    story, orders = asyncio.run(_story(asked))
    if story is None:
        if not orders:
            raise RefusedError(f"no license {asked} is on record: `keyway license list` shows what there is")
        print(orjson.dumps(orders, default=_plain).decode() if as_json else "\n".join(_told_orders(orders)))
        return
    if as_json:
        whole = {**asdict(story), "orders": orders}
        print(orjson.dumps(whole, default=_plain, option=orjson.OPT_UTC_Z).decode())
    else:
        print("\n".join([*_told(story), *_told_orders(orders)]))
    if story.audit_fault is not None:
        print(f"the audit chain is BROKEN: {story.audit_fault}", file=sys.stderr)
        raise typer.Exit(FAILED)


async def _story(asked: LicenseId) -> "tuple[LicenseStory | None, list[OrderStory]]":
    from shared.database.license_queries import license_story
    from shared.database.pool import connected, open_pool
    from shared.database.provider_oversight import PostgresProviderOversight

    database_url = stack_settings().require_database_url()
    async with connected(database_url, command_seconds=QUERY_SECONDS) as connection:
        story = await license_story(connection, asked)
    async with open_pool(database_url, connections_max=1) as pool:
        oversight = PostgresProviderOversight(pool)
        orders = await oversight.orders(license_id=asked)
        return story, [
            OrderStory(
                order_id=order.order_id,
                step=order.kind,
                state=order.state,
                service=order.elid,
                refusal=order.refusal,
                intended_at=order.intended_at,
                lines=await oversight.story(order.order_id),
            )
            for order in reversed(orders)
        ]


def _told_orders(orders: "list[OrderStory]") -> list[str]:
    """Tell what was asked of the provider, every attempt, look and change of state of it."""
    lines: list[str] = []
    for order in orders:
        service = "" if order.service is None else f", service {order.service}"
        refusal = "" if order.refusal is None else f" ({order.refusal})"
        lines += ["", f"order {order.order_id}  {order.step}: {order.state}{refusal}{service}"]
        for line in order.lines:
            shown = {name: _plain_fact(fact) for name, fact in line.facts.items()}
            facts = ", ".join(f"{name} {fact}" for name, fact in shown.items() if fact not in (None, "", [], {}))
            lines.append(f"    {line.at:%Y-%m-%d %H:%M:%S}Z  {line.what}: {facts}")
    return lines


def _plain_fact(fact: object) -> object:
    """Return evidence as one short text; all of it stands in `--json`."""
    return fact.get("detail", "") if isinstance(fact, dict) else fact


def _plain(value: object) -> object:
    """Return JSON documents that were stored as bytes as what they say, and ids as text."""
    return _parsed(value) if isinstance(value, bytes) else str(value)


def _parsed(document: bytes) -> object:
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError:
        return document.decode("utf-8", "replace")


def _told(story: "LicenseStory") -> list[str]:
    lines = [_headline(story.license), ""]
    replies = {result.command_id: result for result in story.results}
    revisions = {revision.revision: revision for revision in story.revisions}
    for link in story.audit:
        entry = _parsed(link.entry)
        asked, outcome = _asked_and_outcome(entry)
        lines.append(f"{link.recorded_at:%Y-%m-%d %H:%M:%S}Z  {asked}: {outcome}")
        lines.append(f"    command {link.command_id}")
        if (reply := replies.get(link.command_id)) is not None:
            lines.append(f"    replied {reply.status} {reply.meta}".rstrip())
            revision = revisions.get(reply.revision or 0)
            if revision is not None:
                digest = f"{revision.body_bytes} bytes, SHA-256 {revision.body_sha256}"
                lines.append(f"    body of revision {revision.revision} ({revision.product}): {digest}")
        lines += [
            f"    event {event.sequence or '-'} {event.type}{'' if event.published_at else ', not yet published'}"
            for event in story.events
            if event.command_id == link.command_id
        ]
    lines += ["", f"remembered operations: {len(story.operations)}"]
    if story.audit_fault is None:
        lines.append(f"audit chain: whole, {len(story.audit)} entries")
    return lines


def _headline(license: "LicenseFacts") -> str:
    marks = "".join(f", {word}" for word, holds in (("nfr", license.nfr), ("test", license.test)) if holds)
    until = "never issued" if license.expires_on is None else f"until {license.expires_on}"
    return (
        f"{license.license}  {license.product}  {license.status}  {until}  "
        f"(revision {license.revision}, key id {license.key_id}, {license.model}{marks})"
    )


def _asked_and_outcome(entry: object) -> tuple[str, str]:
    if not isinstance(entry, dict):
        return "unreadable audit entry", "?"
    asked = entry.get("asked")
    kind = asked.get("type", "?") if isinstance(asked, dict) else "?"
    return str(kind), str(entry.get("outcome", "?"))
