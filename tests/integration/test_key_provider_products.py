"""Modifications that need a provider, on a real PostgreSQL and a real sandbox: only Kafka is played.

The license worker stores the order, the runner carries it to the panel, its outcome comes back as a command.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keyway.sandbox.status import Status
from shared.contracts.commands import LicenseCommand, PurchaseLicense
from shared.contracts.envelope import derived_id
from shared.contracts.identifiers import CommandId
from shared.contracts.key_commands import Idempotency, ModifyKey, WantedItem
from shared.contracts.replies import Reply, ReplyAddress, ReplyStatus
from shared.domain.provider_record import ProviderOrder
from tests.builders import a_purchase, a_terminate, an_envelope, an_upgrade
from tests.integration.provider_rig import CLOCK, ProviderRig, TakingAnnouncer, a_runner, provider_rig
from tests.integration.test_key_commands import (
    PLESK,
    Worker,
    a_key,
    assert_whole,
    code,
    put,
    rows,
    state,
    workers,
    world,
)
from tests.unit.test_license_handler import received
from workers.license.sheet import Handled
from workers.provider.announcing import OUTCOME_STEP, outcome_of
from workers.provider.runner import OrderRunner

__all__ = ["world"]

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

NUMBER = "00481516"
LICENSE = f"ka:{NUMBER}"
ORDERING = "softexternal.order.param"
PRO = (WantedItem(item="ISPMGR6-PRO"),)


async def events_of(database_url: str, license_id: str) -> list[str]:
    """The public events of a license; bells for the provider role stand beside them in the outbox."""
    told = await rows(
        database_url,
        "SELECT type, sequence FROM outbox WHERE license_id = $1 AND sequence IS NOT NULL ORDER BY sequence",
        license_id,
    )
    assert [row["sequence"] for row in told] == list(range(1, len(told) + 1))
    return [row["type"].removeprefix("keyway.license.") for row in told]


@dataclass(slots=True)
class TellingAnnouncer(TakingAnnouncer):
    """Hands outcomes to a license worker, as the topic would; the same command however often."""

    worker: Worker | None = None
    replies: list[tuple[ReplyAddress, Reply]] = field(default_factory=list)
    held_back: bool = False

    async def announce(self, order: ProviderOrder) -> None:
        self.told.append(order)
        if not self.held_back:
            await self.deliver(order)

    async def deliver(self, order: ProviderOrder) -> None:
        """Let the license worker take in an outcome."""
        assert self.worker is not None
        envelope = an_envelope(
            outcome_of(order), command_id=CommandId(derived_id(order.order_id, OUTCOME_STEP)), deadline_at=None
        )
        (handled,) = await self.worker.handler.handle([received(envelope)])
        assert handled.dead_letter is None
        self.replies += handled.others


@dataclass(slots=True, kw_only=True)
class Rig:
    """A linked license of a provider product, and everybody who has to do with it."""

    provider: ProviderRig
    announcer: TellingAnnouncer
    runner: OrderRunner
    worker: Worker
    other: Worker
    asked: int = 0

    def address(self) -> ReplyAddress:
        self.asked += 1
        return ReplyAddress(self.asked.to_bytes(16, "big"), partition=5)

    async def ask_from(self, command: LicenseCommand, address: ReplyAddress) -> Handled:
        (handled,) = await self.worker.handler.handle([replace(received(an_envelope(command)), address=address)])
        return handled

    async def begin(self, command: LicenseCommand) -> ReplyAddress:
        """Ask for something that is not answered at once; return who waits for it."""
        address = self.address()
        handled = await self.ask_from(command, address)
        assert (handled.reply, handled.dead_letter) == (None, None)
        return address

    async def carry(self) -> None:
        """Carry every order that is not settled to the panel, and its outcome back."""
        while orders := await self.unsettled():
            for order_id in orders:
                await self.runner.carry(order_id)

    async def unsettled(self) -> list[Any]:
        """The orders that nobody has taken in."""
        found = await rows(
            self.provider.database_url, "SELECT order_id FROM provider_order WHERE settled_at IS NULL ORDER BY 1"
        )
        return [row["order_id"] for row in found]

    async def told(self, command: LicenseCommand) -> Reply:
        """Ask, let the provider do its part, and return the one reply."""
        address = await self.begin(command)
        await self.carry()
        return self.reply_to(address)

    def reply_to(self, address: ReplyAddress) -> Reply:
        (reply,) = [reply for asker, reply in self.announcer.replies if asker == address]
        return reply

    async def services(self) -> dict[int, str]:
        """The panel's services that run: id and price list. What waits for payment, which we never pay, is none."""
        found = await self.provider.sandbox.licenses()
        return {each["id"]: each["pricelist"] for each in found if each["status"] == Status.ACTIVE}

    async def everything(self) -> tuple[Any, ...]:
        """All of the key that anybody can see: structure, events, revisions, service, what is upstream."""
        url = self.provider.database_url
        structure = state(await self.worker.ask(put(NUMBER, account="ka")))
        (row,) = await rows(
            url, "SELECT status, product, revision, sequence, service, key FROM license WHERE license_id = $1", LICENSE
        )
        return structure, tuple(row), await events_of(url, LICENSE), await self.services()


