"""A stored provider order as the provider role and the operators' verbs see it, and what moves it on.

Values between `shared.database.provider_orders` and `workers.provider`; nothing here decides.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from shared.contracts.identifiers import LicenseId
from shared.domain.provider_operation import Elid, Marker, ProviderOperation, is_money, marker_of
from shared.domain.provider_order import OrderState
from shared.domain.provider_outcome import Refusal
from shared.domain.provider_service import Found
from shared.domain.provider_settling import UnsettledOrder
from shared.domain.provisioning import Step, StepKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderOrder:
    """One row of table `provider_order`. Moments are system clock, aware UTC."""

    order_id: UUID
    license_id: LicenseId
    account: str
    """The caller's account."""
    number: str
    provider_account: str
    step: Step
    operation: ProviderOperation
    state: OrderState
    markers: tuple[Marker, ...]
    """Every marker that the order may have written, the present one last."""
    marker_number: int
    service_marker: Marker | None
    """For an operation on a service that an order of ours made: the marker of that order."""
    attempt: int
    """Counts claims; 0 before the first one."""
    accepted: bool
    elid: Elid | None
    how: Found | None
    refusal: Refusal | None
    subject: str
    service_expires_on: date | None
    service_key: str | None = field(repr=False)
    """The provider's key. Secret."""
    quarantined: tuple[Elid, ...]
    snapshot: frozenset[Elid]
    known_charges: frozenset[str]
    """Ids of ledger rows about the service that stood there before sending."""
    intended_at: datetime
    due_at: datetime | None
    sent_at: datetime | None
    """When the present attempt was claimed."""
    manual_since: datetime | None
    decided_at: datetime | None
    detailed_at: datetime | None
    """When everything that the outcome tells was known: from then on it never changes."""
    announced_at: datetime | None
    settled_at: datetime | None
    cancel_requested_at: datetime | None
    put_off: int = 0
    """How often a release was refused for a passing reason."""

    @property
    def kind(self) -> StepKind:
        """What the order does."""
        return self.step.kind

    @property
    def marker(self) -> Marker:
        """The marker at the present marker number."""
        return self.markers[-1]

    @property
    def is_money(self) -> bool:
        """Whether it may charge."""
        return is_money(self.operation)

    @property
    def is_decided(self) -> bool:
        """Whether the order has reached a final state."""
        return self.state in (OrderState.CONFIRMED, OrderState.REFUSED)

    @property
    def unsettled(self) -> UnsettledOrder:
        """What settling must know of it; only in `unknown` and `manual`."""
        assert self.sent_at is not None  # noqa: S101 - nothing is unknown that was not claimed
        return UnsettledOrder(
            state=self.state,
            sent_at=self.sent_at,
            marker_number=self.marker_number,
            accepted=self.accepted,
            terminate_waits=self.cancel_requested_at is not None,
            manual_since=self.manual_since,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to send once: at most one request, and only while its send window lasts."""

    order_id: UUID
    attempt: int
    lease_token: UUID
    send_window_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimLimits:
    """The limits that a claim is held against."""

    send_window_seconds: float = 5.0
    unresolved_max: int = 8
    """Money orders of the provider account that may be `sending`, `unknown` or `manual` at once."""
    money_in_flight_max: int = 1
    """Money orders of the provider account that may be `sending` at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPause:
    """Whether a provider account may be called."""

    paused_until: datetime | None
    reason: str | None
    back_offs: int
    """Hold-offs in a row."""


def markers_of(service_key: bytes, order_id: UUID, marker_number: int) -> tuple[Marker, ...]:
    """Return all markers that an order may have written so far, the present one last."""
    return tuple(marker_of(service_key, order_id, number) for number in range(1, marker_number + 1))
