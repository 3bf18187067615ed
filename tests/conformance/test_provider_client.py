"""What every `ProviderClient` holds: the adapter against the sandbox, and the scripted provider, by one suite."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol
from uuid import UUID

import pytest
import pytest_asyncio
from pydantic import SecretStr

from shared.clock import MachineClock
from shared.domain.catalog import ProviderOffer
from shared.domain.provider_operation import (
    ChangeService,
    Elid,
    EndService,
    OrderModule,
    OrderPlesk,
    OrderSoftware,
    ProviderOperation,
    RenewService,
    ServiceKind,
    SetNodes,
    marker_of,
)
from shared.domain.provider_order import Pause
from shared.domain.provider_outcome import (
    Accepted,
    Confirmed,
    NotSent,
    PaymentRequired,
    Refusal,
    Refused,
    SendOutcome,
    SeveralIds,
    Unknown,
)
from shared.domain.provider_service import ServiceList, Sought, look_for, snapshot_of
from tests.fakes.scripted_provider import Misfortune, ScriptedProvider
from tests.integration.sandbox_rig import PASSWORD, USER, SandboxRig, running_sandbox
from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.client import IspLicenseClient
from workers.provider.isplicense.pacing import CallPacer
from workers.provider.ports import FORM_KINDS, Fence, ProviderClient, ProviderReadError

pytestmark = pytest.mark.asyncio

HOST = ip_address("203.0.113.10")
MARKER, PLESK_MARKER, MODULE_MARKER = (marker_of(b"key", UUID(int=number), 1) for number in (1, 2, 3))
SOFTWARE = OrderSoftware(pricelist=549, address=HOST, label="web-01", period_months=1)
PLESK = OrderPlesk(pricelist=264, address=HOST, period_months=1)
OFFER_SOFTWARE = ProviderOffer(order_function="softexternal.order.param", pricelist=549, node_code=550)
OFFER_PLESK = ProviderOffer(order_function="parallelslic.order.param", pricelist=264)
OFFER_MODULE = ProviderOffer(order_function="addition.order.param", pricelist=356)
SOFTWARE_KINDS, PLESK_KINDS, MODULE_KINDS = FORM_KINDS.values()
SANDBOX_FAULTS: dict[Misfortune, dict[str, object]] = {
    Misfortune.LOST_BEFORE: {"mode": "drop", "phase": "before"},
    Misfortune.LOST_AFTER: {"mode": "drop", "phase": "after"},
    Misfortune.OUTAGE: {"mode": "http_status", "phase": "before", "args": {"status": 502}},
    Misfortune.HELD_OFF: {"mode": "http_status", "phase": "before", "args": {"status": 429}},
    Misfortune.BAD_VALUE: {"mode": "error_doc", "phase": "before", "args": {"type": "value", "object": "ip"}},
    Misfortune.AMBIGUOUS_ERROR: {"mode": "error_doc", "phase": "after", "args": {"type": "xml"}},
    Misfortune.NO_MONEY: {"mode": "balance_exhausted"},
    Misfortune.NO_ID: {"mode": "no_id"},
    Misfortune.SEVERAL_IDS: {"mode": "many_ids"},
}


class Books(Protocol):
    """A provider with a way to harm it and to count what it did."""

    @property
    def client(self) -> ProviderClient: ...

    async def befall(self, misfortune: Misfortune) -> None: ...
    async def change_password(self) -> None: ...
    async def charge_count(self) -> int: ...
    async def submit_count(self) -> int: ...


@dataclass(slots=True)
class ScriptedBooks:
    client: ScriptedProvider = field(default_factory=ScriptedProvider)

    async def befall(self, misfortune: Misfortune) -> None:
        self.client.misfortunes.append(misfortune)

    async def change_password(self) -> None:
        self.client.locked_out = True

    async def charge_count(self) -> int:
        return len(self.client.charges)

    async def submit_count(self) -> int:
        return self.client.submits


class SilentObserver:
    def call_done(self, function: str, result: str, seconds: float) -> None: ...

    def hostile_answer(self, function: str, reason: str) -> None: ...


class SandboxBooks:
    def __init__(self, rig: SandboxRig) -> None:
        self._rig = rig
        self._name_fails = False
        clock = MachineClock()
        account = PanelAccount(
            base_url=rig.addresses.url.replace("127.0.0.1", "localhost"),
            user=USER,
            password=SecretStr(PASSWORD),
            loopback_allowed=True,
            read_timeout_seconds=5,
            money_timeout_seconds=5,
        )
        self.client = IspLicenseClient(
            account,
            clock=clock,
            observer=SilentObserver(),
            pacer=CallPacer(clock, per_second=1000, burst=1000),
            lookup=self._look_up,
        )

    async def _look_up(self, _host: str, _port: int) -> Sequence[str]:
        if self._name_fails:
            raise OSError("no such name")
        return ("127.0.0.1",)

    async def befall(self, misfortune: Misfortune) -> None:
        if misfortune is Misfortune.NO_CONNECTION:
            self._name_fails = True
            return
        await self._rig.control("POST", "faults", SANDBOX_FAULTS[misfortune])

    async def change_password(self) -> None:
        await self._rig.control("POST", f"accounts/{USER}", {"password": "another"})

    async def charge_count(self) -> int:
        return len(await self._rig.charges())

    async def submit_count(self) -> int:
        journal = await self._rig.journal()
        return sum(entry["is_submit"] and not entry["func"].endswith(".filter") for entry in journal)


@pytest_asyncio.fixture(params=["scripted", "sandbox"])
async def books(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Books]:
    if request.param == "scripted":
        yield ScriptedBooks()
        return
    async with running_sandbox(tmp_path) as rig:
        yield SandboxBooks(rig)


async def opened() -> bool:
    return True


async def send(
    books: Books,
    operation: ProviderOperation = SOFTWARE,
    offer: ProviderOffer | None = OFFER_SOFTWARE,
    *,
    fence: Fence = opened,
) -> SendOutcome:
    marker = {SOFTWARE: MARKER, PLESK: PLESK_MARKER}.get(operation, MODULE_MARKER)
    if isinstance(operation, ChangeService | SetNodes):
        marker = MARKER
    return await books.client.carry_out(operation, offer=offer, marker=marker, fence=fence)


async def ordered(books: Books, operation: ProviderOperation = SOFTWARE, offer: ProviderOffer = OFFER_SOFTWARE) -> Elid:
    outcome = await send(books, operation, offer)
    assert isinstance(outcome, Confirmed)
    return outcome.elid


async def test_orders_of_all_three_functions_are_confirmed_charged_and_found_by_their_marker(books: Books) -> None:
    software = await ordered(books)
    plesk = await ordered(books, PLESK, OFFER_PLESK)
    module_order = OrderModule(pricelist=356, parent=software, period_months=1)
    module = await ordered(books, module_order, OFFER_MODULE)

    services = await books.client.read_services([software])

    assert services.conclusive
    assert {row.elid: row.markers for row in services.rows} == {
        software: {MARKER},
        plesk: {PLESK_MARKER},
        module: {MODULE_MARKER},
    }
    assert await books.charge_count() == 3
    assert await books.submit_count() == 3


@pytest.mark.parametrize(
    ("misfortune", "expected", "row", "charged"),
    [
        (Misfortune.NO_CONNECTION, NotSent, 1, 0),
        (Misfortune.LOST_BEFORE, Unknown, 2, 0),
        (Misfortune.LOST_AFTER, Unknown, 2, 1),
        (Misfortune.HELD_OFF, Refused, 3, 0),
        (Misfortune.OUTAGE, Unknown, 4, 0),
        (Misfortune.BAD_VALUE, Refused, 7, 0),
        (Misfortune.AMBIGUOUS_ERROR, Unknown, 8, 1),
        (Misfortune.NO_MONEY, PaymentRequired, 9, 0),
        (Misfortune.SEVERAL_IDS, SeveralIds, 12, 1),
        (Misfortune.NO_ID, Accepted, 13, 1),
    ],
)
async def test_misfortune_of_an_order_has_its_outcome_and_one_charge_at_most(
    books: Books, misfortune: Misfortune, expected: type[SendOutcome], row: int, charged: int
) -> None:
    await books.befall(misfortune)

    outcome = await send(books)

    assert (type(outcome), outcome.evidence.row) == (expected, row)
    assert await books.charge_count() == charged
    assert await books.submit_count() == (0 if expected is NotSent else 1)


async def test_lost_order_is_found_by_marker_and_by_difference(books: Books) -> None:
    before = snapshot_of(await books.client.read_services([]))
    for operation, offer in ((SOFTWARE, OFFER_SOFTWARE), (PLESK, OFFER_PLESK)):
        await books.befall(Misfortune.LOST_AFTER)
        assert isinstance(await send(books, operation, offer), Unknown)

    services = await books.client.read_services([])

    for operation, marker in ((SOFTWARE, MARKER), (PLESK, PLESK_MARKER)):
        sought = Sought(operation=operation, marker=marker, sent_on=date(2025, 1, 1), snapshot=before)
        finding = look_for(services, sought)
        assert len(finding.elids) == 1
        assert finding.conclusive


async def test_closed_fence_sends_nothing(books: Books) -> None:
    asked = 0

    async def closed() -> bool:
        nonlocal asked
        asked += 1
        return False

    async def broken() -> bool:
        nonlocal asked
        asked += 1
        raise TimeoutError

    outcomes = [await send(books, fence=closed), await send(books, fence=broken)]

    assert [(type(each), each.evidence.row) for each in outcomes] == [(NotSent, 1), (NotSent, 1)]
    assert asked == 2
    assert (await books.submit_count(), await books.charge_count()) == (0, 0)


async def test_fence_is_asked_once_per_send(books: Books) -> None:
    asked = 0

    async def counting() -> bool:
        nonlocal asked
        asked += 1
        return True

    await send(books, fence=counting)

    assert asked == 1


async def test_unfit_operation_is_refused_here(books: Books) -> None:
    outcome = await send(books, SOFTWARE, OFFER_PLESK)

    assert isinstance(outcome, Refused)
    assert (outcome.refusal, outcome.evidence.row) == (Refusal.INVALID_VALUE, 0)
    assert await books.submit_count() == 0


async def test_wrong_password_is_told_and_asks_for_the_breaker(books: Books) -> None:
    await books.change_password()

    outcome = await send(books)
    assert isinstance(outcome, Refused)
    assert outcome.refusal is Refusal.AUTH_FAILED
    for read in (
        books.client.read_services([]),
        books.client.read_service(Elid(1), SOFTWARE_KINDS),
        books.client.read_charges(),
        books.client.read_balance(),
    ):
        with pytest.raises(ProviderReadError) as refused:
            await read
        assert (refused.value.refusal, refused.value.pause) == (Refusal.AUTH_FAILED, Pause.BREAKER)


async def test_renewal_moves_the_last_day_once_per_charge(books: Books) -> None:
    elid = await ordered(books)
    form = await books.client.read_service(elid, SOFTWARE_KINDS)
    assert form is not None
    assert form.expires_on is not None

    outcome = await send(books, RenewService(elid=elid, period_months=1, expires_before=form.expires_on))

    assert isinstance(outcome, Confirmed)
    assert outcome.expires_on is not None
    assert outcome.expires_on > form.expires_on
    after = await books.client.read_service(elid, SOFTWARE_KINDS)
    assert after is not None
    assert after.expires_on == outcome.expires_on
    assert await books.charge_count() == 2


async def test_nodes_are_set_to_their_target_and_shown(books: Books) -> None:
    elid = await ordered(books)
    wanted = SetNodes(elid=elid, label="cluster", address=HOST, node_code=550, count=3)

    assert isinstance(await send(books, wanted), Confirmed)

    form = await books.client.read_service(elid, SOFTWARE_KINDS)
    assert form is not None
    assert form.nodes[550] == 3
    assert await books.charge_count() == 2


async def test_change_sets_values_keeps_the_marker_and_may_be_repeated(books: Books) -> None:
    elid = await ordered(books)
    moved = ip_address("203.0.113.11")
    change = ChangeService(elid=elid, label="web-02", address=moved)

    outcomes = [await send(books, change, None), await send(books, change, None)]

    assert all(isinstance(each, Confirmed) for each in outcomes)
    services = await books.client.read_services([])
    assert [(row.label, row.address) for row in services.rows] == [(f"web-02 {MARKER}", moved)]
    assert await books.charge_count() == 1


async def test_delete_is_done_however_often_it_is_asked(books: Books) -> None:
    elid = await ordered(books)

    outcomes = [await send(books, EndService(elid=elid), None) for _ in range(2)]

    assert all(isinstance(each, Confirmed) for each in outcomes)
    assert await books.client.read_service(elid, SOFTWARE_KINDS) is None
    finding = look_for(
        await books.client.read_services([]),
        Sought(operation=SOFTWARE, marker=MARKER, sent_on=date(2025, 1, 1), snapshot=frozenset()),
    )
    assert finding.elids == ()


async def test_operation_on_an_unknown_service_is_refused(books: Books) -> None:
    renewal = RenewService(elid=Elid(999), period_months=1, expires_before=date(2025, 12, 22))

    outcome = await send(books, renewal)

    assert isinstance(outcome, Refused)
    assert outcome.refusal is Refusal.NOT_FOUND


async def test_form_shows_tariff_status_and_key_of_its_own_kind_only(books: Books) -> None:
    elid = await ordered(books)

    form = await books.client.read_service(elid, SOFTWARE_KINDS)

    assert form is not None
    assert (form.elid, form.pricelist, form.label) == (elid, 549, f"web-01 {MARKER}")
    assert form.license_key
    assert form.license_key not in repr(form)
    assert await books.client.read_service(elid, PLESK_KINDS) is None
    assert await books.client.read_service(Elid(999), SOFTWARE_KINDS) is None


async def test_list_without_a_service_known_to_be_alive_proves_nothing(books: Books) -> None:
    elid = await ordered(books)

    assert (await books.client.read_services([elid])).conclusive
    doubtful: ServiceList = await books.client.read_services([elid, Elid(39001)])
    assert not doubtful.conclusive
    assert "39001" in doubtful.doubts[0]
    assert [row.elid for row in doubtful.rows] == [elid]


async def test_every_charge_names_its_service(books: Books) -> None:
    elid = await ordered(books)

    charges = await books.client.read_charges()

    assert charges.conclusive
    (charge,) = charges.rows
    assert charge.elid == elid
    assert charge.charge_id
    assert charge.charged_on is not None
    assert charge.amount is not None
    assert charge.amount > 0


async def test_balance_is_told(books: Books) -> None:
    balance = await books.client.read_balance()

    assert balance is not None
    assert balance.amount > 0
    assert balance.currency == "EUR"
    assert MODULE_KINDS == (ServiceKind.MODULE,)