def bought_today(**facts: Any) -> PurchaseLicense:
    """A PURCHASE for less than a month, so that one period of a service covers it."""
    today = CLOCK.now().date()
    return a_purchase(
        **{"expires_on": today + timedelta(days=25), "start_on": today, "subscription_on": today, **facts}
    )


@asynccontextmanager
async def rig(database_url: str, folder: Path) -> AsyncIterator[Rig]:
    """Serve the panel, open two license workers, and sell the license over the ISV endpoint."""
    async with provider_rig(database_url, folder) as provider, workers(database_url, 2) as (worker, other):
        announcer = TellingAnnouncer(provider.pool, worker=worker)
        made = Rig(
            provider=provider,
            announcer=announcer,
            runner=a_runner(provider.book, provider.client, announcer),
            worker=worker,
            other=other,
        )
        worker.clock.moment = other.clock.moment = CLOCK.now()  # the panel's services begin today
        bought = await made.told(bought_today(product="ISPMGR6-LITE", activation_data="203.0.113.10"))
        assert bought.status is ReplyStatus.LICENSE_BODY
        yield made


def change(**given: Any) -> ModifyKey:
    """A PUT of several operations, an upgrade among them."""
    plain = {"items": PRO, "address": "198.51.100.7", "configuration_id": 102, "nickname": "eu-7"}
    command: ModifyKey = put(NUMBER, account="ka", **{**plain, **given})
    return command


async def test_a_modification_of_many_operations_is_carried_out_once_the_provider_has_confirmed(
    world: str, tmp_path: Path
) -> None:
    async with rig(world, tmp_path) as made:
        (before,) = await made.services()
        asker = await made.begin(change())
        waiting = state_in_database(
            await rows(world, "SELECT product, key FROM license WHERE license_id = $1", LICENSE)
        )
        await made.carry()
        told = state(made.reply_to(asker))
        again = await made.worker.ask(change())
        services = await made.services()
        charges = await made.provider.charges_per_service()

    assert waiting == ("ISPMGR6-LITE", None)
    assert told["items"] == [{"externalId": None, "item": "ISPMGR6-PRO"}]
    assert (told["ipAddressBinding"], told["productConfigurationId"], told["nickname"]) == ("198.51.100.7", 102, "eu-7")
    assert told["keyIdentifiers"]["keyNumber"].endswith(".0001")
    assert state(again) == told
    assert await events_of(world, LICENSE) == ["issued", "upgraded", "modified"]
    assert before not in services, "the old service is released"
    assert len(services) == 1
    assert set(charges.values()) == {1}
    await assert_whole(world, LICENSE)


def state_in_database(found: Sequence[Any]) -> tuple[str, Any]:
    (row,) = found
    return row["product"], row["key"]


@pytest.mark.parametrize(
    ("mode", "args", "expected"),
    [
        ("error_doc", {"type": "value", "object": "ip"}, "provider_value_refused"),
        ("balance_exhausted", {"money": "error_money"}, "provider_refused"),
        ("balance_exhausted", {"money": "payment_required"}, "provider_unavailable"),
    ],
)
async def test_a_refusal_of_the_panel_leaves_key_children_events_and_upstream_as_before(
    world: str, tmp_path: Path, mode: str, args: dict[str, Any], expected: str
) -> None:
    async with rig(world, tmp_path) as made:
        before = await made.everything()
        charged = await made.provider.charges_per_service()
        await made.provider.sandbox.fault(mode, func=ORDERING, phase="before", **args)
        refused = await made.told(change())
        after = await made.everything()
        assert code(refused) == expected
        assert after == before
        assert await made.provider.charges_per_service() == charged
        again = state(await made.told(change()))

    assert again["nickname"] == "eu-7", "a repeat is a fresh attempt"
    assert await events_of(world, LICENSE) == ["issued", "upgraded", "modified"]


