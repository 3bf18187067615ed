"""Provider products through the handler: begun with orders, joined by repeats, ended by outcomes."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from shared.contracts.commands import LicenseCommand, LicensingModel, RecordProviderOutcome, UpgradeLicense
from shared.contracts.identifiers import license_id
from shared.contracts.replies import Reply, ReplyAddress, ReplyStatus
from shared.domain.case import Rules
from shared.domain.catalog import Counter, CounterKind
from shared.domain.decide import LINE_MAX
from shared.domain.effects import NewOrder
from shared.domain.license import LicenseStatus
from shared.domain.provider_operation import EndService, OrderModule, OrderSoftware, RenewService, SetNodes
from shared.domain.provisioning import StepKind
from shared.domain.term import months_later
from shared.domain.usage import CounterTotal, UsageOnFile
from tests.builders import (
    APRIL,
    MARCH,
    NOW,
    a_purchase,
    a_renew,
    a_terminate,
    a_usage_question,
    an_envelope,
    an_upgrade,
    rules,
)
from tests.unit.test_license_handler import Bench, received
from workers.license.sheet import Handled

pytestmark = pytest.mark.asyncio

LITE = a_purchase(product="ISPMGR6-LITE", activation_data="203.0.113.10")
BUSINESS = a_purchase(product="ISPMGR6-BUSINESS", activation_data='{"ip":"203.0.113.11","licname":"cluster","nodes":3}')
ELID = 40117


class Upstream(Bench):
    """A bench that also plays the provider role."""

    def __init__(self) -> None:
        super().__init__()
        self.correlation = 0

    def address(self) -> ReplyAddress:
        self.correlation += 1
        return ReplyAddress(self.correlation.to_bytes(16, "big"), partition=5)

    async def ask_from(self, command: LicenseCommand, address: ReplyAddress | None = None) -> Handled:
        one = replace(received(an_envelope(command)), address=address)
        (handled,) = await self.handler.handle([one])
        return handled

    def open_order(self, kind: StepKind | None = None) -> NewOrder:
        orders = self.store.tables.orders
        (order,) = [
            order
            for order in orders.values()
            if order.order_id not in self.store.tables.settled_orders and kind in (None, order.step.kind)
        ]
        return order

    async def confirm(self, order: NewOrder, **facts: object) -> Handled:
        return await self.ask_from(outcome(order.order_id, **facts))

    async def bought(self, command: LicenseCommand = LITE, *, until: date = MARCH) -> None:
        await self.ask_from(command)
        await self.confirm(self.open_order(), service_expires_on=until)


def outcome(order_id: UUID, **facts: object) -> RecordProviderOutcome:
    plain = RecordProviderOutcome(account="ka", number="00481516", order_id=order_id, confirmed=True, service_id=ELID)
    return replace(plain, **facts)  # type: ignore[arg-type]  # facts are the fields of the command


def bodies(replies: Sequence[tuple[ReplyAddress, Reply]]) -> set[bytes]:
    assert all(reply.status is ReplyStatus.LICENSE_BODY for _, reply in replies)
    return {reply.body for _, reply in replies}


async def test_purchase_of_a_provider_product_stores_the_intent_and_leaves_the_reply_open() -> None:
    upstream = Upstream()

    handled = await upstream.ask_from(LITE, upstream.address())

    assert handled.reply is None
    assert handled.dead_letter is None
    assert upstream.store.tables.licenses == {}
    operation = upstream.open_order().operation
    assert isinstance(operation, OrderSoftware)
    assert (str(operation.address), operation.pricelist, operation.period_months) == ("203.0.113.10", 546, 1)


async def test_repeats_join_the_order_and_all_get_the_same_body_when_it_is_confirmed() -> None:
    upstream = Upstream()
    askers = [upstream.address() for _ in range(3)]
    for asker in askers:
        await upstream.ask_from(LITE, asker)

    confirmed = await upstream.confirm(upstream.open_order(), service_expires_on=MARCH)
    repeat = await upstream.ask_from(LITE)

    assert [address for address, _ in confirmed.others] == askers
    assert repeat.reply is not None
    assert bodies(confirmed.others) == {repeat.reply.body}
    assert len(upstream.store.tables.orders) == 1
    assert upstream.store.tables.open == {}


async def test_only_the_newest_eight_askers_are_answered() -> None:
    upstream = Upstream()
    askers = [upstream.address() for _ in range(10)]
    for asker in askers:
        await upstream.ask_from(LITE, asker)

    confirmed = await upstream.confirm(upstream.open_order())

    assert [address for address, _ in confirmed.others] == askers[2:]


async def test_an_outcome_told_twice_has_one_effect() -> None:
    upstream = Upstream()
    await upstream.ask_from(LITE, upstream.address())
    order = upstream.open_order()
    await upstream.confirm(order)

    again = await upstream.confirm(order)

    assert again.others == ()
    assert len(upstream.store.tables.revisions) == 1


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        ("invalid_value", b"provider_value_refused"),
        ("rejected", b"provider_refused"),
        ("payment_required", b"provider_unavailable"),
        ("auth_failed", b"provider_unavailable"),
        ("term_locked", b"provider_refused"),
    ],
)
async def test_a_refusal_is_told_and_leaves_nothing_so_that_a_repeat_is_a_fresh_attempt(
    refusal: str, code: bytes
) -> None:
    upstream = Upstream()
    await upstream.ask_from(LITE, upstream.address())

    refused = await upstream.confirm(upstream.open_order(), confirmed=False, service_id=None, refusal=refusal)
    fresh = await upstream.ask_from(LITE, upstream.address())

    assert [(reply.status, reply.meta) for _, reply in refused.others] == [(ReplyStatus.REJECTED, code)]
    assert upstream.store.tables.licenses == {}
    assert fresh.reply is None
    assert len(upstream.store.tables.orders) == 2


async def test_commands_behind_an_open_operation_wait_in_line_and_go_on_in_order() -> None:
    upstream = Upstream()
    await upstream.ask_from(LITE, upstream.address())
    renewer, ender = upstream.address(), upstream.address()
    renewed = await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=MARCH + timedelta(days=1)), renewer)
    ended = await upstream.ask_from(a_terminate(product="ISPMGR6-LITE"), ender)

    confirmed = await upstream.confirm(upstream.open_order(), service_expires_on=MARCH)

    assert (renewed.reply, ended.reply) == (None, None)
    told = {address: reply.status for address, reply in confirmed.others}
    assert told[renewer] is ReplyStatus.LICENSE_BODY
    assert told[ender] is ReplyStatus.TERMINATED
    assert upstream.store.tables.lines == {}


async def test_the_line_stops_at_the_next_operation_that_needs_the_provider() -> None:
    upstream = Upstream()
    await upstream.ask_from(LITE)
    await upstream.ask_from(a_renew(product="ISPMGR6-LITE"))
    behind = upstream.address()
    await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=APRIL + timedelta(days=1)), behind)

    first = await upstream.confirm(upstream.open_order(), service_expires_on=date(2027, 3, 5))
    prolong = upstream.open_order()
    second = await upstream.confirm(prolong, service_expires_on=date(2027, 4, 7))

    assert first.others == ()
    assert isinstance(prolong.operation, RenewService)
    assert [(address, reply.status) for address, reply in second.others] == [(behind, ReplyStatus.LICENSE_BODY)]


async def test_what_stands_in_line_before_a_termination_orders_nothing_any_more() -> None:
    upstream = Upstream()
    renewer, ender = upstream.address(), upstream.address()
    await upstream.ask_from(LITE)
    await upstream.ask_from(a_renew(product="ISPMGR6-LITE"), renewer)
    await upstream.ask_from(a_terminate(product="ISPMGR6-LITE"), ender)

    done = await upstream.confirm(upstream.open_order(), service_expires_on=date(2027, 3, 5))

    assert {address: reply.meta for address, reply in done.others if address == renewer} == {
        renewer: b"provider_unavailable"
    }
    assert {address: reply.status for address, reply in done.others}[ender] is ReplyStatus.TERMINATED
    assert [order.step.kind for order in upstream.store.tables.orders.values()] == [StepKind.ORDER]


async def test_periods_of_an_upgrade_are_not_paid_any_more_once_a_termination_waits() -> None:
    upstream = Upstream()
    await upstream.bought()
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO"), upstream.address())
    await upstream.confirm(upstream.open_order(), service_id=50001, service_expires_on=date(2027, 1, 5))
    paying = upstream.open_order()
    ender = upstream.address()
    await upstream.ask_from(a_terminate(product="ISPMGR6-PRO"), ender)

    done = await upstream.confirm(paying, service_id=50001, service_expires_on=date(2027, 2, 5))

    assert isinstance(paying.operation, RenewService)
    assert (ender, ReplyStatus.TERMINATED) in [(address, reply.status) for address, reply in done.others]
    kinds = [order.step.kind for order in upstream.store.tables.orders.values()]
    assert kinds == [StepKind.ORDER, StepKind.ORDER, StepKind.PROLONG, StepKind.END], "the one in flight, and no more"
    (kept,) = upstream.store.tables.licenses.values()
    assert kept.license.service is not None
    assert (kept.license.service.elid, kept.license.service.expires_on) == (50001, date(2027, 2, 5))
    assert upstream.store.tables.attention == []


async def test_a_period_that_a_termination_canceled_is_nothing_for_people() -> None:
    upstream = Upstream()
    await upstream.bought()
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO"))
    await upstream.confirm(upstream.open_order(), service_id=50001, service_expires_on=date(2027, 1, 5))
    await upstream.ask_from(a_terminate(product="ISPMGR6-PRO"))

    await upstream.confirm(upstream.open_order(), confirmed=False, refusal="canceled")

    assert upstream.store.tables.attention == []
    (kept,) = upstream.store.tables.licenses.values()
    assert kept.license.status is LicenseStatus.TERMINATED


async def test_a_renewal_of_several_periods_stops_at_the_one_in_flight_when_a_termination_waits() -> None:
    upstream = Upstream()
    await upstream.bought()
    renewer = upstream.address()
    await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=date(2027, 6, 20)), renewer)
    await upstream.ask_from(a_terminate(product="ISPMGR6-LITE"))

    done = await upstream.confirm(upstream.open_order(), service_expires_on=date(2027, 4, 15))

    assert [(address, reply.meta) for address, reply in done.others if address == renewer] == [
        (renewer, b"provider_unavailable")
    ]
    assert upstream.store.tables.open == {}
    assert len(upstream.store.tables.orders) == 2
    (kept,) = upstream.store.tables.licenses.values()
    assert kept.license.status is LicenseStatus.TERMINATED
    assert kept.license.service is not None
    assert kept.license.service.expires_on == date(2027, 4, 15)


async def test_a_termination_that_will_be_refused_hinders_nothing() -> None:
    upstream = Upstream()
    await upstream.bought()
    await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=date(2027, 5, 15)), upstream.address())

    await upstream.ask_from(a_terminate(product="ISPMGR6-LITE", test=True), upstream.address())
    await upstream.confirm(upstream.open_order(), service_expires_on=date(2027, 4, 15))

    assert upstream.store.tables.canceled_orders == set()
    assert upstream.open_order().step.kind is StepKind.PROLONG, "the second period of the renewal"


async def test_a_period_is_not_paid_when_the_panel_counted_further_than_the_calendar() -> None:
    upstream = Upstream()
    await upstream.bought(until=date(2027, 1, 5))
    asker = upstream.address()
    await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=MARCH), asker)
    first = upstream.open_order()

    done = await upstream.confirm(first, service_expires_on=date(2027, 3, 6))  # it was suspended: renewed from today

    assert [address for address, _ in done.others] == [asker]
    assert [order.step.kind for order in upstream.store.tables.orders.values()] == [StepKind.ORDER, StepKind.PROLONG]


async def test_a_license_that_outlasts_its_service_after_all_periods_paid_at_once_is_for_people() -> None:
    upstream = Upstream()
    await upstream.bought(until=date(2027, 3, 5))
    await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=date(2028, 8, 15)))
    reached = date(2027, 3, 5)

    while upstream.store.tables.open:
        reached = months_later(reached, 1)
        await upstream.confirm(upstream.open_order(), service_expires_on=reached)

    assert reached == date(2028, 3, 5), "no more than twelve at once"
    (told,) = upstream.store.tables.attention
    assert b"service_differs" in told.value
    assert b"ends 2028-03-05, its license lasts until 2028-08-15" in told.value


async def test_each_period_is_asked_for_from_the_day_that_the_one_before_it_reached() -> None:
    upstream = Upstream()
    await upstream.bought(until=date(2027, 1, 5))
    await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=MARCH))

    await upstream.confirm(upstream.open_order(), service_expires_on=date(2027, 2, 2))

    operation = upstream.open_order().operation
    assert isinstance(operation, RenewService)
    assert operation.expires_before == date(2027, 2, 2)


class MeteredRules:
    """A product that is ordered upstream and reports usage."""

    def current(self) -> Rules:
        plain = rules()
        counters = (Counter(name="storedGigabytes", kind=CounterKind.LEVEL),)
        metered = replace(plain.catalog.products["ISPMGR6-LITE"], model=LicensingModel.REPORTING, counters=counters)
        return replace(plain, catalog=replace(plain.catalog, products={"ISPMGR6-LITE": metered}))


@pytest.mark.parametrize("is_stored_in_line", [True, False])
async def test_a_question_about_usage_that_waited_in_line_is_answered_from_the_counters(
    *, is_stored_in_line: bool
) -> None:
    upstream = Upstream()
    asker = upstream.address()
    upstream.handler.rules = MeteredRules()
    await upstream.ask_from(replace(LITE, model=LicensingModel.REPORTING))
    stored = CounterTotal(kind=CounterKind.LEVEL, value=Decimal("6.5"), at=NOW, event_id="1", source="app")
    key = license_id("ka", "00481516")
    upstream.store.tables.usage[key] = UsageOnFile(
        totals={("storedGigabytes", CounterKind.LEVEL): stored}, watermark=(4,)
    )
    question = a_usage_question(product="ISPMGR6-LITE", usage_ends=(4,))
    waiting = replace(received(an_envelope(question)), address=asker)
    ended = received(an_envelope(outcome(upstream.open_order().order_id)))

    if is_stored_in_line:
        await upstream.handler.handle([waiting])
        assert len(upstream.store.tables.lines) == 1
        handled = await upstream.handler.handle([ended])
    else:
        handled = await upstream.handler.handle([waiting, ended])

    told = dict(handled[-1].others)
    assert told[asker].body == b'{"version":"isv-reportable-1","usage":{"storedGigabytes":7}}'


async def test_a_question_beside_the_purchase_of_its_license_is_answered() -> None:
    bench = Bench()
    purchase = an_envelope(a_purchase(product="CloudBackup", model=LicensingModel.REPORTING))

    _, answer = await bench.send(purchase, an_envelope(a_usage_question(usage_ends=())))

    assert answer.reply is not None
    assert answer.reply.status is ReplyStatus.USAGE_TOLD


async def test_a_redelivered_command_in_line_stays_where_it_is() -> None:
    upstream = Upstream()
    await upstream.ask_from(LITE)
    waiting = received(an_envelope(a_terminate(product="ISPMGR6-LITE")))
    await upstream.handler.handle([waiting])

    (again,) = await upstream.handler.handle([waiting])

    assert again == Handled(None)
    assert len(upstream.store.tables.lines) == 1


async def test_a_command_that_joins_the_line_in_the_batch_that_dissolves_it_is_handled() -> None:
    upstream = Upstream()
    await upstream.ask_from(LITE)
    ender = upstream.address()
    end = replace(received(an_envelope(a_terminate(product="ISPMGR6-LITE"))), address=ender)
    done = received(an_envelope(outcome(upstream.open_order().order_id)))

    _, confirmed = await upstream.handler.handle([end, done])

    assert (ender, ReplyStatus.TERMINATED) in [(address, reply.status) for address, reply in confirmed.others]


async def test_a_termination_in_line_asks_for_the_order_to_be_canceled() -> None:
    upstream = Upstream()
    await upstream.ask_from(LITE)

    await upstream.ask_from(a_terminate(product="ISPMGR6-LITE"))

    assert upstream.store.tables.canceled_orders == {upstream.open_order().order_id}


async def test_the_line_is_bounded_but_not_for_terminations() -> None:
    upstream = Upstream()
    await upstream.ask_from(LITE)
    for day in range(LINE_MAX):
        await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=MARCH + timedelta(days=day)))

    one_more = await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=date(2028, 1, 1)))
    ending = await upstream.ask_from(a_terminate(product="ISPMGR6-LITE"))

    assert one_more.reply is not None
    assert one_more.reply.meta == b"license_busy"
    assert ending.reply is None


async def test_nodes_are_ordered_after_the_service_and_then_the_license_is_issued() -> None:
    upstream = Upstream()
    asker = upstream.address()
    await upstream.ask_from(BUSINESS, asker)

    first = await upstream.confirm(upstream.open_order(), service_expires_on=MARCH)
    nodes = upstream.open_order()
    second = await upstream.confirm(nodes)

    assert first.others == ()
    assert nodes.operation == SetNodes(
        elid=ELID,
        label="cluster",
        address=nodes.operation.address,
        node_code=550,
        count=3,  # type: ignore[union-attr]  # nodes have one
    )
    assert [address for address, _ in second.others] == [asker]


async def test_refused_nodes_leave_a_license_and_a_finding_because_the_service_is_paid() -> None:
    upstream = Upstream()
    await upstream.ask_from(BUSINESS, upstream.address())
    await upstream.confirm(upstream.open_order(), service_expires_on=MARCH)

    done = await upstream.confirm(upstream.open_order(), confirmed=False, service_id=None, refusal="rejected")

    assert bodies(done.others)
    assert len(upstream.store.tables.attention) == 1
    assert b"nodes_refused" in upstream.store.tables.attention[0].value


@pytest.mark.parametrize(
    ("expires_on", "periods"),
    [(MARCH, 0), (date(2027, 3, 25), 0), (date(2027, 3, 26), 1), (APRIL, 1), (date(2027, 5, 15), 2)],
)
async def test_renew_pays_exactly_the_periods_that_the_service_lacks(expires_on: date, periods: int) -> None:
    upstream = Upstream()
    await upstream.bought(until=MARCH)
    upstream.business.moment = datetime(2027, 3, 5, tzinfo=UTC)

    handled = await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=expires_on), upstream.address())
    reached = MARCH
    for _ in range(periods):
        order = upstream.open_order()
        assert isinstance(order.operation, RenewService)
        reached = reached.replace(month=reached.month + 1)
        done = await upstream.confirm(order, service_expires_on=reached)
    final = handled.reply or done.others[0][1]

    assert final.status is ReplyStatus.LICENSE_BODY
    assert final.meta == expires_on.isoformat().encode()
    assert len(upstream.store.tables.orders) == 1 + periods


async def test_changed_activation_data_on_renew_is_a_change_of_its_own() -> None:
    upstream = Upstream()
    await upstream.bought(until=date(2027, 5, 15))

    await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=MARCH, activation_data="203.0.113.77"))

    assert upstream.open_order().step.kind is StepKind.CHANGE


async def test_a_renewal_whose_change_is_refused_keeps_what_was_paid() -> None:
    upstream = Upstream()
    await upstream.bought(until=date(2027, 3, 5))
    renew = a_renew(product="ISPMGR6-LITE", activation_data="203.0.113.77")
    await upstream.ask_from(renew, upstream.address())
    await upstream.confirm(upstream.open_order(), service_expires_on=date(2027, 4, 5))

    refused = await upstream.confirm(upstream.open_order(), confirmed=False, refusal="invalid_value")
    await upstream.ask_from(a_renew(product="ISPMGR6-LITE"))

    assert refused.others[0][1].meta == b"provider_value_refused"
    kinds = [order.step.kind for order in upstream.store.tables.orders.values()]
    assert kinds == [StepKind.ORDER, StepKind.PROLONG, StepKind.CHANGE]


async def test_upgrade_orders_the_new_service_and_releases_the_old_one_only_then() -> None:
    upstream = Upstream()
    await upstream.bought()
    asker = upstream.address()
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO"), asker)
    order = upstream.open_order()

    done = await upstream.confirm(order, service_id=50001)
    release = upstream.open_order(StepKind.END)

    assert isinstance(order.operation, OrderSoftware)
    assert order.operation.pricelist == 547
    assert bodies(done.others)
    assert release.operation == EndService(elid=ELID)  # type: ignore[arg-type]  # a plain number is an id
    (kept,) = upstream.store.tables.licenses.values()
    assert kept.license.service is not None
    assert kept.license.service.elid == 50001


@pytest.mark.parametrize(
    ("new_until", "periods"),
    [(date(2027, 3, 5), 0), (date(2027, 3, 4), 1), (date(2027, 2, 4), 2), (date(2026, 3, 5), 12), (None, 0)],
)
async def test_an_upgrade_pays_exactly_the_periods_that_its_new_service_lacks(
    new_until: date | None, periods: int
) -> None:
    upstream = Upstream()
    await upstream.bought()
    asker = upstream.address()
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO"), asker)

    done = await upstream.confirm(upstream.open_order(), service_id=50001, service_expires_on=new_until)
    reached = new_until
    for _ in range(periods):
        assert upstream.store.tables.open, "the old service is kept, and the caller waits, until all is paid"
        prolong = upstream.open_order().operation
        assert isinstance(prolong, RenewService)
        assert reached is not None
        assert (prolong.elid, prolong.period_months, prolong.expires_before) == (50001, 1, reached)
        reached = months_later(reached, 1)
        done = await upstream.confirm(upstream.open_order(), service_id=50001, service_expires_on=reached)

    assert bodies(done.others)
    assert [address for address, _ in done.others] == [asker]
    assert upstream.open_order(StepKind.END).operation == EndService(elid=ELID)  # type: ignore[arg-type]  # as above
    (kept,) = upstream.store.tables.licenses.values()
    assert kept.license.service is not None
    assert (kept.license.product, kept.license.service.elid) == ("ISPMGR6-PRO", 50001)
    assert (kept.license.expires_on, kept.license.service.expires_on) == (MARCH, reached)


async def test_an_upgrade_to_a_later_day_pays_until_that_day() -> None:
    upstream = Upstream()
    await upstream.bought()
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO", expires_on=APRIL))

    await upstream.confirm(upstream.open_order(), service_id=50001, service_expires_on=MARCH)

    assert isinstance(upstream.open_order().operation, RenewService)


async def test_periods_are_asked_for_once_even_if_the_panel_gives_less_than_it_was_asked_for() -> None:
    upstream = Upstream()
    await upstream.bought()
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO"))
    await upstream.confirm(upstream.open_order(), service_id=50001, service_expires_on=date(2027, 3, 4))

    await upstream.confirm(upstream.open_order(), service_id=50001, service_expires_on=date(2027, 3, 4))

    assert upstream.store.tables.open == {}, "the next renewal finds out; nothing here goes on charging"


async def test_a_refused_period_of_an_upgrade_leaves_the_upgrade_and_a_finding_because_the_service_is_paid() -> None:
    upstream = Upstream()
    await upstream.bought()
    asker = upstream.address()
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO"), asker)
    await upstream.confirm(upstream.open_order(), service_id=50001, service_expires_on=date(2027, 1, 5))

    done = await upstream.confirm(upstream.open_order(), confirmed=False, refusal="payment_required")

    assert bodies(done.others)
    assert b"period_refused" in upstream.store.tables.attention[0].value
    assert upstream.open_order(StepKind.END).step.elid == ELID
    (kept,) = upstream.store.tables.licenses.values()
    assert kept.license.product == "ISPMGR6-PRO"


async def test_an_upgrade_whose_nodes_are_refused_still_pays_the_periods_that_it_lacks() -> None:
    upstream = Upstream()
    await upstream.bought()
    nodes = '{"ip":"203.0.113.10","nodes":3}'
    await upstream.ask_from(an_upgrade(product="ISPMGR6-BUSINESS", activation_data=nodes))
    await upstream.confirm(upstream.open_order(), service_id=50001, service_expires_on=date(2027, 3, 4))

    await upstream.confirm(upstream.open_order(StepKind.NODES), confirmed=False, refusal="rejected")

    assert upstream.open_order().step.kind is StepKind.PROLONG
    assert b"nodes_refused" in upstream.store.tables.attention[0].value


async def test_a_lost_upgrade_of_a_provider_product_is_a_conflict_for_people() -> None:
    upstream = Upstream()
    await upstream.bought()
    first = await upstream.ask_from(LITE)
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO"))
    await upstream.confirm(upstream.open_order(), service_id=50001)
    assert first.reply is not None

    from tests.unit.test_license_handler import digest_of

    handled = await upstream.ask_from(a_renew(product="ISPMGR6-LITE", previous_body=digest_of(first.reply.body)))

    assert handled.reply is not None
    assert handled.reply.meta == b"upgrade_lost_upstream"
    assert b"upgrade_lost" in upstream.store.tables.attention[0].value


async def test_terminate_is_immediate_and_the_service_is_released_after_the_wind_down() -> None:
    from shared.contracts.commands import CloseUpstream

    upstream = Upstream()
    await upstream.bought()
    ended = await upstream.ask_from(a_terminate(product="ISPMGR6-LITE"))
    close = CloseUpstream(account="ka", number="00481516")

    await upstream.ask_from(close)
    early = len(upstream.store.tables.orders)
    upstream.business.moment += timedelta(days=30)
    await upstream.ask_from(close)
    release = upstream.open_order(StepKind.END)
    await upstream.confirm(release)

    assert ended.reply is not None
    assert ended.reply.status is ReplyStatus.TERMINATED
    assert early == 1
    (kept,) = upstream.store.tables.licenses.values()
    assert kept.license.service is None


@pytest.mark.parametrize(
    "activation_data",
    [None, "999.1.1.1", "1.2.3.4&func=x", "0x7f000001", "{}", '{"ip": 5}', '{"ip":"203.0.113.1","nodes":2}', "[1]"],
)
async def test_server_data_that_do_not_fit_the_product_are_rejected_before_anything_is_stored(
    activation_data: str | None,
) -> None:
    upstream = Upstream()

    handled = await upstream.ask_from(a_purchase(product="ISPMGR6-LITE", activation_data=activation_data))

    assert handled.reply is not None
    assert handled.reply.meta == b"activation_data_invalid"
    assert upstream.store.tables.orders == {}


async def test_a_module_is_ordered_for_the_service_of_its_parent() -> None:
    upstream = Upstream()
    await upstream.bought()
    module = a_purchase(number="00481600", product="SOFTACULOUS-ISPMGR5", activation_data='{"parent":"00481516"}')

    await upstream.ask_from(module)

    operation = upstream.open_order().operation
    assert operation == OrderModule(pricelist=356, parent=ELID, period_months=1)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("parent", ["00999999", "00481600"])
async def test_a_module_without_a_suitable_parent_is_rejected(parent: str) -> None:
    upstream = Upstream()
    module = a_purchase(number="00481600", product="SOFTACULOUS-ISPMGR5", activation_data=f'{{"parent":"{parent}"}}')

    handled = await upstream.ask_from(module)

    assert handled.reply is not None
    assert handled.reply.meta == b"parent_unsuitable"


async def test_nothing_is_stored_while_the_provider_takes_no_orders() -> None:
    upstream = Upstream()

    class Closed:
        def current(self) -> Rules:
            return replace(rules(), provider_accounts={"isplicense": False})

    upstream.handler.rules = Closed()

    handled = await upstream.ask_from(LITE)

    assert handled.reply is not None
    assert handled.reply.meta == b"provider_unavailable"
    assert upstream.store.tables.orders == {}


async def test_an_upgrade_whose_new_service_is_refused_keeps_the_old_one() -> None:
    upstream = Upstream()
    await upstream.bought()
    upgrade: UpgradeLicense = an_upgrade(product="ISPMGR6-PRO")
    await upstream.ask_from(upgrade, upstream.address())

    await upstream.confirm(upstream.open_order(), confirmed=False, service_id=None, refusal="rejected")

    (kept,) = upstream.store.tables.licenses.values()
    assert kept.license.product == "ISPMGR6-LITE"
    assert kept.license.service is not None
    assert kept.license.service.elid == ELID
