"""Which periods of a service are paid: month after month, from any day of a month, never more than one ahead."""

from dataclasses import replace
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.catalog import Product, Provider, ProviderOffer
from shared.domain.provider_operation import Elid
from shared.domain.provisioning import RENEWAL_MARGIN_DAYS, ServerData, UpstreamService, plan_periods
from shared.domain.term import months_later

LITE = Product(
    sku="ISPMGR6-LITE",
    provider=Provider.ISPLICENSE,
    offer=ProviderOffer(order_function="softexternal.order.param", pricelist=546),
    period_months=1,
)
DATA = ServerData(address="203.0.113.10")
GRACE = timedelta(days=RENEWAL_MARGIN_DAYS)


@given(bought=st.dates(date(2024, 1, 1), date(2032, 12, 31)), months=st.integers(1, 60))
def test_a_license_renewed_each_month_pays_one_period_a_month_and_at_most_one_in_advance(
    bought: date, months: int
) -> None:
    """The panel's day shrinks at the end of a month (31, 28, 28 …), the license's comes back (31, 28, 31 …)."""
    service = UpstreamService(elid=Elid(1), sku=LITE.sku, data=DATA, expires_on=months_later(bought, 1))
    paid = 1
    for month in range(2, months + 2):
        renewal_day = months_later(bought, month)
        for step in plan_periods(LITE, service, DATA, renewal_day + GRACE):
            assert step.expires_before == service.expires_on
            service = replace(service, expires_on=months_later(service.expires_on or bought, 1))
            paid += 1
        assert service.expires_on is not None
        assert service.expires_on >= renewal_day, "never without a service"
        assert month <= paid <= month + 1
    assert paid == months + 1 or bought.day > 28
