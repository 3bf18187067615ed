"""`keyway explain`: the whole story of one license, from the records that were written with every change.

Requests and decisions come from the audit chain, which is checked link by link. Bodies, activation data and codes are
never shown.
"""

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from keyway.cli.installation import reads_stack, stack_settings
from keyway.cli.refusal import RefusedError

if TYPE_CHECKING:
    from keyway.cli.explain_text import OrderStory
    from keyway.cli.license_argument import LicenseName
    from shared.database.license_queries import LicenseStory

app = typer.Typer(add_completion=False)

FAILED = 1
QUERY_SECONDS = 5.0


@app.command()
@reads_stack
def explain(
    license: Annotated[
        str,
        typer.Argument(
            metavar="LICENSE",
            help="Account and number, such as ka:00481516; or a number, key id, key number or activation code alone.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell everything on record about one license: requests, decisions, revisions, provider orders, events, replies.

    A number that is no license, or none yet, is told as well: what was asked of it and why it was refused, what waits.
    Exit status 1 when nothing is on record, or when the audit chain is broken.
    """
    from keyway.cli.explain_text import told
    from keyway.cli.license_argument import LicenseName

    story, orders = asyncio.run(_story(LicenseName.read(license)))
    if as_json:
        whole = {**asdict(story), "orders": orders}
        print(orjson.dumps(whole, default=_plain, option=orjson.OPT_UTC_Z).decode())
    else:
        print("\n".join(told(story, orders)))
    if story.audit_fault is not None:
        print(f"the audit chain is BROKEN: {story.audit_fault}", file=sys.stderr)
        raise typer.Exit(FAILED)


async def _story(asked: "LicenseName") -> "tuple[LicenseStory, list[OrderStory]]":
    """Return what is on record. Raises `RefusedError` when nothing is."""
    from keyway.cli.explain_text import OrderStory
    from shared.database.license_queries import license_story
    from shared.database.pool import connected, open_pool
    from shared.database.provider_oversight import PostgresProviderOversight

    database_url = stack_settings().require_database_url()
    async with connected(database_url, command_seconds=QUERY_SECONDS) as connection:
        meant = await asked.meant(connection)
        story = await license_story(connection, meant)
    if story is None:
        raise RefusedError(
            f"no license {meant} is on record, and nothing was ever asked of it:"
            " `keyway license list` shows what there is"
        )
    async with open_pool(database_url, connections_max=1) as pool:
        oversight = PostgresProviderOversight(pool)
        orders = await oversight.orders(license_id=meant)
        pauses = await oversight.pauses()
        return story, [
            OrderStory(
                order_id=order.order_id,
                account=order.provider_account,
                step=order.kind,
                product=order.step.product.sku,
                state=order.state,
                service=order.elid,
                refusal=order.refusal,
                intended_at=order.intended_at,
                pause=pauses.get(order.provider_account),
                lines=await oversight.story(order.order_id),
            )
            for order in reversed(orders)
        ]


def _plain(value: object) -> object:
    """Return JSON documents that were stored as bytes as what they say, and ids as text."""
    from keyway.cli.explain_text import parsed

    return parsed(value) if isinstance(value, bytes) else str(value)
