"""What `keyway provider drift` waits for: a sweep that begins after the question, carried out by the provider role.

The verb itself calls no provider: it asks for the sweep, the scheduler rings for it, and the provider worker answers
through the same paced client that carries the orders (docs/protocols/isplicense.md 9.7).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyway.cli.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.database.pool import Pool
    from shared.database.provider_sweeps import PostgresProviderSweeps
    from shared.domain.drift import Difference
    from shared.domain.provider_sweep import Sweep

BEGIN_SECONDS = 30.0
"""A provider worker takes a sweep within seconds, unless another one of the account runs."""
LOOK_AGAIN_SECONDS = 0.25
TELL_AFTER_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, and whether somebody watches."""

    seconds: float
    begin_seconds: float = BEGIN_SECONDS
    shows_progress: bool = False


async def swept(pool: "Pool", accounts: "Sequence[str]", patience: Patience) -> "Sequence[Difference]":
    """Return what differs at the provider accounts, at all of them when none is named; account by account.

    Raises `RefusedError` for an unknown account, when a sweep fails, or when no provider worker answers in time.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from shared.clock import MachineClock
    from shared.database.provider_sweeps import PostgresProviderSweeps
    from shared.domain.provider_sweep import SweepAsker

    clock, sweeps = MachineClock(), PostgresProviderSweeps(pool)
    known_accounts = await sweeps.accounts()
    if not known_accounts:
        raise RefusedError(
            "no provider account is in use: `keyway worker provider` enrolls those of its settings when it starts"
        )
    for account in accounts:
        if account not in known_accounts:
            raise RefusedError(f"there is no provider account {account}: there is {', '.join(known_accounts)}")
    asked = {await sweeps.ask(account, SweepAsker.OPERATOR): account for account in accounts or known_accounts}
    began = clock.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    progress = Progress(
        *columns, console=Console(stderr=True), disable=not patience.shows_progress, transient=True, auto_refresh=True
    )
    shown = progress.add_task("comparing with the provider", visible=False)
    with progress:
        while True:
            known = {sweep_id: await sweeps.load(sweep_id) for sweep_id in asked}
            _refuse_failed(known)
            waited = clock.monotonic() - began
            if all(sweep is not None and sweep.is_over for sweep in known.values()):
                break
            await _refuse_late(sweeps, known, asked, waited, patience)
            progress.update(shown, visible=waited > TELL_AFTER_SECONDS)
            await clock.sleep(LOOK_AGAIN_SECONDS)
    return [difference for sweep in known.values() if sweep is not None for difference in sweep.differences]


def _refuse_failed(known: "dict[UUID, Sweep | None]") -> None:
    for sweep in known.values():
        if sweep is not None and sweep.failure:
            raise RefusedError(f"provider account {sweep.provider_account} could not be compared: {sweep.failure}")


async def _refuse_late(
    sweeps: "PostgresProviderSweeps",
    known: "dict[UUID, Sweep | None]",
    asked: "dict[UUID, str]",
    waited: float,
    patience: Patience,
) -> None:
    """Give up when nobody begins, or nobody ends, in time; what was asked for stays asked for."""
    for sweep_id, sweep in known.items():
        account = asked[sweep_id]
        if sweep is None:
            raise RefusedError(f"the sweep of provider account {account} was forgotten meanwhile: ask again")
        if sweep.is_over:
            continue
        begins_late = sweep.begun_at is None and waited >= min(patience.begin_seconds, patience.seconds)
        if begins_late and not await sweeps.is_running(account):
            raise RefusedError(
                f"no provider worker answered for account {account} within {waited:.0f} s: see that"
                " `keyway worker provider` and `keyway worker scheduler` run, and whether the worker has this account"
            )
        if waited >= patience.seconds:
            raise RefusedError(
                f"the comparison of provider account {account} is not finished after {waited:.0f} s:"
                " wait longer with --wait, or ask again later"
            )
