"""A modification that needs a provider: planned and checked first, carried out when it is confirmed, or not at all."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.contracts.commands import CloseUpstream, LicensingModel, RecordProviderOutcome, UpgradeLicense
from shared.contracts.key_commands import (
    Idempotency,
    KeyReference,
    ModifyKey,
    TerminateKey,
    WantedActivation,
    WantedItem,
)
from shared.contracts.outcomes import PARTNER_ERROR_TYPES, RejectionCode
from shared.contracts.replies import ReplyStatus
from shared.database.provider_writes import OPEN_OPERATION
from shared.domain.case import Case, Rules
from shared.domain.catalog import FIRST_PROVIDER_ACCOUNT, Catalog, ProviderOffer
from shared.domain.decide import LINE_MAX, decide
from shared.domain.decision import Decision, KeyState, Pending, Rejected, Waiting
from shared.domain.effects import StoredReply
from shared.domain.events import LicenseUpgraded, ServiceChanged
from shared.domain.key_details import KeyItem, ParentKey, details_of_foreign
from shared.domain.key_owners import LinkedAccount, Owner, OwnerBook
from shared.domain.license import License, LicenseStatus
from shared.domain.open_operation import AttentionKind, OpenOperation
from shared.domain.provider_operation import Elid
from shared.domain.provisioning import ServerData, StepKind, UpstreamService
from shared.domain.publication import event_type
from tests.builders import an_upgrade
from tests.key_builders import (
    CATALOG,
    CODE_2,
    NOW,
    OWNERS,
    RULES,
    after,
    decided,
    k1,
    members,
    modify,
    refusal,
    structure,
)
from workers.license.request_names import name_of

ORDER_ID = UUID("01900000-0000-7000-8000-000000000001")
OLD, FRESH = Elid(40_001), Elid(40_002)
PRO = (WantedItem(item="ISPMGR6-PRO"),)


def lite(*, key: Mapping[str, Any] | None = None, **changes: Any) -> License:
    """A license of a provider product, bought over the ISV endpoint by a linked account."""
    product = changes.get("product", "ISPMGR6-LITE")
    details = details_of_foreign(
        key_id=10_000_001,
        activation_code=CODE_2,
        owner="70010001",
        configuration=501,
        product=product,
        created_on=date(2024, 3, 5),
        expires_on=date(2024, 4, 15),
    )
    plain = License(
        account="ka",
        number="00481516",
        product=product,
        model=LicensingModel.STANDARD,
        status=LicenseStatus.ACTIVE,
        subscription_on=date(2024, 3, 5),
        start_on=date(2024, 3, 5),
        purchase_on=date(2024, 3, 5),
        expires_on=date(2024, 4, 15),
        activation_data="203.0.113.10",
        revision=1,
        sequence=1,
        service=UpstreamService(
            elid=OLD, sku="ISPMGR6-LITE", data=ServerData(address="203.0.113.10"), expires_on=date(2024, 4, 5)
        ),
        key=replace(details, **(key or {})),
    )
    return replace(plain, **changes)


def opened(decision: Decision) -> OpenOperation:
    """The operation that a decision begins, with nothing done yet."""
    assert isinstance(decision.answer, Pending), decision.answer
    assert (decision.events, decision.elsewhere, decision.releases) == ((), {}, ())
    assert decision.open is not None
    assert decision.order == decision.open.step
    return replace(decision.open, order_id=ORDER_ID)


def told(
    open_operation: OpenOperation,
    on: License | None,
    *others: License,
    owners: OwnerBook = OWNERS,
    rules: Rules = RULES,
    now: Any = NOW,
    **facts: Any,
) -> Decision:
    """What an outcome leads to: confirmed unless said otherwise."""
    outcome = RecordProviderOutcome(
        account="ka", number="00481516", order_id=ORDER_ID, confirmed=True, service_id=FRESH, service_expires_on=None
    )
    related = {other.license_id: other for other in others}
    case = Case(license=on, open=open_operation, related=related, owners=owners)
    return decide(case, replace(outcome, **facts), rules, now=now)


def refused_with(decision: Decision) -> str:
    """The code that those who wait are told."""
    assert isinstance(decision.settled_answer, Rejected), decision.settled_answer
    return decision.settled_answer.code.value


def kinds(decision: Decision) -> list[str]:
    """The public events of a decision."""
    return [kind.removeprefix("keyway.license.") for event in decision.events if (kind := event_type(event))]


def test_an_upgrade_is_ordered_first_and_nothing_else_happens() -> None:
    on = lite()
    decision = decided(modify(on, items=PRO, nickname="eu-7", address="203.0.113.7", auto_renew=False), on)
    begun = opened(decision)
    assert [step.kind for step in begun.steps] == [StepKind.ORDER]
    assert (begun.step.product.sku, begun.step.data.address) == ("ISPMGR6-PRO", "203.0.113.10")
    assert begun.key_operations == ("UPGRADE", "IPBIND", "NICKNAME", "AUTORENEW")


def test_the_periods_that_the_new_service_lacks_are_paid_before_the_modification_is_carried_out() -> None:
    on = lite(expires_on=date(2024, 6, 15))
    begun = opened(decided(modify(on, items=PRO), on))

    ordered = told(begun, on, service_expires_on=date(2024, 4, 30))

    assert ordered.events == ()
    assert ordered.open is not None
    lacking = [step.expires_before for step in ordered.open.steps if step.kind is StepKind.PROLONG]
    assert lacking == [date(2024, 4, 30), date(2024, 5, 30)]


def test_a_refused_period_leaves_the_modification_and_a_finding_because_the_service_is_paid() -> None:
    on = lite(expires_on=date(2024, 5, 15))
    begun = opened(decided(modify(on, items=PRO, nickname="eu-7"), on))
    ordered = told(begun, on, service_expires_on=date(2024, 4, 30))
    assert ordered.open is not None
    prolonging = replace(ordered.open, order_id=ORDER_ID)

    done = told(prolonging, on, confirmed=False, service_id=None, refusal="no_money")

    assert kinds(done) == ["upgraded", "modified"]
    assert [found.kind for found in done.attention] == [AttentionKind.PERIOD_REFUSED]


def test_once_confirmed_the_whole_plan_is_carried_out_in_one_go() -> None:
    on = lite()
    command = modify(on, items=PRO, nickname="eu-7", address="203.0.113.7", configuration_id=502, auto_renew=False)
    done = told(opened(decided(command, on)), on)
    assert kinds(done) == ["upgraded", "modified"]
    state = after(on, done)
    assert (state.product, state.revision, state.key_version, state.sequence) == ("ISPMGR6-PRO", 2, 1, 3)
    assert state.service is not None
    assert (state.service.elid, state.service.sku) == (FRESH, "ISPMGR6-PRO")
    assert isinstance(done.settled_answer, KeyState)
    assert done.settled_answer.is_told
    shown = structure(Decision(answer=done.settled_answer))
    assert shown["items"] == [{"externalId": None, "item": "ISPMGR6-PRO"}]
    assert (shown["nickname"], shown["ipAddressBinding"], shown["productConfigurationId"], shown["autoRenew"]) == (
        "eu-7",
        "203.0.113.7",
        502,
        False,
    )
    assert shown["keyIdentifiers"]["keyNumber"] == "PLSK.10000001.0001"
    assert done.events[-1].operations == ("UPGRADE", "IPBIND", "CONFIG", "NICKNAME", "AUTORENEW")  # type: ignore[union-attr]  # the event told of as modified
    assert [(step.kind, step.elid) for step in done.releases] == [(StepKind.END, OLD)]
    assert (done.open, done.settled_order, done.attention) == (None, ORDER_ID, ())


def test_a_refused_period_and_a_plan_that_became_impossible_are_both_told() -> None:
    on = lite(expires_on=date(2024, 6, 15))
    begun = opened(decided(modify(on, items=PRO, address="203.0.113.7"), on))
    ordered = told(begun, on, service_expires_on=date(2024, 4, 20)).open
    assert ordered is not None
    taken = lite(number="2", key={"address": "203.0.113.7"})
    ended = told(replace(ordered, order_id=ORDER_ID), on, taken, confirmed=False, service_id=None, refusal="rejected")
    assert refused_with(ended) == "key_address_taken"
    assert [step.elid for step in ended.releases] == [FRESH]
    assert {each.kind for each in ended.attention} == {AttentionKind.PERIOD_REFUSED, AttentionKind.SURPLUS_SERVICE}


@pytest.mark.parametrize(
    ("code", "remembered"),
    [
        (RejectionCode.KEY_ITEMS_REFUSED, True),
        (RejectionCode.PROVIDER_VALUE_REFUSED, True),
        (RejectionCode.PROVIDER_REFUSED, True),
        (RejectionCode.PROVIDER_UNAVAILABLE, False),
        (RejectionCode.PROVIDER_MISSING, False),
        (RejectionCode.LICENSE_BUSY, False),
        (RejectionCode.KEY_REPEAT_DIFFERS, False),
    ],
)
def test_a_refusal_that_asks_to_come_again_is_not_remembered(*, code: RejectionCode, remembered: bool) -> None:
    on = lite()
    command = replace(modify(on, items=PRO), idempotency=Idempotency(key="order-7", body_sha256="ab" * 32))
    named = name_of(command, Rejected(code), StoredReply(status=ReplyStatus.REJECTED))
    assert (named is not None) is remembered


def test_the_license_is_what_an_upgrade_over_isv_makes_of_it() -> None:
    on = lite(key=None)
    here = told(opened(decided(modify(on, items=PRO), on)), on)
    there = told(opened(decided_isv(on)), on)
    assert kinds(here) == [*kinds(there), "modified"]
    changed_here, changed_there = after(on, here), after(on, there)
    assert replace(changed_here, sequence=0) == replace(changed_there, sequence=0)
    assert here.events[0] == there.events[0]


def decided_isv(on: License) -> Decision:
    command: UpgradeLicense = an_upgrade(product="ISPMGR6-PRO", expires_on=None)
    return decide(Case(license=on), command, RULES, now=NOW)


@pytest.mark.parametrize(
    ("given", "others", "code"),
    [
        ({"address": "203.0.113.7"}, (lite(number="2", key={"address": "203.0.113.7"}),), "key_address_taken"),
        ({"address": "nowhere"}, (), "key_value_invalid"),
        ({"configuration_id": 777}, (), "key_configuration_unsuitable"),
        ({"activation": WantedActivation(uid="a")}, (), "key_activation_refused"),
        ({"parent": KeyReference(key_id=20240317)}, (k1(),), "key_parent_unsuitable"),
        ({"nickname": "n" * 256}, (), "key_value_invalid"),
        ({"suspended": True}, (), "key_conflict"),
        ({"terminated": True}, (), "key_conflict"),
        ({"owner_id": "70010002"}, (), "key_conflict"),
        ({"guard": KeyReference(key_id=1)}, (), "key_guard_differs"),
    ],
)
def test_whatever_else_in_the_request_is_refused_is_refused_before_anything_is_ordered(
    given: dict[str, Any], others: tuple[License, ...], code: str
) -> None:
    on = lite()
    decision = decided(modify(on, items=PRO, **given), on, *others)
    assert refusal(decision)[0] == code
    assert (decision.open, decision.order) == (None, None)


@pytest.mark.parametrize(
    ("on", "items", "code", "item"),
    [
        (lite(), (WantedItem(item="ISPMGR7"),), "key_item_unknown", "ISPMGR7"),
        (lite(), (), "key_items_refused", "ISPMGR6-LITE"),
        (lite(), (WantedItem(item="ISPMGR6-LITE"), *PRO), "key_items_refused", "ISPMGR6-LITE"),
        (lite(), (WantedItem(item="PLESK-12-WEB-PRO-1M"),), "key_items_refused", "ISPMGR6-LITE"),
        (lite(), (WantedItem(item="ISPMGR6-PRO", quantity=2),), "key_items_refused", "ISPMGR6-PRO"),
        (lite(), (WantedItem(item="ISPMGR6-LITE", quantity=2),), "key_items_refused", "ISPMGR6-LITE"),
        (lite(), (WantedItem(item="BILLMGR"),), "key_items_refused", "BILLMGR"),
        (lite(product="ISPMGR6-PRO"), (WantedItem(item="ISPMGR6-LITE"),), "key_items_refused", "ISPMGR6-LITE"),
        (lite(suspended=True), PRO, "key_suspended", None),
        (lite(status=LicenseStatus.LAPSED), PRO, "key_items_refused", "ISPMGR6-PRO"),
        (lite(status=LicenseStatus.TERMINATED), PRO, "key_terminated", None),
    ],
)
def test_only_what_can_be_upgraded_to_is_ordered(
    on: License, items: tuple[WantedItem, ...], code: str, item: str | None
) -> None:
    decision = decided(modify(on, items=items), on)
    assert refusal(decision)[0] == code
    assert refusal(decision)[1].get("item") == item
    assert decision.order is None


def test_a_price_list_holds_for_products_too() -> None:
    on = lite()
    link = LinkedAccount(account="partner", owner="70000000", price_list=frozenset({"ISPMGR6-HOST"}))
    owners = OwnerBook(owners=OWNERS.owners, accounts={**OWNERS.accounts, "partner": link})
    assert refusal(decided(modify(on, items=PRO), on, owners=owners))[1]["item"] == "ISPMGR6-PRO"
    opened(decided(modify(on, items=(WantedItem(item="ISPMGR6-HOST"),)), on, owners=owners))


def test_nothing_begins_while_the_provider_takes_no_orders() -> None:
    on = lite()
    busy = replace(RULES, provider_accounts={FIRST_PROVIDER_ACCOUNT: False})
    assert refusal(decided(modify(on, items=PRO, nickname="x"), on, rules=busy))[0] == "provider_unavailable"
    assert structure(decided(modify(on, nickname="x"), on, rules=busy))["nickname"] == "x"


@pytest.mark.parametrize(
    ("refused_as", "code", "type_"),
    [
        ("invalid_value", "provider_value_refused", 30051),
        ("duplicate", "provider_value_refused", 30051),
        ("rejected", "provider_refused", 30051),
        ("upstream_fault", "provider_refused", 30051),
        ("payment_required", "provider_unavailable", 30052),
        ("auth_failed", "provider_unavailable", 30052),
        ("canceled", "provider_unavailable", 30052),
    ],
)
def test_a_refusal_leaves_nothing_behind(refused_as: str, code: str, type_: int) -> None:
    on = lite()
    begun = opened(decided(modify(on, items=PRO, nickname="x", address="203.0.113.7"), on))
    decision = told(begun, on, confirmed=False, service_id=None, refusal=refused_as)
    assert refused_with(decision) == code
    assert isinstance(decision.settled_answer, Rejected)
    assert PARTNER_ERROR_TYPES[decision.settled_answer.code] == type_
    assert (decision.events, decision.elsewhere, decision.releases, decision.open) == ((), {}, (), None)
    assert decision.settled_order == ORDER_ID


def test_the_very_same_request_joins_and_every_other_command_waits() -> None:
    on = lite()
    command = modify(on, items=PRO, nickname="x")
    begun = opened(decided(command, on))
    assert isinstance(decided(command, on, open=begun).answer, Pending)
    for other in (
        replace(command, return_state=False),
        replace(command, asked_by="stranger"),
        modify(on, items=PRO),
        modify(on, nickname="x"),
    ):
        assert isinstance(decided(other, on, open=begun).answer, Waiting), other
    assert isinstance(
        decide(Case(license=on, open=begun), an_upgrade(product="ISPMGR6-PRO"), RULES, now=NOW).answer, Waiting
    )
    full = decided(modify(on, nickname="y"), on, open=begun, in_line=LINE_MAX)
    assert refusal(full)[0] == "license_busy"
    assert full.open == begun


def _without_502() -> OwnerBook:
    owner = Owner(owner_id="70010001", reseller="70000000", default_configuration=501, configurations=frozenset({501}))
    return OwnerBook(owners={**OWNERS.owners, "70010001": owner}, accounts=OWNERS.accounts)


@pytest.mark.parametrize(
    ("others", "owners", "code"),
    [
        ((lite(number="2", key={"address": "203.0.113.7"}),), OWNERS, "key_address_taken"),
        ((), _without_502(), "key_configuration_unsuitable"),
        ((), OwnerBook(owners=OWNERS.owners), "key_unknown"),
    ],
    ids=["somebody else took the address", "the configuration is gone", "the account speaks for nobody now"],
)
def test_what_became_impossible_meanwhile_is_undone_upstream_and_told(
    others: tuple[License, ...], owners: OwnerBook, code: str
) -> None:
    on = lite()
    begun = opened(decided(modify(on, items=PRO, address="203.0.113.7", configuration_id=502, nickname="x"), on))
    decision = told(begun, on, *others, owners=owners)
    assert refused_with(decision) == code
    assert (decision.events, decision.elsewhere, decision.open) == ((), {}, None)
    assert [(step.kind, step.elid, step.product.sku) for step in decision.releases] == [
        (StepKind.END, FRESH, "ISPMGR6-PRO")
    ]
    assert [each.kind for each in decision.attention] == [AttentionKind.SURPLUS_SERVICE]
    assert str(FRESH) in decision.attention[0].text


def test_a_key_that_moved_along_with_its_parent_is_upgraded_where_it_is_now() -> None:
    parent = ParentKey(license_id=k1().license_id, key_id=20240317, activation_code=CODE_2)
    on = lite(key={"parent": parent})
    begun = opened(decided(modify(on, items=PRO, owner_id="70010001", nickname="x"), on, k1()))
    moved = lite(key={"parent": parent, "owner": "70010002", "configuration": 777})
    decision = told(begun, moved, k1(owner="70010002", configuration=777))
    assert kinds(decision) == ["upgraded", "modified"]
    key = after(moved, decision).key
    assert key is not None
    assert (key.owner, key.configuration, key.nickname, key.parent) == ("70010002", 777, "x", parent)


def test_what_the_rules_say_later_does_not_undo_what_they_allowed() -> None:
    on = lite()
    begun = opened(decided(modify(on, items=PRO), on))
    sold_no_more = {sku: product for sku, product in CATALOG.products.items() if sku != "ISPMGR6-PRO"}
    decision = told(begun, on, rules=Rules(catalog=Catalog(version=2, products=sold_no_more)))
    assert after(on, decision).product == "ISPMGR6-PRO"


def test_a_license_that_lapses_meanwhile_is_upgraded_all_the_same() -> None:
    on = lite()
    begun = opened(decided(modify(on, items=PRO, nickname="x"), on))
    decision = told(begun, on, now=NOW + timedelta(days=60))
    assert kinds(decision) == ["lapsed", "upgraded", "modified"]
    assert after(on, decision).status is LicenseStatus.LAPSED


def with_nodes() -> Rules:
    """Rules in which LITE and PRO are sold by nodes."""
    offers = {"ISPMGR6-LITE": (546, 9546), "ISPMGR6-PRO": (547, 9547)}
    products = dict(CATALOG.products)
    for sku, (pricelist, code) in offers.items():
        offer = ProviderOffer(order_function="softexternal.order.param", pricelist=pricelist, node_code=code)
        products[sku] = replace(products[sku], offer=offer)
    return Rules(catalog=Catalog(version=2, products=products))


def test_a_refusal_after_the_service_was_ordered_releases_it() -> None:
    rules = with_nodes()
    on = lite()
    assert on.service is not None
    data = ServerData(address="203.0.113.10", nodes=3)
    on = replace(on, service=replace(on.service, data=data))
    begun = opened(decided(modify(on, items=PRO, nickname="x"), on, rules=rules))
    assert [step.kind for step in begun.steps] == [StepKind.ORDER, StepKind.NODES]
    ordered = told(begun, on, rules=rules)
    assert ordered.open is not None
    assert (ordered.events, ordered.settled_answer, ordered.order) == ((), None, begun.steps[1])
    second = replace(ordered.open, order_id=ORDER_ID)
    refused = told(second, on, rules=rules, confirmed=False, service_id=None, refusal="payment_required")
    assert refused_with(refused) == "provider_unavailable"
    assert refused.events == ()
    assert [(step.kind, step.elid) for step in refused.releases] == [(StepKind.END, FRESH)]
    assert [each.kind for each in refused.attention] == [AttentionKind.SURPLUS_SERVICE]
    done = told(second, on, rules=rules)
    service = after(on, done).service
    assert service is not None
    assert (service.elid, service.data.nodes) == (FRESH, 3)


def test_a_product_that_needs_no_other_service_is_switched_at_once() -> None:
    bronze = lite(product="Bronze", service=None)
    decision = decided(
        modify(bronze, items=(WantedItem(item="Silver", external_id="S-7", external_id_given=True),)), bronze
    )
    assert kinds(decision) == ["upgraded", "modified"]
    assert structure(decision)["items"] == [{"externalId": "S-7", "item": "Silver"}]
    nfr = decided(modify(lite(), items=(WantedItem(item="NFR-ISPMGR6-LITE"),)), lite())
    assert kinds(nfr) == ["upgraded", "modified"]
    changed = after(lite(), nfr)
    assert (changed.product, changed.service) == ("NFR-ISPMGR6-LITE", lite().service)


def test_a_module_is_exchanged_only_where_it_was_bought() -> None:
    products = dict(CATALOG.products)
    small = products["SOFTACULOUS-ISPMGR5"]
    products["LARGE-MODULE"] = replace(small, sku="LARGE-MODULE")
    products[small.sku] = replace(small, upgrades_to=("LARGE-MODULE",))
    rules = Rules(catalog=Catalog(version=2, products=products))
    service = UpstreamService(elid=OLD, sku=small.sku, data=ServerData(parent_number="00481515"), expires_on=None)
    on = lite(product=small.sku, service=service)
    code, told_of = refusal(decided(modify(on, items=(WantedItem(item="LARGE-MODULE"),)), on, rules=rules))
    assert (code, told_of["reason"]) == ("key_items_refused", "a module is changed where it was bought")


def test_the_reference_of_the_item_stays_unless_the_request_gives_another() -> None:
    on = lite(key={"items": (KeyItem(item="ISPMGR6-LITE", external_id="S-1", unmatched=True),)})
    kept = after(on, told(opened(decided(modify(on, items=PRO), on)), on)).key
    named = (WantedItem(item="ISPMGR6-PRO", external_id="S-2", external_id_given=True),)
    given = after(on, told(opened(decided(modify(on, items=named), on)), on)).key
    assert kept is not None
    assert given is not None
    assert (kept.items[0].external_id, given.items[0].external_id) == ("S-1", "S-2")


def test_a_termination_takes_effect_at_once_and_the_service_is_released_after_the_wind_down() -> None:
    on = lite()
    decision = decided(modify(on, terminated=True, nickname="bye"), on)
    assert kinds(decision) == ["modified", "terminated"]
    assert (decision.order, decision.releases) == (None, ())
    ended = after(on, decision)
    assert (ended.status, ended.service) == (LicenseStatus.TERMINATED, on.service)
    close = CloseUpstream(account="ka", number="00481516")
    wind_down = timedelta(days=CATALOG.products["ISPMGR6-LITE"].wind_down_days)
    early = decide(Case(license=ended), close, RULES, now=NOW + wind_down - timedelta(hours=1))
    due = decide(Case(license=ended), close, RULES, now=NOW + wind_down)
    assert early.releases == ()
    assert [(step.kind, step.elid) for step in due.releases] == [(StepKind.END, OLD)]


@pytest.mark.parametrize(("asked_by", "waits"), [("partner", True), ("stranger", False)])
def test_a_termination_of_a_key_that_the_provider_holds_up_stops_further_orders(asked_by: str, *, waits: bool) -> None:
    on = lite(expires_on=date(2024, 6, 15))
    begun = opened(decided(modify(on, items=PRO), on))
    delete = TerminateKey(account=on.account, number=on.number, asked_by=asked_by)

    decision = decided(delete, on, open=begun)

    assert decision.answer == Waiting()
    assert decision.open == replace(begun, termination_waits=waits), "who may not see a key hinders nothing about it"
    ordered = told(replace(begun, termination_waits=waits), on, service_expires_on=date(2024, 4, 30))
    assert (ordered.order is None) is waits
    assert ("upgraded" in kinds(ordered)) is waits


def test_local_changes_of_a_provider_product_wait_for_nobody() -> None:
    on = lite()
    decision = decided(modify(on, owner_id="70010002", nickname="over"), on)
    assert kinds(decision) == ["moved", "modified"]
    suspended = decided(modify(on, suspended=True, nickname="unpaid"), on)
    assert kinds(suspended) == ["suspended", "modified"]
    assert not any(isinstance(event, LicenseUpgraded | ServiceChanged) for event in decision.events + suspended.events)


def test_the_stored_plan_keeps_null_and_omitted_apart() -> None:
    on = lite()
    command = modify(on, items=PRO, address=None, nickname=None, configuration_id=None)
    begun = opened(decided(command, on))
    read = OPEN_OPERATION.validate_json(OPEN_OPERATION.dump_json(begun))
    assert read == begun
    assert read.key_operations == ("UPGRADE",)
    assert isinstance(read.command, ModifyKey)
    assert read.command.members == members(items=PRO, address=None, nickname=None, configuration_id=None)
    assert read.is_repeated_by(command)


def test_an_operation_stored_before_there_were_plans_of_keys_is_read() -> None:
    begun = opened(decided_isv(lite()))
    stored = json.loads(OPEN_OPERATION.dump_json(begun))
    del stored["key_operations"]
    assert OPEN_OPERATION.validate_json(json.dumps(stored)) == begun
