"""`keyway usage`: counters with the reports that were told, and settlement months: show, close, dispute, settle."""

import asyncio
import csv
import re
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from keyway.cli.installation import changes_stack, reads_stack, stack_settings
from keyway.cli.license_argument import license_id_of
from keyway.cli.refusal import RefusedError
from keyway.cli.usage_topic import topic
from keyway.cli.waiting import waiting
from shared.contracts.identifiers import LicenseId

if TYPE_CHECKING:
    from datetime import datetime

    from shared.database.pool import OwnConnection
    from shared.database.usage_queries import LicenseUsage
    from shared.database.usage_settlements import SettledMonth, SettlementLine
    from shared.domain.settlement import SettlementState

app = typer.Typer(help="Usage counters and settlement months.", add_completion=False, no_args_is_help=True)
app.command()(topic)

FAILED = 1
QUERY_SECONDS = 60.0
SETTINGS: Mapping[str, str] = {"statement_timeout": "60s", "lock_timeout": "10s"}
REPORTS_SHOWN = 10
PLOT_COLUMNS = 100
PLOT_ROWS = 12
PLOT_DAYS_MAX = 31
MONTH_FORM = re.compile(r"(?!0000)[0-9]{4}-(0[1-9]|1[0-2])")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Account = Annotated[str | None, typer.Option("--account", help="Only this account.")]
Product = Annotated[str | None, typer.Option("--product", help="Only this product.")]
Month = Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2027-02.")]


