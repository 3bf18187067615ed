"""`keyway provider`: orders at the upstream provider as people see them, and the decisions that only people take.

`drift` has both sides compared by the provider role: exit status 1 when anything differs. `release`, `link` and
`cancel` decide an order whose outcome stayed unknown (state `manual`); all are on record with who decided.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import orjson
import typer

from keyway.cli.installation import changes_stack, reads_stack, stack_settings
from keyway.cli.license_argument import license_id_of
from keyway.cli.refusal import RefusedError
from keyway.cli.waiting import waiting

if TYPE_CHECKING:
    from shared.database.pool import Pool
    from shared.database.provider_oversight import PostgresProviderOversight
    from shared.domain.drift import Difference
    from shared.domain.provider_order import OrderState
    from shared.domain.provider_record import ProviderOrder

app = typer.Typer(help="Orders at the upstream provider.", add_completion=False, no_args_is_help=True)

FAILED = 1
ORDERS_SHOWN_MAX = 50
ALL_ORDERS_MAX = 10_000_000
LOOK_AGAIN_SECONDS = 0.5

Outcome = TypeVar("Outcome")


def _order_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write the id of an order, see `keyway provider orders`") from None


def _names(given: list[str]) -> list[str]:
    if not all(name.strip() for name in given):
        raise typer.BadParameter("write the name of a person")
    return given


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OrderId = Annotated[UUID, typer.Argument(metavar="ORDER", parser=_order_id, help="Id of an order.")]
By = Annotated[list[str], typer.Option("--by", callback=_names, help="Who decides; on record with the order.")]


@app.command()
@reads_stack
def orders(
    state: Annotated[list[str] | None, typer.Option(help="Only orders in this state; may be repeated.")] = None,
    license: Annotated[str | None, typer.Option(help="Only orders of this license, such as ka:00481516.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = ORDERS_SHOWN_MAX,
    as_json: Json = False,
) -> None:
    """List provider orders, newest first."""
    from shared.domain.provider_order import OrderState

    known = {each.value: each for each in OrderState}
    for name in state or ():
        if name not in known:
            raise typer.BadParameter(f"{name!r} is no state: write {', '.join(known)}", param_hint="--state")
    states = [known[name] for name in state or ()]
    asked = None if license is None else license_id_of(license)

    async def read(oversight: "PostgresProviderOversight", _pool: "Pool") -> "Sequence[ProviderOrder]":
        return await oversight.orders(states=states, license_id=asked, orders_max=limit)

    found = _run(read)
    if as_json:
        _print_json([_told(order) for order in found])
    elif not found:
        print("no order fits")
    else:
        _print_table(
            ("Order", "License", "Step", "State", "Attempt", "Service", "Refusal", "Intended"),
            [
                (
                    str(order.order_id),
                    order.license_id,
                    order.kind.value,
                    order.state.value,
                    str(order.attempt),
                    str(order.elid or ""),
                    order.refusal.value if order.refusal else "",
                    f"{order.intended_at:%Y-%m-%d %H:%M:%S}Z",
                )
                for order in found
            ],
        )


@app.command()
@changes_stack
def reconcile(
    order: Annotated[
        UUID | None, typer.Argument(metavar="[ORDER]", parser=_order_id, help="One order; else all.")
    ] = None,
    wait_seconds: Annotated[float, typer.Option("--wait", min=0, help="Wait so long for the outcome.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Look for unknown orders now instead of later; exit status 1 when some stay unknown."""
    wanted = () if order is None else (order,)

    async def settle(oversight: "PostgresProviderOversight", _pool: "Pool") -> "Sequence[ProviderOrder]":
        from shared.clock import MachineClock

        clock = MachineClock()
        ends = clock.monotonic() + wait_seconds
        if not await oversight.look_now(wanted) and order is not None:
            await _require_known(oversight, order)
        while True:
            left = [each for each in await _undecided(oversight) if not wanted or each.order_id in wanted]
            if not left or clock.monotonic() >= ends:
                return left
            await clock.sleep(LOOK_AGAIN_SECONDS)

    with waiting("waiting for the outcome of orders"):
        left = _run(settle)
    if as_json:
        _print_json({"undecided": [_told(each) for each in left]})
    else:
        for each in left:
            print(f"{each.order_id}  {each.license_id}  {each.kind.value}  {each.state.value}")
        if not left:
            print("nothing is unknown")
    if left:
        raise typer.Exit(FAILED)


