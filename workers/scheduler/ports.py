"""What the scheduler needs from the outside, in its own words."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

from shared.contracts.commands import LicenseCommand
from shared.contracts.identifiers import LicenseId


class Schedule(Protocol):
    """What the stored state says is due. Every method may raise `UnavailableError`: another may be the active one."""

    async def lead(self) -> bool:
        """Become the active scheduler, or learn that another one is."""
        ...

    async def lapsing(self, last_day: date, limit: int) -> list[LicenseId]:
        """Return active licenses whose last day is `last_day` or before."""
        ...

    async def ending(self, terminated_before: Mapping[str, datetime], limit: int) -> list[LicenseId]:
        """Return terminated licenses whose service is to be released, by the SKU of the service."""
        ...

    async def forget_results(self, before: date) -> list[str]:
        """Drop the day partitions of command results before that day; return their names."""
        ...

    async def forget_names(self, before: datetime, limit: int) -> int:
        """Forget at most `limit` named requests that were answered before that moment; return how many it were."""
        ...


class DueOrder(Protocol):
    """A provider order to ring for."""

    @property
    def order_id(self) -> UUID:
        """The order."""
        ...

    @property
    def license_id(self) -> LicenseId:
        """Record key."""
        ...


class Orders(Protocol):
    """The provider orders."""

    async def ring(self, *, orders_max: int, again_seconds: float) -> Sequence[DueOrder]:
        """Take orders that are due; they are due again `again_seconds` later unless they moved. `UnavailableError`."""
        ...


class Overdue(Protocol):
    """The provider orders that nothing moves on."""

    async def tell(self, *, after_seconds: float, orders_max: int) -> int:
        """Tell people of orders that wait for so long, each once; return how many. `UnavailableError`."""
        ...


class DueSweep(Protocol):
    """A sweep to ring for."""

    @property
    def sweep_id(self) -> UUID:
        """The sweep."""
        ...

    @property
    def provider_account(self) -> str:
        """Record key."""
        ...


class Sweeps(Protocol):
    """The comparisons with providers. Every method may raise `UnavailableError`."""

    async def ask_for_neglected(self, every_seconds: float) -> int:
        """Ask for a sweep of each provider account that nobody has asked for within so long; return how many."""
        ...

    async def ring(self, *, sweeps_max: int, again_seconds: float) -> Sequence[DueSweep]:
        """Take sweeps that nobody has begun, or whose worker is gone; they are due again later, ever more rarely."""
        ...

    async def forget(self, *, days: int) -> int:
        """Drop some of the sweeps that ended so long ago; return how many."""
        ...


class Post(Protocol):
    """Where the scheduler sends. Every method raises `UnavailableError` when not everything was acknowledged."""

    async def bells(self, orders: Sequence[DueOrder]) -> None:
        """Ring for orders."""
        ...

    async def sweep_bells(self, sweeps: Sequence[DueSweep]) -> None:
        """Ring for sweeps."""
        ...

    async def commands(self, commands: Sequence[LicenseCommand]) -> None:
        """Send license commands."""
        ...