@app.command()
@reads_stack
def show(
    license: Annotated[
        str | None, typer.Argument(metavar="[LICENSE]", help="Account and number, such as ka:00502001.")
    ] = None,
    month: Annotated[
        str | None, typer.Option("--month", help="Figures of a settlement month, such as 2027-02.")
    ] = None,
    account: Account = None,
    product: Product = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show the usage of one license, or settlement months with their figures.

    With LICENSE: counters, days (drawn on a terminal) and the reports that were told, each recomputed from the raw
    events; exit status 1 when one does not come out again. Without: months, and with --month their figures.
    """
    if license is not None and month is None:
        _show_license(license_id_of(license), as_json=as_json, as_csv=as_csv)
        return
    asked = None if month is None else _month(month)
    with waiting("adding up months"):
        rows = asyncio.run(_month_rows(account, product, asked))
    if license is not None:
        named = license_id_of(license)
        rows = [
            {**row, "lines": [line for line in row["lines"] if line["license_id"] == named]}  # type: ignore[attr-defined] # made by _line_row
            for row in rows
        ]
    if as_json:
        print(orjson.dumps({"months": rows}, default=str, option=orjson.OPT_UTC_Z).decode())
    elif as_csv:
        _write_csv(_flat(rows))
    else:
        _print_months(rows)


@app.command()
@changes_stack
def close(month: Month, account: Account = None, product: Product = None, as_json: Json = False) -> None:
    """Close MONTH, and every earlier month that is still open: their figures never change again.

    What comes later for a closed month counts into the first open one, as an adjustment. Closing twice does nothing.
    """
    asked = _month(month)
    with waiting("closing months"):
        closed = asyncio.run(_close(asked, account, product))
    if as_json:
        print(orjson.dumps({"closed": closed}).decode())
        return
    for row in closed:
        print(f"closed {row['month']}  {row['account']}  {row['product']}")
    if not closed:
        print(f"nothing to close up to {month}")


@app.command()
@changes_stack
def dispute(
    month: Month,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence.")],
    account: Account = None,
    product: Product = None,
    as_json: Json = False,
) -> None:
    """Mark a closed month as disputed; its figures stay."""
    if not reason.strip():
        raise typer.BadParameter("say why, in a sentence", param_hint="--reason")
    _move(month, "disputed", account, product, reason=reason, as_json=as_json)


@app.command()
@changes_stack
def settle(month: Month, account: Account = None, product: Product = None, as_json: Json = False) -> None:
    """Mark a closed or disputed month as settled, for good."""
    _move(month, "settled", account, product, reason="", as_json=as_json)


def _month(text: str) -> date:
    if not MONTH_FORM.fullmatch(text):
        raise typer.BadParameter(f"{text!r}: write a month such as 2027-02")
    return date.fromisoformat(f"{text}-01")


@asynccontextmanager
async def _connection() -> AsyncIterator["OwnConnection"]:
    from shared.database.pool import close, open_connection

    url = stack_settings().require_database_url()
    connection = await open_connection(url, command_seconds=QUERY_SECONDS, settings=SETTINGS)
    try:
        yield connection
    finally:
        await close(connection)


def _business_now() -> "datetime":
    from shared.clock import business_clock

    return business_clock(stack_settings().clock_offset_file).now()


def _show_license(asked: LicenseId, *, as_json: bool, as_csv: bool) -> None:
    with waiting("recomputing reports"):
        usage = asyncio.run(_license_usage(asked))
    if as_json:
        print(orjson.dumps(_license_document(asked, usage), default=str, option=orjson.OPT_UTC_Z).decode())
    elif as_csv:
        _write_csv(
            {"license_id": asked, "counter": day.counter, "kind": day.kind.value, "day": day.day, "value": day.value}
            for day in usage.days
        )
    else:
        _print_license(asked, usage)
    wrong = [report.command_id for report in usage.reports if not report.agrees]
    if wrong:
        print(f"reports that do not come out again: {', '.join(map(str, wrong))}", file=sys.stderr)
        raise typer.Exit(FAILED)


async def _license_usage(asked: LicenseId) -> "LicenseUsage":
    from shared.database.usage_queries import license_usage

    async with _connection() as connection:
        usage = await license_usage(connection, asked)
    if not usage.on_file.totals and not usage.reports:
        raise RefusedError(f"no usage of {asked} is on record: `keyway license list` shows the licenses")
    return usage


def _license_document(asked: LicenseId, usage: "LicenseUsage") -> Mapping[str, object]:
    return {
        "license_id": asked,
        "watermark": usage.on_file.watermark,
        "counters": [
            {
                "counter": counter,
                "kind": kind.value,
                "value": str(total.value),
                "at": total.at,
                "event_id": total.event_id,
                "source": total.source,
                "events": total.events,
            }
            for (counter, kind), total in sorted(usage.on_file.totals.items())
        ],
        "days": [{"counter": day.counter, "day": day.day, "value": str(day.value)} for day in usage.days],
        "reports": [
            {
                "command_id": report.command_id,
                "reported_at": report.reported_at,
                "figures": dict(report.figures),
                "recomputed": dict(report.recomputed),
                "agrees": report.agrees,
            }
            for report in usage.reports
        ],
    }


def _print_license(asked: LicenseId, usage: "LicenseUsage") -> None:
    print(f"{asked}")
    for (counter, kind), total in sorted(usage.on_file.totals.items()):
        print(f"  {counter:<28}{kind.value:<10}{total.value:>20}   {total.events} events, latest {total.at:%F %T} UTC")
    if sys.stdout.isatty():
        for (counter, kind), _ in sorted(usage.on_file.totals.items()):
            days = [day for day in usage.days if day.counter == counter and day.kind is kind][-PLOT_DAYS_MAX:]
            what = "highest level" if kind.value == "level" else "sum"
            print(_plot(f"{counter}: {what} of each day", [(f"{day.day:%m-%d}", float(day.value)) for day in days]))
    print(f"reports told: {len(usage.reports)}" if usage.reports else "no report was told yet")
    for report in usage.reports[:REPORTS_SHOWN]:
        figures = ", ".join(f"{name} {figure}" for name, figure in report.figures.items())
        verdict = "comes out again" if report.agrees else f"RAW EVENTS SAY {dict(report.recomputed)}"
        print(f"  {report.reported_at:%F %T} UTC  {figures}  ({verdict})")


def _plot(title: str, bars: Sequence[tuple[str, float]]) -> str:
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.plot_size(PLOT_COLUMNS, PLOT_ROWS)
    figure.title(title)
    figure.draw(figure.bar([label for label, _ in bars], [value for _, value in bars]))
    return str(plotext.uncolorize(str(figure.build())))


async def _month_rows(account: str | None, product: str | None, month: date | None) -> list[dict[str, object]]:
    from shared.database.usage_settlements import SettledMonth, UsageSettlements
    from shared.domain.settlement import SettlementState, month_of, months_to_close

    async with _connection() as connection:
        settlements = UsageSettlements(connection)
        months = list(await settlements.months(account, product, month))
        until = month_of(_business_now().date()) if month is None else month
        for opened in await settlements.accounts(account, product):
            months += [
                SettledMonth(account=opened.account, product=opened.product, month=each, state=SettlementState.OPEN)
                for each in months_to_close(opened.first_month, until, opened.closed_through)
                if month in (None, each)
            ]
        months.sort(key=lambda each: (each.month, each.account, each.product))
        return [
            _month_row(each, [] if month is None else await settlements.lines(each), with_lines=month is not None)
            for each in months
        ]


def _month_row(month: "SettledMonth", lines: Sequence["SettlementLine"], *, with_lines: bool) -> dict[str, object]:
    row: dict[str, object] = {
        "month": f"{month.month:%Y-%m}",
        "account": month.account,
        "product": month.product,
        "state": month.state.value,
        "closed_at": month.closed_at,
        "disputed_at": month.disputed_at,
        "settled_at": month.settled_at,
        "reason": month.reason,
    }
    return {**row, "lines": [_line_row(line) for line in lines]} if with_lines else row


def _line_row(line: "SettlementLine") -> dict[str, object]:
    return {
        "license_id": line.license_id,
        "counter": line.counter,
        "kind": line.kind.value,
        "for_month": f"{line.for_month:%Y-%m}",
        "value": str(line.value),
        "units": line.units,
        "events": line.events,
    }


def _flat(rows: Iterable[Mapping[str, object]]) -> Iterable[Mapping[str, object]]:
    for row in rows:
        whole = {name: value for name, value in row.items() if name != "lines"}
        lines = row.get("lines")
        if isinstance(lines, list):
            yield from ({**whole, **line} for line in lines)
        else:
            yield whole


def _write_csv(rows: Iterable[Mapping[str, object]]) -> None:
    listed = list(rows)
    if listed:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(listed[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(listed)


def _print_months(rows: Sequence[Mapping[str, object]]) -> None:
    if not rows:
        print("no usage to settle is on record")
    for row in rows:
        reason = f"  {row['reason']}" if row["reason"] else ""
        print(f"{row['month']}  {row['account']:<16}{row['product']:<24}{row['state']}{reason}")
        lines = row.get("lines")
        for line in lines if isinstance(lines, list) else ():
            late = "" if line["for_month"] == row["month"] else f"  adjustment of {line['for_month']}"
            print(f"    {line['license_id']:<22}{line['counter']:<28}{line['units']:>16}  ({line['value']}){late}")


async def _close(month: date, account: str | None, product: str | None) -> list[dict[str, str]]:
    from shared.clock import MachineClock
    from shared.database.usage_settlements import UsageSettlements
    from shared.domain.settlement import is_over

    business_now = _business_now()
    if not is_over(month, business_now.date()):
        raise RefusedError(f"{month:%Y-%m} is not over yet (today is {business_now:%Y-%m-%d}): close it afterwards")
    closed: list[dict[str, str]] = []
    async with _connection() as connection:
        settlements = UsageSettlements(connection)
        for opened in await settlements.accounts(account, product):
            months = await settlements.close(opened, month, business_now=business_now, system_now=MachineClock().now())
            closed += [
                {"month": f"{each:%Y-%m}", "account": opened.account, "product": opened.product} for each in months
            ]
    return closed


def _move(text: str, target: str, account: str | None, product: str | None, *, reason: str, as_json: bool) -> None:
    from shared.domain.settlement import SettlementState

    moved = asyncio.run(_move_all(_month(text), SettlementState(target), account, product, reason))
    if as_json:
        print(orjson.dumps({target: moved}).decode())
        return
    for row in moved:
        print(f"{target} {row['month']}  {row['account']}  {row['product']}")


async def _move_all(
    month: date, target: "SettlementState", account: str | None, product: str | None, reason: str
) -> list[dict[str, str]]:
    from shared.database.usage_settlements import UsageSettlements
    from shared.domain.settlement import may_become

    async with _connection() as connection:
        settlements = UsageSettlements(connection)
        months = await settlements.months(account, product, month)
        if not months:
            raise RefusedError(f"no month {month:%Y-%m} is closed: `keyway usage show` lists the months")
        for each in months:
            if each.state is not target and not may_become(each.state, target):
                raise RefusedError(
                    f"{month:%Y-%m} of {each.account} and {each.product} is {each.state.value} and never becomes "
                    f"{target.value}: name others with --account and --product"
                )
        moving = [each for each in months if each.state is not target]
        async with connection.transaction():
            for each in moving:
                await settlements.move(each, target, reason=reason, business_now=_business_now())
    return [{"month": f"{each.month:%Y-%m}", "account": each.account, "product": each.product} for each in moving]
