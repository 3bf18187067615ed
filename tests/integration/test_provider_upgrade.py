"""A purchase and its upgrade through the real rules, store, runner and panel; only Kafka is played."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.clock import MachineClock
from shared.contracts.commands import LicenseCommand
from shared.contracts.envelope import Envelope
from shared.contracts.identifiers import license_id
from shared.contracts.replies import ReplyStatus
from shared.database.license_store import PostgresLicenseStore
from shared.domain.license import License
from shared.domain.provider_record import ProviderOrder
from shared.domain.term import months_later
from tests.builders import a_purchase, an_envelope, an_upgrade
from tests.integration.provider_rig import CLOCK, ProviderRig, a_runner, provider_rig
from tests.unit.test_license_handler import FixedRules, Notes, PlainSigner, received
from workers.license.handler import LicenseHandler
from workers.license.sheet import Handled
from workers.provider.announcing import outcome_of

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

PAID_UNTIL = MachineClock().now().date() + timedelta(days=100)
KEY = license_id("ka", "00481516")


@dataclass(slots=True, kw_only=True)
class Saga:
    """The license role and the provider role side by side."""

    rig: ProviderRig
    handler: LicenseHandler
    store: PostgresLicenseStore
    runner: Any = None

    async def ask(self, command: LicenseCommand) -> Handled:
        (handled,) = await self.handler.handle([received(an_envelope(command))])
        return handled

    async def announce(self, order: ProviderOrder) -> None:
        """Hand the outcome back as the announcer does."""
        envelope: Envelope = replace(an_envelope(outcome_of(order)), deadline_at=None)
        (handled,) = await self.handler.handle([received(envelope)])
        assert handled.dead_letter is None

    async def until_settled(self) -> None:
        """Ring for what is due until nothing is under way."""
        ends = CLOCK.monotonic() + 30
        while await self.rig.value("SELECT count(*) FROM provider_order WHERE settled_at IS NULL"):
            assert CLOCK.monotonic() < ends, await self.rig.value("SELECT string_agg(state, ' ') FROM provider_order")
            await self.rig.execute("UPDATE provider_order SET due_at = clock_timestamp() WHERE settled_at IS NULL")
            for due in await self.rig.book.ring(orders_max=8, again_seconds=2.0):
                await self.runner.carry(due.order_id)
            await CLOCK.sleep(0.05)

    async def license(self) -> License:
        return (await self.store.load([], [KEY], [])).licenses[KEY].license


@pytest_asyncio.fixture
async def saga(database_url: str, tmp_path: Path) -> AsyncIterator[Saga]:
    async with provider_rig(database_url, tmp_path) as rig:
        store = PostgresLicenseStore(database_url)
        notes = Notes()
        handler = LicenseHandler(
            store=store,
            signer=PlainSigner(),
            rules=FixedRules(),
            observer=notes,
            listener=notes,
            business_clock=CLOCK,
            system_clock=CLOCK,
            issuer="keyway",
        )
        made = Saga(rig=rig, handler=handler, store=store)
        made.runner = a_runner(rig.book, rig.client, made)  # type: ignore[arg-type]  # it announces, as the rig's own
        yield made
        await store.close()


def periods_from(ordered_on: date, paid_until: date) -> int:
    """Return how many periods a service needs that is ordered then: a license's last ten days are grace.

    Each period begins where the one before ended: what ended on 28 February goes on to 28 March.
    """
    reached, periods = months_later(ordered_on, 1), 1
    while reached < paid_until - timedelta(days=10):
        reached, periods = months_later(reached, 1), periods + 1
    return periods


async def test_after_an_upgrade_the_new_service_lasts_as_long_as_the_license_is_paid_for(saga: Saga) -> None:
    await saga.ask(a_purchase(product="ISPMGR6-LITE", activation_data="203.0.113.10", expires_on=PAID_UNTIL))
    await saga.until_settled()
    old = (await saga.license()).service
    upgrade = an_upgrade(product="ISPMGR6-PRO", expires_on=None)

    before = CLOCK.now().date()
    await saga.ask(upgrade)
    await saga.until_settled()
    after = CLOCK.now().date()

    upgraded = await saga.license()
    new = upgraded.service
    assert old is not None
    assert new is not None
    assert (upgraded.product, upgraded.expires_on) == ("ISPMGR6-PRO", PAID_UNTIL)
    assert new.expires_on is not None
    assert new.expires_on >= PAID_UNTIL - timedelta(days=10)
    charged = await saga.rig.charges_per_service()
    assert charged.keys() == {old.elid, new.elid}
    assert charged[old.elid] == 1
    assert charged[new.elid] in {periods_from(day, PAID_UNTIL) for day in (before, after)}
    deleted = {each["id"] for each in await saga.rig.sandbox.licenses() if each["status"] == 4}
    assert deleted == {old.elid}

    repeat = await saga.ask(upgrade)
    assert repeat.reply is not None
    assert repeat.reply.status is ReplyStatus.LICENSE_BODY
    assert await saga.rig.charges_per_service() == charged