@app.command()
@reads_stack
def drift(
    account: Annotated[list[str] | None, typer.Option(help="Only this provider account; may be repeated.")] = None,
    wait_seconds: Annotated[float, typer.Option("--wait", min=0, help="Wait so long for the provider role.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Have our licenses compared with the provider's lists and ledger, both ways; exit status 1 when they differ."""
    from keyway.cli.provider_drift import Patience, swept

    patience = Patience(seconds=wait_seconds, shows_progress=not as_json and sys.stderr.isatty())
    found = _run(lambda _oversight, pool: swept(pool, account or (), patience))
    if as_json:
        _print_json({"differences": found, "cost": str(_cost(found))})
    elif found:
        _print_table(
            ("Account", "Difference", "Service", "License", "Ours", "Theirs", "Order", "Charged"),
            [
                (
                    each.account,
                    each.kind.value,
                    str(each.elid or ""),
                    each.license_id or "",
                    each.ours,
                    each.theirs,
                    each.order,
                    "" if each.cost is None else str(each.cost),
                )
                for each in found
            ],
        )
        print(f"{len(found)} differences; {_cost(found)} was charged for them")
    if found:
        raise typer.Exit(FAILED)


@app.command()
@changes_stack
def release(order: OrderId, by: By, as_json: Json = False) -> None:
    """Order again what does not exist upstream. It may charge twice if that is wrong: two people must say so."""
    from shared.domain.approval import TwoPeople

    people = TwoPeople.of(by)
    if people is None:
        raise RefusedError("two people must release an order: give --by twice, with different names")
    _decide(order, lambda oversight: oversight.release(order, by=people), as_json=as_json)


@app.command()
@changes_stack
def link(
    order: OrderId,
    service: Annotated[int, typer.Argument(min=1, help="Id of the service in the panel.")],
    by: By,
    as_json: Json = False,
) -> None:
    """Confirm an order with the service that it made, found by people."""
    from shared.domain.provider_operation import Elid

    _decide(order, lambda oversight: oversight.link(order, Elid(service), by=", ".join(by)), as_json=as_json)


@app.command()
@changes_stack
def cancel(order: OrderId, by: By, as_json: Json = False) -> None:
    """Refuse an order for good: what it may have made upstream is nobody's and shows in `drift`."""
    _decide(order, lambda oversight: oversight.cancel(order, by=", ".join(by)), as_json=as_json)


def _decide(
    order: UUID,
    decision: "Callable[[PostgresProviderOversight], Awaitable[OrderState | None]]",
    *,
    as_json: bool,
) -> None:
    async def decide(oversight: "PostgresProviderOversight", _pool: "Pool") -> "OrderState | None":
        state = await decision(oversight)
        if state is None:
            await _require_known(oversight, order)
        return state

    state = _run(decide)
    if state is None:
        raise RefusedError(f"order {order} is not in state manual: nothing was changed, see `keyway provider orders`")
    if as_json:
        _print_json({"order": order, "state": state})
    else:
        print(f"order {order} is {state.value} now")


async def _require_known(oversight: "PostgresProviderOversight", order: UUID) -> None:
    if not await oversight.story(order):
        raise RefusedError(f"there is no order {order}: `keyway provider orders` lists them")


async def _undecided(oversight: "PostgresProviderOversight") -> "Sequence[ProviderOrder]":
    from shared.domain.drift import UNDECIDED

    return await oversight.orders(states=UNDECIDED, orders_max=ALL_ORDERS_MAX)


def _run(work: "Callable[[PostgresProviderOversight, Pool], Awaitable[Outcome]]") -> Outcome:
    from shared.database.pool import open_pool
    from shared.database.provider_oversight import PostgresProviderOversight
    from shared.telemetry.logging import configure_logging

    settings = stack_settings()
    configure_logging("WARNING", "provider", stream=sys.stderr.buffer)

    async def inside() -> Outcome:
        async with open_pool(settings.require_database_url(), connections_max=1) as pool:
            return await work(PostgresProviderOversight(pool), pool)

    return asyncio.run(inside())


def _told(order: "ProviderOrder") -> dict[str, Any]:
    """Return an order as JSON tells it: no key, no label of the caller."""
    return {
        "order": order.order_id,
        "license": order.license_id,
        "account": order.provider_account,
        "step": order.kind,
        "state": order.state,
        "attempt": order.attempt,
        "service": order.elid,
        "how": order.how,
        "refusal": order.refusal,
        "intended_at": order.intended_at,
        "sent_at": order.sent_at,
        "manual_since": order.manual_since,
        "decided_at": order.decided_at,
        "settled_at": order.settled_at,
    }


def _cost(found: "Sequence[Difference]") -> Any:  # noqa: ANN401 - a Decimal; the import waits for the verb
    from decimal import Decimal

    return sum((each.cost for each in found if each.cost is not None), Decimal(0))


def _print_json(value: object) -> None:
    print(orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z).decode())


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as they must be: ids are there to be copied, so nothing is cut."""
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