async def test_askers_of_the_very_same_join_up_to_eight_and_the_others_wait_in_line(world: str, tmp_path: Path) -> None:
    async with rig(world, tmp_path) as made:
        askers = [await made.begin(change()) for _ in range(10)]
        quiet = await made.begin(replace(change(), return_state=False))
        renamed = await made.begin(change(nickname="later"))
        await made.carry()
        answered = {address for address, _ in made.announcer.replies}
        bodies = {made.reply_to(asker).body for asker in askers[2:]}

    assert answered >= {*askers[2:], quiet, renamed}
    assert answered.isdisjoint(askers[:2])
    assert len(bodies) == 1
    assert (made.reply_to(quiet).status, made.reply_to(quiet).body) == (ReplyStatus.KEY_STATE, b"")
    assert state(made.reply_to(renamed))["nickname"] == "later"
    assert await events_of(world, LICENSE) == ["issued", "upgraded", "modified", "modified"]
    assert len(await rows(world, "SELECT 1 FROM provider_order WHERE kind = 'order'")) == 2


async def test_an_address_that_somebody_took_meanwhile_undoes_everything(world: str, tmp_path: Path) -> None:
    async with rig(world, tmp_path) as made:
        await made.told(bought_today(number="00481517", product="ISPMGR6-LITE", activation_data="203.0.113.11"))
        before = await made.everything()
        made.announcer.held_back = True
        asker = await made.begin(change())
        await made.runner.carry((await made.unsettled())[0])
        (confirmed,) = [order for order in made.announcer.told if order.license_id == LICENSE][-1:]
        taken = state(await made.worker.ask(put("00481517", account="ka", address="198.51.100.7")))
        made.announcer.held_back = False
        await made.announcer.deliver(confirmed)
        await made.carry()
        after = await made.everything()

    assert taken["ipAddressBinding"] == "198.51.100.7"
    refused = made.reply_to(asker)
    assert (code(refused), json.loads(refused.body)) == ("key_address_taken", {"address": "198.51.100.7"})
    assert after == before, "the fresh service is released again"
    (told,) = await rows(world, "SELECT value FROM outbox WHERE type = 'keyway.provider.attention'")
    data = json.loads(told["value"])["data"]
    assert (data["kind"], data["order"]) == ("surplus_service", str(confirmed.order_id))
    assert str(confirmed.elid) in data["text"]


async def test_a_worker_that_dies_between_order_and_confirmation_costs_nothing(world: str, tmp_path: Path) -> None:
    async with rig(world, tmp_path) as made:
        command = received(an_envelope(change()))
        asker = made.address()
        await made.worker.handler.handle([replace(command, address=asker)])
        await made.worker.store.close()
        made.announcer.worker = made.other
        redelivered = await made.other.handler.handle([replace(command, address=asker)])
        await made.carry()
        outcome = made.announcer.told[-2]  # the last one is the release of the old service
        twice = len(made.announcer.replies)
        await made.announcer.deliver(outcome)

    assert [each.reply for each in redelivered] == [None]
    assert state(made.reply_to(asker))["nickname"] == "eu-7"
    assert len(made.announcer.replies) == twice
    assert await events_of(world, LICENSE) == ["issued", "upgraded", "modified"]
    assert await rows(world, "SELECT 1 FROM open_operation") == []
    await assert_whole(world, LICENSE)


async def test_two_workers_that_take_in_the_same_outcome_carry_the_plan_out_once(world: str, tmp_path: Path) -> None:
    async with rig(world, tmp_path) as made:
        made.announcer.held_back = True
        asker = await made.begin(change())
        await made.runner.carry((await made.unsettled())[0])
        outcome = made.announcer.told[-1]
        rival = replace(made.announcer, worker=made.other, replies=[])
        await asyncio.gather(made.announcer.deliver(outcome), rival.deliver(outcome))

    told = [reply for address, reply in (*made.announcer.replies, *rival.replies) if address == asker]
    assert [state(reply)["nickname"] for reply in told] == ["eu-7"]
    assert await events_of(world, LICENSE) == ["issued", "upgraded", "modified"]


