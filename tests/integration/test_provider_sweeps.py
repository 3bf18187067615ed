"""Sweeps on a real PostgreSQL and a real sandbox: what differs is found, nothing invented, told once, crash or not."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.database.provider_comparison import PostgresOurSide
from shared.database.provider_orders import PostgresProviderOrders
from shared.domain.drift import DriftKind
from shared.domain.provider_operation import Elid
from shared.domain.provider_service import ServiceList
from shared.domain.provider_sweep import SweepAsker, SweepState, Turn
from shared.errors import StoreRefusedError
from tests.integration.provider_rig import ACCOUNT, LONG_BREAKER, a_client, provider_rig
from tests.integration.sweep_rig import CATALOG, PLANTS, SweepRig, a_sweeper
from workers.provider.ports import ProviderClient
from workers.provider.sweeping import SweptAccount

pytestmark = [pytest.mark.asyncio, pytest.mark.services, pytest.mark.timeout(180)]


WHOLE = Turn(read=frozenset(), left=frozenset(), through=0)


@pytest_asyncio.fixture
async def rig(database_url: str, tmp_path: Path) -> AsyncIterator[SweepRig]:
    async with provider_rig(database_url, tmp_path) as made:
        yield await SweepRig.on(made)


async def end_leases(rig: SweepRig) -> None:
    """Let the workers of all sweeps be silent for longer than a lease."""
    await rig.rig.execute("UPDATE provider_sweep SET lease_until = clock_timestamp(), due_at = clock_timestamp()")


async def test_a_hundred_planted_differences_are_found_by_the_role_and_none_is_invented(rig: SweepRig) -> None:
    elids = await rig.hold(120)
    assert (await rig.swept()).differences == ()
    planted = list(islice(cycle(PLANTS), 100))
    for kind, elid in zip(planted, elids, strict=False):
        await PLANTS[kind](rig, elid)

    sweep = await rig.swept()

    assert sweep.state is SweepState.DONE
    assert Counter(each.kind for each in sweep.differences) == Counter(planted)
    findings = sorted(kind for kind in planted if kind is not DriftKind.UNDECIDED)
    assert await rig.open_findings() == findings
    assert len(await rig.told()) == len(findings)
    assert all(each.cost for each in sweep.differences if each.kind is DriftKind.SURPLUS)


async def test_a_finding_is_told_once_while_it_is_open_and_again_when_it_comes_back(rig: SweepRig) -> None:
    (elid,) = await rig.hold(1)
    await rig.change_upstream(elid, status=3)
    for _ in range(2):
        assert [each.kind for each in (await rig.swept()).differences] == [DriftKind.SUSPENDED]
    (told,) = await rig.told()
    assert (told["license"], told["kind"]) == (rig.licenses[elid], "service_differs")
    assert f"service {elid}" in str(told["text"])

    await rig.change_upstream(elid, status=2)
    assert (await rig.swept()).differences == ()
    assert await rig.open_findings() == []
    await rig.change_upstream(elid, status=3)
    await rig.swept()

    assert len(await rig.told()) == 2


async def test_a_finding_about_an_order_names_it(rig: SweepRig) -> None:
    (elid,) = await rig.hold(1)
    await rig.drop_service(elid)

    (surplus,) = (await rig.swept()).differences
    (told,) = await rig.told()

    assert (told["order"], told["kind"]) == (surplus.order, "surplus_service")


async def test_a_sweep_whose_worker_died_is_done_again_by_the_next_bell_and_tells_nothing_twice(rig: SweepRig) -> None:
    (elid,) = await rig.hold(1)
    await rig.change_upstream(elid, status=3)
    first = await rig.swept()
    sweep_id = await rig.sweeps.ask(ACCOUNT, SweepAsker.SCHEDULER)
    lost = await rig.sweeps.claim(sweep_id)
    assert lost is not None
    assert await rig.sweeps.ring(sweeps_max=10, again_seconds=5.0) == (), "its worker may still live"

    await end_leases(rig)
    (bell,) = await rig.sweeps.ring(sweeps_max=10, again_seconds=5.0)
    await rig.sweeper.carry(bell.sweep_id)

    sweep = await rig.sweep(sweep_id)
    assert (sweep.state, sweep.differences) == (SweepState.DONE, first.differences)
    assert len(await rig.told()) == 1
    assert not await rig.sweeps.keep(lost)
    assert await rig.sweeps.note(lost, ()) is None
    assert await rig.sweeps.finish(lost, (), WHOLE) is None
    assert not await rig.sweeps.fail(lost, "late"), "who comes back late changes nothing"
    assert await rig.open_findings() == ["suspended"]


async def test_one_waits_and_one_runs_per_account_and_who_waits_begins_after_the_question(rig: SweepRig) -> None:
    running = await rig.sweeps.ask(ACCOUNT, SweepAsker.SCHEDULER)
    claim = await rig.sweeps.claim(running)
    assert claim is not None
    waiting = await rig.sweeps.ask(ACCOUNT, SweepAsker.OPERATOR)
    assert waiting != running, "what runs already may have missed what the question is about"
    assert await rig.sweeps.ask(ACCOUNT, SweepAsker.OPERATOR) == waiting
    await rig.rig.execute("INSERT INTO provider_account (name) VALUES ('other')")
    other = await rig.sweeps.ask("other", SweepAsker.OPERATOR)

    assert await rig.sweeps.claim(waiting) is None
    assert await rig.sweeps.is_running(ACCOUNT)
    assert await rig.sweeps.claim(other) is not None
    await rig.sweeps.ring(sweeps_max=10, again_seconds=60.0)
    assert await rig.sweeps.finish(claim, (), WHOLE) == 0

    assert [due.sweep_id for due in await rig.sweeps.ring(sweeps_max=10, again_seconds=60.0)] == [waiting]
    assert await rig.sweeps.claim(waiting) is not None
    begun, asked = (await rig.sweep(waiting)).begun_at, (await rig.sweep(waiting)).asked_at
    assert begun is not None
    assert begun > asked


async def test_accounts_that_nobody_asked_for_lately_are_asked_for_and_bells_grow_rarer(rig: SweepRig) -> None:
    assert await rig.sweeps.ask_for_neglected(300.0) == 1
    assert await rig.sweeps.ask_for_neglected(0.0) == 0, "one waits already"
    assert len(await rig.sweeps.ring(sweeps_max=10, again_seconds=0.0)) == 1
    (due,) = await rig.sweeps.ring(sweeps_max=10, again_seconds=40.0)
    waits = await rig.rig.value("SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM provider_sweep")
    assert isinstance(waits, float)
    assert 70 < waits <= 80, "the second bell in vain: twice as long"

    await rig.sweeper.carry(due.sweep_id)

    assert await rig.sweeps.ask_for_neglected(300.0) == 0
    assert await rig.sweeps.ask_for_neglected(0.0) == 1


async def test_an_account_that_nobody_knows_cannot_be_asked_for(rig: SweepRig) -> None:
    with pytest.raises(StoreRefusedError):
        await rig.sweeps.ask("nobody", SweepAsker.OPERATOR)


async def test_a_worker_leaves_the_accounts_of_others_alone(rig: SweepRig) -> None:
    await rig.rig.execute("INSERT INTO provider_account (name) VALUES ('other')")
    sweep_id = await rig.sweeps.ask("other", SweepAsker.OPERATOR)

    await rig.sweeper.carry(sweep_id)

    assert (await rig.sweep(sweep_id)).state is SweepState.ASKED


async def test_each_account_is_compared_by_itself_with_its_own_login(rig: SweepRig) -> None:
    await rig.hold(2)
    await rig.rig.sandbox.control("POST", "accounts/second", {"password": "pw2", "balance": "100.00"})
    await rig.rig.sandbox.control("POST", "licenses", {"user": "second", "pricelist": 549, "licname": "by hand"})
    await rig.rig.execute("INSERT INTO provider_account (name) VALUES ('second')")
    client = a_client(rig.rig.sandbox, user="second", password="pw2")
    both = replace(
        rig.sweeper, accounts={**rig.sweeper.accounts, "second": SweptAccount(client=client, orders=rig.rig.book)}
    )
    asked = {account: await rig.sweeps.ask(account, SweepAsker.OPERATOR) for account in (ACCOUNT, "second")}
    for sweep_id in asked.values():
        await both.carry(sweep_id)

    first, second = [await rig.sweep(sweep_id) for sweep_id in asked.values()]
    assert (first.state, first.differences) == (SweepState.DONE, ())
    assert [(each.kind, each.account) for each in second.differences] == [(DriftKind.FOREIGN, "second")]
    (told,) = await rig.told()
    assert "provider account second" in str(told["text"])
    await rig.swept()
    assert await rig.open_findings() == ["foreign"], "a sweep closes nothing of another account"


async def test_an_account_given_up_is_not_asked_for_any_more(rig: SweepRig) -> None:
    await rig.rig.execute("INSERT INTO provider_account (name, in_use) VALUES ('old', false)")

    assert await rig.sweeps.accounts() == (ACCOUNT,)
    assert await rig.sweeps.ask_for_neglected(300.0) == 1
    await rig.sweeps.ask("old", SweepAsker.OPERATOR)
    due = await rig.sweeps.ring(sweeps_max=10, again_seconds=5.0)
    assert [sweep.provider_account for sweep in due] == [ACCOUNT]


async def test_forms_are_read_again_only_of_what_is_in_doubt(rig: SweepRig) -> None:
    elids = await rig.hold(10)
    await rig.change_upstream(elids[3], nodes=9)

    sweep = await rig.swept()

    assert [(each.kind, each.elid) for each in sweep.differences] == [(DriftKind.NODES, elids[3])]
    called = Counter(entry["func"] for entry in await rig.rig.sandbox.journal())
    assert called["soft.edit"] == 10 + 1, called


async def test_the_scheduler_has_numbers_of_nodes_read_in_turns_and_people_all_at_once(rig: SweepRig) -> None:
    elids = await rig.hold(5)
    for elid in elids:
        await rig.change_upstream(elid, nodes=7)
    rig.sweeper = replace(rig.sweeper, forms_per_turn=2)
    found = []
    for _ in range(3):
        sweep_id = await rig.sweeps.ask(ACCOUNT, SweepAsker.SCHEDULER)
        await rig.sweeper.carry(sweep_id)
        found.append([each.elid for each in (await rig.sweep(sweep_id)).differences])
    assert found == [elids[:2], elids[2:4], sorted([elids[4], elids[0]])], "each in its turn, round and round"
    assert await rig.open_findings() == ["nodes"] * 5, "what was found stays found until its next turn"
    assert len(await rig.told()) == 5

    await rig.change_upstream(elids[1], nodes=3)
    assert [each.elid for each in (await rig.swept()).differences] == [elids[0], *elids[2:]]
    assert await rig.open_findings() == ["nodes"] * 4


async def test_people_who_share_a_sweep_of_the_scheduler_have_all_of_it_read(rig: SweepRig) -> None:
    waiting = await rig.sweeps.ask(ACCOUNT, SweepAsker.SCHEDULER)
    assert await rig.sweeps.ask(ACCOUNT, SweepAsker.OPERATOR) == waiting
    assert await rig.sweeps.ask(ACCOUNT, SweepAsker.SCHEDULER) == waiting
    claim = await rig.sweeps.claim(waiting)
    assert claim is not None
    assert claim.is_whole


async def test_a_panel_that_does_not_show_everything_fails_the_sweep_and_closes_nothing(rig: SweepRig) -> None:
    (elid,) = await rig.hold(1)
    await rig.change_upstream(elid, status=3)
    await rig.swept()
    match = {"match": {"func": "softexternal"}, "mode": "http_status", "phase": "before", "args": {"status": 500}}
    await rig.rig.sandbox.control("POST", "faults", {**match, "times": None})

    sweep = await rig.swept()

    assert sweep.state is SweepState.FAILED
    assert "lists are not complete" in sweep.failure
    assert sweep.differences == ()
    assert await rig.open_findings() == ["suspended"]


async def test_refused_credentials_pause_the_account_and_a_paused_account_is_not_called(rig: SweepRig) -> None:
    rig.rig.book = PostgresProviderOrders(rig.rig.pool, LONG_BREAKER)
    wrong = a_sweeper(rig.rig, rig.sweeps, client=a_client(rig.rig.sandbox, password="wrong"))
    for _ in range(2):
        sweep_id = await rig.sweeps.ask(ACCOUNT, SweepAsker.OPERATOR)
        await wrong.carry(sweep_id)
    failed = await rig.sweep(sweep_id)

    assert failed.state is SweepState.FAILED
    assert "the account pauses until" in failed.failure
    assert "auth_failed" in failed.failure
    assert len(await rig.rig.sandbox.journal()) == 1
    assert [told["kind"] for told in await rig.told()] == ["access_refused"]


async def test_without_a_catalog_the_sweep_says_so(database_url: str, tmp_path: Path) -> None:
    async with provider_rig(database_url, tmp_path) as made:
        rig = await SweepRig.on(made, catalog=False)
        assert "keyway catalog apply" in (await rig.swept()).failure


async def test_what_its_license_has_not_taken_in_yet_is_no_difference(rig: SweepRig) -> None:
    """Confirmed upstream, and the license worker is behind: neither a surplus nor a missing service."""
    new, ended, renewed = await rig.hold(3)
    await rig.drop_service(new)
    await rig.rig.execute("UPDATE provider_order SET settled_at = NULL WHERE elid = $1", new)
    await rig.later_order(ended, "end", "confirmed", settled=False)
    await rig.remove_upstream(ended)
    await rig.later_order(renewed, "prolong", "confirmed", settled=False)
    await rig.change_upstream(renewed, expires="2031-01-31", charged=True)

    assert (await rig.swept()).differences == ()


class MeddlingClient:
    """The real client; `meddle` is called before each read of the lists, with its number from 1."""

    def __init__(self, client: ProviderClient, meddle: Callable[[int], Awaitable[object]]) -> None:
        self._client = client
        self._meddle = meddle
        self._reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def read_services(self, canaries: Collection[Elid]) -> ServiceList:
        self._reads += 1
        await self._meddle(self._reads)
        return await self._client.read_services(canaries)


def meddled(rig: SweepRig, meddle: Callable[[int], Awaitable[object]]) -> SweepRig:
    """Return the rig with a client that meddles."""
    client: Any = MeddlingClient(rig.rig.client, meddle)
    return replace(rig, sweeper=a_sweeper(rig.rig, rig.sweeps, client=client))


async def test_what_differs_only_for_a_moment_is_not_told(rig: SweepRig) -> None:
    passing, staying = await rig.hold(2)
    await rig.change_upstream(passing, status=3)
    await rig.change_upstream(staying, status=3)

    async def heal(read: int) -> None:
        if read == 2:
            await rig.change_upstream(passing, status=2)

    sweep = await meddled(rig, heal).swept()

    assert [(each.kind, each.elid) for each in sweep.differences] == [(DriftKind.SUSPENDED, staying)]
    assert len(await rig.told()) == 1


async def test_a_worker_that_was_taken_for_dead_stops_reading(rig: SweepRig) -> None:
    async def hang(_read: int) -> None:
        await rig.rig.execute("UPDATE provider_sweep SET attempt = attempt + 1")  # another worker has begun it
        await asyncio.Event().wait()

    sweep = await meddled(rig, hang).swept()

    assert sweep.state is SweepState.RUNNING, "it is the other worker's now"


async def test_a_defect_ends_the_sweep_instead_of_repeating_for_ever(rig: SweepRig) -> None:
    async def trip(_read: int) -> None:
        raise KeyError("a defect")

    with pytest.raises(KeyError):
        await meddled(rig, trip).swept()

    failure = await rig.rig.value("SELECT failure FROM provider_sweep WHERE state = 'failed'")
    assert failure == "a defect of ours: KeyError"


async def test_our_side_is_the_same_however_it_is_read_and_counts_what_orders_added_up_to(rig: SweepRig) -> None:
    elids = await rig.hold(5)
    await rig.later_order(elids[0], "prolong", "confirmed")
    await rig.later_order(elids[0], "nodes", "confirmed")
    await rig.later_order(elids[0], "prolong", "refused")
    await rig.later_order(elids[1], "end", "confirmed")
    await rig.later_order(elids[2], "end", "unknown")
    await rig.rig.execute("INSERT INTO provider_account (name) VALUES ('other')")
    await rig.rig.execute(
        "UPDATE provider_order SET provider_account = 'other' WHERE kind = 'order' AND elid = $1", elids[4]
    )

    whole = await PostgresOurSide(rig.rig.pool).read(ACCOUNT)
    paged = await PostgresOurSide(rig.rig.pool, page_rows=2).read(ACCOUNT)
    others = await PostgresOurSide(rig.rig.pool).read("other")

    assert whole is not None
    assert whole == paged
    assert {made.elid: (made.orders_paid, made.released) for made in whole.made} == {
        elids[0]: (3, False),
        elids[1]: (1, True),
        elids[2]: (1, False),
        elids[3]: (1, False),
    }
    assert [(order.kind, order.elid) for order in whole.open_orders] == [("end", elids[2])]
    assert len(whole.holdings) == 4
    assert set(whole.catalog.products) == {product["sku"] for product in CATALOG["products"]}
    assert others is not None
    assert [holding.service.elid for holding in others.holdings] == [elids[4]]


async def test_old_sweeps_are_forgotten_and_their_findings_are_not(rig: SweepRig) -> None:
    (elid,) = await rig.hold(1)
    await rig.change_upstream(elid, status=3)
    old = await rig.swept()
    await rig.rig.execute("UPDATE provider_sweep SET finished_at = finished_at - interval '31 days'")
    new = await rig.swept()

    assert await rig.sweeps.forget(days=30) == 1
    assert await rig.sweeps.load(old.sweep_id) is None
    assert (await rig.sweep(new.sweep_id)).differences == new.differences
    assert await rig.open_findings() == ["suspended"]
