"""What the provider role needs from the outside, in its own words: a panel to call, and a fence before every send."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from shared.domain.catalog import ProviderOffer
from shared.domain.provider_operation import Elid, Marker, OrderFunction, ProviderOperation, ServiceKind
from shared.domain.provider_order import Pause
from shared.domain.provider_outcome import Refusal, SendOutcome
from shared.domain.provider_service import Balance, ChargeList, ServiceForm, ServiceList
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
