"""`keyway license`: what licenses there are."""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from keyway.cli.installation import reads_stack, stack_settings

if TYPE_CHECKING:
    from shared.database.license_queries import LicenseFacts, LicenseFilter

app = typer.Typer(help="Licenses.", add_completion=False, no_args_is_help=True)
app.callback()(lambda: None)  # a group, though it has one verb so far

QUERY_SECONDS = 5.0


class ShownStatus(StrEnum):
    """The statuses that people see."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    LAPSED = "lapsed"
    TERMINATED = "terminated"


@app.command("list")
@reads_stack
def list_(
    nfr: Annotated[bool | None, typer.Option("--nfr/--no-nfr", help="Not-for-resale ones only, or none.")] = None,
    test: Annotated[bool | None, typer.Option("--test/--no-test", help="Test orders only, or none.")] = None,
    product: Annotated[str | None, typer.Option(help="Of one product id, such as Gold or NFR-Gold.")] = None,
    status: Annotated[ShownStatus | None, typer.Option(help="In one status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Print at most so many.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print licenses by account and number. A lapse shows once the license was touched after its last day."""
    from shared.database.license_queries import LicenseFilter

    wanted = LicenseFilter(product=product, status=None if status is None else status.value, nfr=nfr, test=test)
    found = asyncio.run(_found(wanted, limit + 1))
    listed, has_more = found[:limit], len(found) > limit
    if as_json:
        print(orjson.dumps({"licenses": listed, "more": has_more}).decode())
        return
    for license in listed:
        marks = [word for word, holds in (("nfr", license.nfr), ("test", license.test)) if holds]
        until = "never issued" if license.expires_on is None else f"until {license.expires_on}"
        print(
            f"{license.license:<32}  {license.product:<28}  {license.status:<10}  {until}  {' '.join(marks)}".rstrip()
        )
    if not listed:
        print("no license fits")
    if has_more:
        print(f"… and more: raise --limit above {limit}, or ask for less")


async def _found(wanted: "LicenseFilter", listed_max: int) -> "Sequence[LicenseFacts]":
    from shared.database.license_queries import list_licenses
    from shared.database.pool import connected

    async with connected(stack_settings().require_database_url(), command_seconds=QUERY_SECONDS) as connection:
        return await list_licenses(connection, wanted, listed_max=listed_max)
