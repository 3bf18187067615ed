"""Orders carried against the real sandbox: each fault mode ends with at most one charge and nothing silent."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.domain.provider_order import OrderState
from tests.integration.provider_rig import LITE, ProviderRig, provider_rig

pytestmark = [pytest.mark.asyncio, pytest.mark.services]


@pytest_asyncio.fixture
async def rig(database_url: str, tmp_path: Path) -> AsyncIterator[ProviderRig]:
    async with provider_rig(database_url, tmp_path) as made:
        yield made


async def test_an_order_is_sent_once_and_its_outcome_told_with_the_last_day(rig: ProviderRig) -> None:
    (order,) = await rig.settled(await rig.store(LITE))
    assert order.state is OrderState.CONFIRMED
    assert order.elid is not None
    assert order.service_expires_on is not None
    assert await rig.charges_per_service() == {order.elid: 1}
    assert await rig.steps(order.order_id) == ["intended>intended", "claimed>sending", "confirmed>confirmed"]
    assert [told.order_id for told in rig.announcer.told] == [order.order_id]
