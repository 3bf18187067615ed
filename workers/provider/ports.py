"""What the provider role needs from the outside, in its own words: a panel to call, and a fence before every send."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

from shared.domain.catalog import ProviderOffer
from shared.domain.drift import Difference, OurSide
from shared.domain.open_operation import AttentionKind
from shared.domain.provider_operation import Elid, Marker, OrderFunction, ProviderOperation, ServiceKind
from shared.domain.provider_order import ClaimObstacle, Judgement, OrderState, Pause
from shared.domain.provider_outcome import Evidence, Refusal, SendOutcome
from shared.domain.provider_record import AccountPause, Claim, ClaimLimits, ProviderOrder
from shared.domain.provider_service import Balance, ChargeList, ServiceForm, ServiceList
from shared.domain.provider_settling import Look, Settled
from shared.domain.provider_sweep import NewFinding, Sweep, SweepClaim, Turn
from shared.errors import KeywayError

Fence = Callable[[], Awaitable[bool]]
"""Asked once, after the connection stands and before the first byte: is this attempt still open, its send window not
over? False, or any exception, and nothing is sent (docs/protocols/isplicense.md 9.3)."""

FORM_KINDS: dict[OrderFunction, tuple[ServiceKind, ...]] = {
    OrderFunction.SOFTWARE: (ServiceKind.ISPSYSTEM, ServiceKind.SOFTWARE),
    OrderFunction.PLESK: (ServiceKind.PLESK,),
    OrderFunction.MODULE: (ServiceKind.MODULE,),
}
"""Where the form of a service is looked for, in order, by the function that ordered it (7.1, 7.4)."""


class ProviderReadError(KeywayError):
    """A read failed; nothing follows from it about any order. The text holds no secret."""

    code = "provider_read"

    def __init__(self, detail: str, *, refusal: Refusal | None = None, pause: Pause = Pause.NONE) -> None:
        super().__init__(detail)
        self.refusal = refusal
        self.pause = pause
        """What the account should do before the next call of any kind."""


class ProviderClient(Protocol):
    """One provider account. Every method is bounded in time; none of them ever sends a request twice."""

    async def take_turn(self) -> None:
        """Wait until the account may call again (4.3). To be awaited before an order is claimed: a send that waited
        its turn afterwards could outlive its send window. Reads take their own turns."""
        ...

    async def carry_out(
        self, operation: ProviderOperation, *, offer: ProviderOffer | None, marker: Marker | None, fence: Fence
    ) -> SendOutcome:
        """Send the operation once and return what became of it; never raises but for cancellation.

        `offer` is the catalog's for the product concerned (none for O4, O7). `marker` is the order's own for O1-O3
        and that of the service for O4, O5, so that a rename keeps it. Cancellation leaves the outcome unknown.
        """
        ...

    async def read_services(self, canaries: Collection[Elid]) -> ServiceList:
        """Return all lists of the account, complete or with doubts; `canaries` are services known to be alive.

        Raises `ProviderReadError` when the account must pause; any other failure is a doubt.
        """
        ...

    async def read_service(self, elid: Elid, kinds: Sequence[ServiceKind]) -> ServiceForm | None:
        """Return one service as its form shows it, None when no kind of form knows it. See `FORM_KINDS`.

        Raises `ProviderReadError`.
        """
        ...

    async def read_charges(self) -> ChargeList:
        """Return the expense ledger, complete or with doubts. Raises as `read_services` does."""
        ...

    async def read_balance(self) -> Balance | None:
        """Return the balance, None where the panel does not show one. Raises as `read_services` does."""
        ...


class ProviderObserver(Protocol):
    """Watches the adapter for logs and metrics; never raises, never waits."""

    def call_done(self, function: str, result: str, seconds: float) -> None:
        """One HTTP exchange ended; `result` is an HTTP status or a failure's name."""
        ...

    def hostile_answer(self, function: str, reason: str) -> None:
        """An answer was refused as an attack on its reader; belongs in the security log."""
        ...


