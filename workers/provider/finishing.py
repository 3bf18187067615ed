"""After the decision: read what the outcome must tell, hand it back, and again until the license has taken it in.

A new service is not told before its last day is known (a license must never seem to be for life), nor, where the
catalog hands the provider's key through, before the key is there (docs/protocols/isplicense.md 7.4, 9.4).
"""

from dataclasses import dataclass
from datetime import date, timedelta

from shared.domain.catalog import BodySource
from shared.domain.open_operation import AttentionKind
from shared.domain.provider_order import Pause
from shared.domain.provider_record import ProviderOrder
from shared.domain.provider_service import ServiceForm
from shared.domain.provisioning import StepKind
from shared.domain.term import months_later
from workers.provider.looking import Looker
from workers.provider.ports import OrderBook, OutcomeAnnouncer, ProviderReadError, RunnerObserver

READ_AFTER_SECONDS = (2.0, 4.0, 8.0)
READ_EVERY_SECONDS = 15.0
DAY_WAITED_FOR_SECONDS = 60.0
"""A last day that the panel does not show by then is reckoned from the period; a renewal reads the true one first."""
KEY_WAITED_FOR_SECONDS = 900.0
"""People are told of a key that is not there by then; it is still waited for."""
SLOW_SECONDS = 60.0
ANNOUNCE_AGAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finisher:
    """Finishes decided orders."""

    book: OrderBook
    looker: Looker
    announcer: OutcomeAnnouncer
    provider_account: str
    observer: RunnerObserver

    async def finish(self, order: ProviderOrder) -> None:
        """Hand back the outcome of a decided order that nobody has taken in yet. Raises `UnavailableError`."""
        if not order.is_decided or order.settled_at is not None:
            return
        if order.detailed_at is None:
            if not await self._read_details(order):
                return
            detailed = await self.book.load(order.order_id)
            if detailed is None or detailed.detailed_at is None:
                return
            order = detailed
        await self.announcer.announce(order)
        await self.book.announced(order.order_id, again_seconds=ANNOUNCE_AGAIN_SECONDS)

    async def _read_details(self, order: ProviderOrder) -> bool:
        """Read the confirmed service; whether the outcome can be told now."""
        assert order.elid is not None  # noqa: S101 - confirmed names its service
        assert order.decided_at is not None  # noqa: S101 - and has its moment
        age_seconds = (await self.book.now() - order.decided_at).total_seconds()
        try:
            form = await self.looker.form(order, order.elid)
        except ProviderReadError as error:
            form = None
            if error.pause is not Pause.NONE:
                await self.book.hold_off(self.provider_account, error.pause)
        key = form.license_key or None if form is not None else None
        needs_key = order.kind is StepKind.ORDER and order.step.product.body is BodySource.PROVIDER_KEY
        expires_on = _last_day(order, form, age_seconds)
        lifetime = order.kind is StepKind.ORDER and order.step.product.period_months == 0 and form is not None
        if (expires_on is not None or lifetime) and (key is not None or not needs_key):
            return await self.book.detail(order.order_id, expires_on=expires_on, key=key if needs_key else None)
        wait_seconds = _next_read(age_seconds)
        if age_seconds >= KEY_WAITED_FOR_SECONDS:
            text = f"service {order.elid} does not show {'its key' if needs_key else 'its last day'}"
            await self.book.attend(order.order_id, AttentionKind.KEY_MISSING, text)
        self.observer.order_waits(order, "activation", wait_seconds)
        await self.book.defer(order.order_id, wait_seconds)
        return False


def _last_day(order: ProviderOrder, form: ServiceForm | None, age_seconds: float) -> date | None:
    if form is not None and form.expires_on is not None:
        return form.expires_on
    if order.kind is not StepKind.ORDER or age_seconds < DAY_WAITED_FOR_SECONDS or order.sent_at is None:
        return order.service_expires_on
    months = order.step.product.period_months
    return months_later(order.sent_at.date() - timedelta(days=1), months) if months else None


def _next_read(age_seconds: float) -> float:
    for after in READ_AFTER_SECONDS:
        if age_seconds < after:
            return after
    return READ_EVERY_SECONDS if age_seconds < KEY_WAITED_FOR_SECONDS else SLOW_SECONDS