async def test_a_named_request_is_answered_again_with_what_its_operation_ended_in(world: str, tmp_path: Path) -> None:
    named = Idempotency(key="order-7", body_sha256="ab" * 32)
    async with rig(world, tmp_path) as made:
        await made.provider.sandbox.fault("balance_exhausted", func=ORDERING, phase="before", money="payment_required")
        unavailable = await made.told(replace(change(), idempotency=named))
        first = await made.begin(replace(change(), idempotency=named))
        joined = await made.begin(replace(change(), idempotency=named))
        other = await made.begin(replace(change(nickname="other"), idempotency=replace(named, body_sha256="cd" * 32)))
        await made.carry()
        renamed = state(await made.worker.ask(put(NUMBER, account="ka", nickname="since")))
        again = await made.worker.ask(replace(change(), idempotency=named))

    assert code(unavailable) == "provider_unavailable"
    assert made.reply_to(first).body == made.reply_to(joined).body == again.body
    assert (state(again)["nickname"], renamed["nickname"]) == ("eu-7", "since")
    assert code(made.reply_to(other)) == "key_repeat_differs"


async def test_a_name_that_was_used_for_something_else_meanwhile_holds_nothing_up(world: str, tmp_path: Path) -> None:
    named = Idempotency(key="order-7", body_sha256="ab" * 32)
    async with rig(world, tmp_path) as made:
        asker = await made.begin(replace(change(), idempotency=named))
        taken = await made.worker.ask(
            replace(a_key("00000001", PLESK), idempotency=replace(named, body_sha256="cd" * 32))
        )
        await made.carry()

    assert taken.status is ReplyStatus.KEY_STATE
    assert state(made.reply_to(asker))["nickname"] == "eu-7"


async def test_a_termination_that_waits_cancels_the_order_that_was_not_sent(world: str, tmp_path: Path) -> None:
    async with rig(world, tmp_path) as made:
        services = await made.services()
        asker = await made.begin(change())
        ender = await made.begin(a_terminate(product="ISPMGR6-LITE"))
        await made.carry()
        assert await made.services() == services

    assert code(made.reply_to(asker)) == "provider_unavailable"
    assert made.reply_to(ender).status is ReplyStatus.TERMINATED
    assert await events_of(world, LICENSE) == ["issued", "terminated"]


async def test_an_upgrade_over_either_protocol_gives_one_state_and_the_same_events(world: str, tmp_path: Path) -> None:
    async with rig(world, tmp_path) as made:
        await made.told(bought_today(number="00481517", product="ISPMGR6-LITE", activation_data="203.0.113.11"))
        here = await made.told(put(NUMBER, account="ka", items=PRO))
        there = await made.told(an_upgrade(number="00481517", product="ISPMGR6-PRO", expires_on=None))
    query = """
        SELECT product, status, revision, key_version, expires_on, purchase_on, start_on, subscription_on,
            service ->> 'sku' AS sku
        FROM license ORDER BY number
    """
    first, second = (tuple(row) for row in await rows(world, query))
    assert first == second
    assert (here.status, there.status) == (ReplyStatus.KEY_STATE, ReplyStatus.LICENSE_BODY)
    assert await events_of(world, LICENSE) == ["issued", "upgraded", "modified"]
    assert await events_of(world, "ka:00481517") == ["issued", "upgraded"]


async def test_an_address_bound_within_another_product_holds_no_upgrade_up(world: str, tmp_path: Path) -> None:
    async with rig(world, tmp_path) as made:
        await made.told(bought_today(number="00481517", product="ISPMGR6-PRO", activation_data="203.0.113.11"))
        for number in (NUMBER, "00481517"):
            assert state(await made.worker.ask(put(number, account="ka", address="198.51.100.7")))
        upgraded = await made.told(an_upgrade(product="ISPMGR6-PRO", expires_on=None))

    assert upgraded.status is ReplyStatus.LICENSE_BODY