class OrderBook(Protocol):
    """The truth about provider orders. Every method is one short transaction and may raise `UnavailableError`; then
    nothing is known to have happened, and it may be called again."""

    async def load(self, order_id: UUID) -> ProviderOrder | None:
        """Return the order, None for an id that nobody stored."""
        ...

    async def obstacle(self, order_id: UUID, limits: ClaimLimits) -> ClaimObstacle | None:
        """Return what stands against claiming the order now; `claim` asks again."""
        ...

    async def claim(
        self,
        order_id: UUID,
        limits: ClaimLimits,
        *,
        snapshot: Collection[Elid] = (),
        known_charges: Collection[str] = (),
        operation: ProviderOperation | None = None,
    ) -> Claim | ClaimObstacle:
        """Claim the order for one send; `operation` replaces the stored one where looking made it more exact."""
        ...

    async def keep(self, claim: Claim) -> bool:
        """Show that the worker of the claim is alive; False when the order moved on."""
        ...

    async def pass_fence(self, claim: Claim) -> bool:
        """Whether the first byte may be written now."""
        ...

    async def close(
        self,
        claim: Claim,
        judgement: Judgement,
        evidence: Evidence | None,
        *,
        subject: str = "",
        expires_on: date | None = None,
        due_seconds: float = ...,
    ) -> OrderState | None:
        """Close the attempt with what became of it; None when it was closed before or the order is beyond it."""
        ...

    async def lose(self, order_id: UUID, attempt: int) -> bool:
        """Make a `sending` order `unknown`; its attempt stays open for its worker's own answer."""
        ...

    async def cancel(self, order_id: UUID) -> bool:
        """Refuse an order that nobody wants any more and of which nothing was sent."""
        ...

    async def looks(self, order: ProviderOrder) -> tuple[Look, ...]:
        """Return the looks for the present attempt, in rising order of time."""
        ...

    async def add_look(self, order: ProviderOrder, look: Look) -> None:
        """Keep a look as evidence."""
        ...

    async def settle(
        self, order: ProviderOrder, settled: Settled, *, expires_on: date | None = None, due_seconds: float = ...
    ) -> OrderState | None:
        """Move an order by what looking found; None when it moved on since it was read."""
        ...

    async def defer(self, order_id: UUID, seconds: float | None) -> None:
        """Let the order be due in so many seconds, or never by itself (None)."""
        ...

    async def canaries(self, provider_account: str) -> Mapping[str, Elid]:
        """Return per name of an order operation a service that is known to be alive, where there is one."""
        ...

    async def linked(self, provider_account: str, elids: Collection[Elid]) -> Mapping[Elid, UUID]:
        """Return which of the services orders of ours made, and the order that made each."""
        ...

    async def detail(self, order_id: UUID, *, expires_on: date | None, key: str | None) -> bool:
        """Keep what was read of a confirmed service, once."""
        ...

    async def attend(self, order_id: UUID, kind: AttentionKind, text: str) -> None:
        """Tell people of a finding about the order, once per kind."""
        ...

    async def announced(self, order_id: UUID, *, again_seconds: float) -> None:
        """Note that the outcome was published."""
        ...

    async def now(self) -> datetime:
        """Return the book's own time, which its moments are told in."""
        ...

    async def pause(self, provider_account: str) -> AccountPause:
        """Return whether the account may be called."""
        ...

    async def hold_off(self, provider_account: str, asked: Pause) -> None:
        """Pause the account as a failed read asks."""
        ...


class OutcomeAnnouncer(Protocol):
    """Hands outcomes back to the license they belong to."""

    async def announce(self, order: ProviderOrder) -> None:
        """Publish the outcome of a decided order, the same bytes each time. Raises `UnavailableError`."""
        ...


class RunnerObserver(Protocol):
    """Watches orders for logs and metrics; never raises, never waits."""

    def order_moved(self, order: ProviderOrder, state: OrderState | None, why: str) -> None:
        """An order moved, or did not (None)."""
        ...

    def order_waits(self, order: ProviderOrder, why: str, seconds: float) -> None:
        """An order is left for later."""
        ...


class SweepBook(Protocol):
    """The truth about sweeps. Every method is one short transaction and may raise `UnavailableError`."""

    async def load(self, sweep_id: UUID) -> Sweep | None:
        """Return the sweep, None for an id that is not stored."""
        ...

    async def claim(self, sweep_id: UUID) -> SweepClaim | None:
        """Begin the sweep; None when it is over, runs, or another one of its account runs."""
        ...

    async def keep(self, claim: SweepClaim) -> bool:
        """Show that the claim's worker lives; False when the sweep is not its any more."""
        ...

    async def note(self, claim: SweepClaim, findings: Sequence[NewFinding]) -> int | None:
        """Keep findings, tell of the new ones and return how many those are; None when the sweep was lost."""
        ...

    async def finish(self, claim: SweepClaim, differences: Sequence[Difference], turn: Turn) -> int | None:
        """End the sweep and close the findings that it looked for and did not meet; how many. None: it was lost."""
        ...

    async def fail(self, claim: SweepClaim, failure: str) -> bool:
        """End the sweep without a result; False when it was lost."""
        ...


class OurBooks(Protocol):
    """Our side of a comparison."""

    async def read(self, provider_account: str) -> OurSide | None:
        """Return everything on record about the account, None while there is no catalog. `UnavailableError`."""
        ...


class SweepObserver(Protocol):
    """Watches sweeps for logs and metrics; never raises, never waits."""

    def sweep_done(self, claim: SweepClaim, *, differences: int, told: int, closed: int, seconds: float) -> None:
        """A sweep ended with a result: findings told for the first time, and findings that are gone."""
        ...

    def sweep_failed(self, claim: SweepClaim, why: str) -> None:
        """A sweep ended without a result, or was taken over by another worker."""
        ...
