"""A sweep carried out: both sides read and compared, twice where they differ, then findings noted and the sweep ended.

The process may die between any two lines: the sweep is begun again by a later bell, and findings that were noted are
not told again. While a sweep runs it shows that its worker lives; a worker that was taken for dead stops reading.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from shared.clock import SystemClock
from shared.domain.drift import Difference, OurSide, compare, lasting
from shared.domain.provider_operation import Elid
from shared.domain.provider_order import Pause
from shared.domain.provider_sweep import FORMS_PER_TURN, SweepClaim, Turn, findings_of, turn_of
from shared.errors import ConfigurationError, KeywayError, UnavailableError
from workers.provider.patrol import Patrol, counting
from workers.provider.ports import OrderBook, OurBooks, ProviderClient, ProviderReadError, SweepBook, SweepObserver

KEEP_SECONDS = 4.0
SETTLE_DOWN_SECONDS = 2.0
"""Between two comparisons: what differs only in one of them was under way."""
SWEEP_SECONDS_MAX = 3600.0
"""A bound, not a goal: a large account is read for minutes at two calls a second."""
FINDINGS_AT_ONCE = 100


class SweepFailedError(KeywayError):
    """A sweep cannot have a result; the text says why."""

    code = "sweep_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptAccount:
    """How one provider account is called."""

    client: ProviderClient
    """The one that carries its orders too, so that both keep to one pace."""
    orders: OrderBook
    """Tells its pauses, and is told of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a sweep found, and whose numbers of nodes it read for it."""

    differences: Sequence[Difference]
    turn: Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeper:
    """Carries sweeps out for the provider accounts that this worker can call."""

    book: SweepBook
    ours: OurBooks
    accounts: Mapping[str, SweptAccount]
    clock: SystemClock
    observer: SweepObserver
    forms_per_turn: int = FORMS_PER_TURN

    async def carry(self, sweep_id: UUID) -> None:
        """Carry the sweep out unless it is over, under way or about an account of somebody else.

        Raises `UnavailableError` when the database does not answer; then it may be carried again.
        """
        sweep = await self.book.load(sweep_id)
        if sweep is None or sweep.is_over or sweep.provider_account not in self.accounts:
            return
        claim = await self.book.claim(sweep_id)
        if claim is None:
            return
        began = self.clock.monotonic()
        try:
            found = await self._compared_in_time(claim)
        except SweepFailedError as error:
            await self.book.fail(claim, str(error))
            self.observer.sweep_failed(claim, str(error))
            return
        except UnavailableError:
            raise  # what is stored stays as it is: the sweep is begun again when the lease is over
        except Exception as error:
            await self.book.fail(claim, f"a defect of ours: {type(error).__name__}")  # else it would run for ever
            raise
        differences = found.differences
        told = await self._note(claim, differences)
        closed = None if told is None else await self.book.finish(claim, differences, found.turn)
        if told is None or closed is None:
            self.observer.sweep_failed(claim, "another worker has begun it again")
            return
        seconds = self.clock.monotonic() - began
        self.observer.sweep_done(claim, differences=len(differences), told=told, closed=closed, seconds=seconds)

    async def _compared_in_time(self, claim: SweepClaim) -> Compared:
        """Return what differs, showing meanwhile that this worker lives. Raises `SweepFailedError`."""
        try:
            async with asyncio.timeout(SWEEP_SECONDS_MAX) as limit, asyncio.TaskGroup() as group:
                keeper = group.create_task(self._keep(claim, limit))
                try:
                    return await self._compared(claim)
                finally:
                    keeper.cancel()
        except TimeoutError:
            raise SweepFailedError("it took too long, or its worker was taken for dead meanwhile") from None
        except ExceptionGroup as group_of_one:
            raise group_of_one.exceptions[0] from None

    async def _keep(self, claim: SweepClaim, limit: asyncio.Timeout) -> None:
        while True:
            await self.clock.sleep(KEEP_SECONDS)
            try:
                if not await self.book.keep(claim):
                    limit.reschedule(0.0)  # in the past: the reading ends here and now
                    return
            except UnavailableError:
                continue  # the lease may run out meanwhile: then every write finds out

    async def _compared(self, claim: SweepClaim) -> Compared:
        """Compare; what differs is compared once more, so that what is only under way is not told."""
        account = claim.provider_account
        pause = await self.accounts[account].orders.pause(account)
        if pause.paused_until is not None:
            raise SweepFailedError(f"the account pauses until {pause.paused_until:%H:%M:%S}Z ({pause.reason})")
        ours = await self._ours(account)
        turn = turn_of(counting(ours), claim, forms_max=self.forms_per_turn)
        first = await self._against(ours, account, turn.read)
        if not first:
            return Compared(differences=first, turn=turn)
        await self.clock.sleep(SETTLE_DOWN_SECONDS)
        doubtful = {each.elid for each in first if each.elid is not None}
        again = await self._ours(account)
        second = await self._against(again, account, counting(again) & doubtful)
        return Compared(differences=lasting(first, second), turn=turn)

    async def _ours(self, account: str) -> OurSide:
        try:
            ours = await self.ours.read(account)
        except ConfigurationError as error:
            raise SweepFailedError(str(error)) from None
        if ours is None:
            raise SweepFailedError("there is no catalog yet: load one with `keyway catalog apply FILE`")
        return ours

    async def _against(self, ours: OurSide, account: str, counted: Collection[Elid]) -> Sequence[Difference]:
        try:
            theirs = await Patrol(client=self.accounts[account].client).read(ours, counted=counted)
        except ProviderReadError as error:
            if error.pause is not Pause.NONE:
                await self.accounts[account].orders.hold_off(account, error.pause)
            raise SweepFailedError(f"the panel cannot be read: {error}") from None
        found = await asyncio.to_thread(compare, ours, theirs)  # pure, and long for a large account
        return tuple(replace(each, account=account) for each in found)

    async def _note(self, claim: SweepClaim, differences: Sequence[Difference]) -> int | None:
        """Note the findings, a bounded number at once; return how many are new, None when the sweep was lost."""
        told = 0
        findings = findings_of(tuple(differences), claim.provider_account)
        for start in range(0, len(findings), FINDINGS_AT_ONCE):
            new = await self.book.note(claim, findings[start : start + FINDINGS_AT_ONCE])
            if new is None:
                return None
            told += new
        return told
