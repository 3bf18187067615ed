"""What each operation asks before it is carried out, and the commands around "modify" (partner-api 3, 6.1)."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from shared.contracts.key_commands import (
    ConvertToEdition,
    Edition,
    Idempotency,
    KeyReference,
    ReinstateSus,
    RenewKey,
    RenewSus,
    SetRemainingActivations,
    TerminateKey,
    WantedActivation,
    WantedItem,
)
from shared.contracts.replies import ReplyStatus
from shared.domain.case import Rules
from shared.domain.catalog import Catalog, ItemKind, ItemTerms, Product, ProductKind
from shared.domain.decision import KnownRequest, SameAgain, Waiting
from shared.domain.key_details import KeyItem, MonthlyActivations, ParentKey
from shared.domain.key_owners import LinkedAccount, OwnerBook
from shared.domain.license import License, LicenseStatus
from shared.domain.open_operation import OpenOperation
from shared.domain.provisioning import ServerData
from tests.builders import a_purchase
from tests.key_builders import (
    CATALOG,
    CODE_1,
    CREATED,
    K1_ID,
    NOW,
    OWNERS,
    a_create,
    after,
    decided,
    k1,
    k2,
    modify,
    refusal,
    structure,
)
from workers.license.key_questions import questions_of

ATTACHED = ParentKey(license_id=K1_ID, key_id=20240317, activation_code=CODE_1)
TO_K1 = {"parent": KeyReference(key_id=20240317)}
ENDED: dict[str, Any] = {"status": LicenseStatus.TERMINATED, "terminated_at": NOW}
SUSPENDED = {"suspended": True}
FEATURE = WantedItem(item="FT-PLESK-5-LANGUAGE-PACKS-1M")
ADMIN, HOST = WantedItem(item="PLESK-12-WEB-ADMIN-1M"), WantedItem(item="PLESK-12-WEB-HOST-1M")
OTHER = {"number": "20240500"}


def other_k2(**key: Any) -> License:
    return k2(license=OTHER, **{"key_id": 20240500, "activation_code": "ZZZZZZ-ZZZZZZ-ZZZZZZ-ZZZZZZ-ZZZZZZ", **key})


def asked(kind: type, on: License | None = None, **more: Any) -> Any:
    number = "20240317" if on is None else on.number
    return kind(account="partner", number=number, asked_by="partner", **more)


@pytest.mark.parametrize("owner", ["unknown", "80000001", "70000000", "70010003", None])
def test_a_key_moves_only_to_a_client_within_reach_that_is_not_suspended(owner: str | None) -> None:
    assert refusal(decided(modify(k1(), owner_id=owner), k1())) == ("key_owner_unsuitable", {"owner": owner or ""})


def test_an_attached_key_does_not_move_by_itself() -> None:
    on = k2(parent=ATTACHED)
    assert refusal(decided(modify(on, owner_id="70010002"), on, k1())) == (
        "key_parent_unsuitable",
        {"parent": "20240317"},
    )


@pytest.mark.parametrize(
    "given",
    [
        {"items": (WantedItem(item="360-MON-1M"), WantedItem(item="360-MON-SITE-1M"))},
        {"activation": WantedActivation(uid="a")},
        {"address": "203.0.113.7"},
        {"configuration_id": 502},
        TO_K1,
    ],
)
def test_five_operations_wait_until_a_suspended_key_is_resumed(given: dict[str, Any]) -> None:
    on = k2(license=SUSPENDED)
    assert refusal(decided(modify(on, **given), on, k1())) == ("key_suspended", {"number": "PLSK.20240401.0000"})


def test_the_other_operations_are_carried_out_on_a_suspended_key() -> None:
    on = k1(license=SUSPENDED)
    assert structure(decided(modify(on, owner_id="70010002", nickname="x", auto_renew=False, items=None), on))
    assert structure(decided(modify(on, terminated=True), on))["status"] == "TERMINATED"


def test_what_is_sold_for_good_is_not_terminated() -> None:
    on = k1(purchased=True)
    expected = ("key_state_refused", {"number": "PLSK.20240317.0000"})
    assert refusal(decided(modify(on, terminated=True), on)) == expected
    assert refusal(decided(asked(TerminateKey), on)) == expected


def test_a_kind_of_key_without_the_flag_is_neither_suspended_nor_resumed() -> None:
    terms = ItemTerms(kind=ItemKind.BASE, family="fixed", suspendable=False)
    fixed = Product(sku="FIXED-1M", kind=ProductKind.KEY_ITEM, item=terms)
    rules = Rules(catalog=Catalog(version=2, products={"FIXED-1M": fixed}))
    on = k1(items=(KeyItem(item="FIXED-1M"),), family="fixed")
    assert refusal(decided(modify(on, suspended=True), on, rules=rules))[0] == "key_state_refused"


@pytest.mark.parametrize(
    ("items", "code", "item"),
    [
        ((WantedItem(item="NO-SUCH-1M"),), "key_item_unknown", "NO-SUCH-1M"),
        ((ADMIN, WantedItem(item="Bronze")), "key_item_unknown", "Bronze"),
        ((ADMIN, FEATURE, FEATURE), "key_items_refused", FEATURE.item),
        ((FEATURE,), "key_items_refused", ""),
        ((), "key_items_refused", ""),
        ((ADMIN, HOST), "key_items_refused", HOST.item),
        ((ADMIN, WantedItem(item="360-MON-SITE-1M")), "key_items_refused", "360-MON-SITE-1M"),
        ((ADMIN, replace(FEATURE, quantity=2)), "key_items_refused", FEATURE.item),
        ((WantedItem(item="360-MON-1M"),), "key_items_refused", "360-MON-1M"),
        ((WantedItem(item="PLESK-12-VPS-WEB-PRO-1M"),), "key_items_refused", "PLESK-12-VPS-WEB-PRO-1M"),
    ],
)
def test_a_set_of_items_that_no_key_can_hold_is_refused(items: tuple[WantedItem, ...], code: str, item: str) -> None:
    found, told = refusal(decided(modify(k1(), items=items), k1()))
    assert (found, told["item"]) == (code, item)


def test_a_downgrade_needs_the_catalogs_leave() -> None:
    on = k1(items=(KeyItem(item="PLESK-12-WEB-HOST-1M"),))
    assert structure(decided(modify(on, items=(ADMIN,)), on))["items"][0]["item"] == "PLESK-12-WEB-ADMIN-1M"
    host = CATALOG.products["PLESK-12-WEB-HOST-1M"]
    assert host.item is not None
    stuck = {**CATALOG.products, host.sku: replace(host, item=replace(host.item, downgradable=False))}
    decision = decided(modify(on, items=(ADMIN,)), on, rules=Rules(catalog=Catalog(version=2, products=stuck)))
    assert refusal(decision)[0] == "key_items_refused"


def test_only_new_constants_must_be_in_the_price_list() -> None:
    link = LinkedAccount(
        account="partner", owner="70000000", default_client="70010001", price_list=frozenset({FEATURE.item})
    )
    owners = OwnerBook(owners=OWNERS.owners, accounts={"partner": link})
    assert structure(decided(modify(k1(), items=(ADMIN, FEATURE)), k1(), owners=owners))
    assert refusal(decided(modify(k1(), items=(HOST,)), k1(), owners=owners))[0] == "key_items_refused"
    assert refusal(decided(a_create(), None, owners=owners))[0] == "key_items_refused"


def test_an_unmatched_item_must_come_back_unchanged() -> None:
    on = k1(items=(KeyItem(item="PLESK-12-WEB-ADMIN-1M"), KeyItem(item="Old thing", unmatched=True)))
    assert refusal(decided(modify(on, items=(ADMIN, FEATURE)), on))[1]["item"] == "Old thing"
    altered = WantedItem(item="Old thing", quantity=2)
    assert refusal(decided(modify(on, items=(ADMIN, altered)), on))[1]["item"] == "Old thing"
    kept = structure(decided(modify(on, items=(ADMIN, WantedItem(item="Old thing"), FEATURE)), on))["items"]
    assert [each["item"] for each in kept] == ["PLESK-12-WEB-ADMIN-1M", "Old thing", FEATURE.item]


@pytest.mark.parametrize(
    ("on", "given", "reason"),
    [
        (k1(), WantedActivation(uid="a"), "the product has no activation"),
        (k2(), WantedActivation(uid=""), "the UID is empty"),
        (k2(), WantedActivation(activated=True), "the UID is empty"),
        (k2(uid="a"), None, "an activated key cannot be deactivated"),
        (k2(uid="a"), WantedActivation(uid="a", activated=False), "an activated key cannot be deactivated"),
        (k2(), WantedActivation(uid="taken"), "the UID is in use by another key of the product"),
        (
            k2(activations=MonthlyActivations(month=date(2024, 3, 1), remaining=0)),
            WantedActivation(uid="a"),
            "no activation is left this month",
        ),
    ],
)
def test_activation_is_refused(on: License, given: WantedActivation | None, reason: str) -> None:
    code, told = refusal(decided(modify(on, activation=given), on, other_k2(uid="taken")))
    assert (code, told["reason"]) == ("key_activation_refused", reason)


def test_activations_are_counted_by_the_month() -> None:
    on = k2(activations=MonthlyActivations(month=date(2024, 3, 1), remaining=1))
    done = after(on, decided(modify(on, activation=WantedActivation(uid="a")), on))
    assert done.key is not None
    assert done.key.activations == MonthlyActivations(month=date(2024, 3, 1), remaining=0)
    april = datetime(2024, 4, 1, tzinfo=UTC)
    done = after(done, decided(modify(done, activation=WantedActivation(uid="b")), done, now=april))
    assert done.key is not None
    assert (done.key.uid, done.key.activations) == ("b", MonthlyActivations(month=date(2024, 4, 1), remaining=9))


@pytest.mark.parametrize(
    ("stored", "given", "field"),
    [
        ({}, {"address": "no address"}, "address"),
        ({}, {"address": "203.0.113.0/24"}, "address"),
        ({}, {"restrict_address": True}, "restrict_address"),
        ({"address": "203.0.113.7"}, {"address": None, "restrict_address": True}, "restrict_address"),
        ({}, {"nickname": "x" * 256}, "nickname"),
    ],
)
def test_impossible_values_are_refused(stored: dict[str, Any], given: dict[str, Any], field: str) -> None:
    assert refusal(decided(modify(k1(**stored), **given), k1(**stored))) == ("key_value_invalid", {"field": field})


def test_unbinding_ends_the_restriction() -> None:
    on = k1(address="203.0.113.7", restrict_address=True)
    told = structure(decided(modify(on, address=None), on))
    assert (told["ipAddressBinding"], told["restrictIPBinding"]) == (None, False)


def test_an_address_is_held_once_among_live_keys_of_a_family() -> None:
    holder = other_k2(address="203.0.113.7")
    expected = ("key_address_taken", {"address": "203.0.113.7"})
    assert refusal(decided(modify(k2(), address="203.0.113.7"), k2(), holder)) == expected
    assert structure(decided(modify(k1(), address="203.0.113.7"), k1(), holder)), "another family"
    ended = replace(holder, status=LicenseStatus.TERMINATED, terminated_at=NOW)
    assert structure(decided(modify(k2(), address="203.0.113.7"), k2(), ended)), "a terminated key holds nothing"


def test_a_configuration_must_be_the_owners() -> None:
    assert refusal(decided(modify(k1(), configuration_id=777), k1())) == (
        "key_configuration_unsuitable",
        {"configuration": "777"},
    )
    on = k1(configuration=502)
    assert structure(decided(modify(on, configuration_id=None), on))["productConfigurationId"] == 501


@pytest.mark.parametrize(
    "parent",
    [
        k1(license={"number": "1"}, key_id=1),
        k1(license=ENDED),
        k1(license=SUSPENDED),
        k1(owner="70010002"),
        k1(parent=ParentKey(license_id=K1_ID, key_id=9, activation_code="x")),
        other_k2(key_id=20240317),
    ],
    ids=["not found", "terminated", "suspended", "of another owner", "itself a child", "not applicable"],
)
def test_an_unsuitable_parent_is_refused(parent: License) -> None:
    assert refusal(decided(modify(k2(), **TO_K1), k2(), parent)) == ("key_parent_unsuitable", {"parent": "20240317"})


@pytest.mark.parametrize(
    "number", [f"PLSK.{'9' * 200}.0000", "PLSK.9999999999999999", "PLSK.1", "EXT.20240317.0000", "x"]
)
def test_a_parents_number_that_no_key_can_have_is_refused_without_asking_the_database(number: str) -> None:
    asked = modify(k2(), parent=KeyReference(key_number=number))
    questions = questions_of([asked])
    assert questions is not None
    assert all(key_id < 2**63 for key_id in questions.key_ids)
    assert refusal(decided(asked, k2(), k1())) == ("key_parent_unsuitable", {"parent": number})


def test_a_base_key_or_the_key_itself_is_never_attached() -> None:
    main = k1(license=OTHER, key_id=20240500, activation_code="x")
    assert refusal(decided(modify(main, **TO_K1), main, k1()))[0] == "key_parent_unsuitable"
    itself = KeyReference(key_id=20240401)
    assert refusal(decided(modify(k2(), parent=itself), k2()))[0] == "key_parent_unsuitable"


def test_a_parent_has_one_child_of_a_type() -> None:
    first = other_k2(parent=ATTACHED)
    assert refusal(decided(modify(k2(), **TO_K1), k2(), k1(), first))[0] == "key_parent_unsuitable"
    gone = replace(first, status=LicenseStatus.TERMINATED, terminated_at=NOW)
    assert structure(decided(modify(k2(), **TO_K1), k2(), k1(), gone))["parentKeyIdentifiers"]["keyId"] == 20240317


def test_a_child_goes_from_one_parent_to_another_and_both_are_checked() -> None:
    on = k2(parent=ATTACHED)
    second = k1(license=OTHER, key_id=20240500, activation_code="x")
    decision = decided(modify(on, parent=KeyReference(key_id=20240500)), on, k1(), second)
    assert structure(decision)["parentKeyIdentifiers"]["keyId"] == 20240500
    assert decision.elsewhere == {K1_ID: (), second.license_id: ()}
    detached = decided(modify(on, parent=None), on, k1())
    assert structure(detached)["parentKeyIdentifiers"] is None


@pytest.mark.parametrize("field", ["terminated", "suspended"])
def test_no_key_is_made_terminated_or_suspended(field: str) -> None:
    assert refusal(decided(a_create(**{field: True}), None)) == ("key_value_invalid", {"field": field})
    assert structure(decided(a_create(**{field: False}), None))["status"] == "ACTIVE"


def test_a_create_takes_all_members_or_makes_nothing() -> None:
    wanted = {
        "items": (WantedItem(item="360-MON-1M"),),
        "owner_id": "70010001",
        "address": "203.0.113.7",
        "activation": WantedActivation(uid="ops@example.org"),
        "configuration_id": 502,
        "nickname": "n",
        "auto_renew": False,
        **TO_K1,
    }
    command = replace(a_create(**wanted), number="20240401")
    told = structure(decided(command, None, k1()))
    assert (told["ipAddressBinding"], told["productConfigurationId"], told["nickname"]) == ("203.0.113.7", 502, "n")
    assert (told["autoRenew"], told["parentKeyIdentifiers"]["keyId"]) == (False, 20240317)
    assert told["activationInfo"] == {"uid": "ops@example.org", "activated": True}
    refused = replace(a_create(**{**wanted, "configuration_id": 999}), number="20240401")
    assert refusal(decided(refused, None, k1()))[0] == "key_configuration_unsuitable"


@pytest.mark.parametrize("owner", ["70000000", "80000001", "unknown"])
def test_a_key_is_made_for_clients_within_reach_only(owner: str) -> None:
    assert refusal(decided(a_create(owner_id=owner), None))[0] == "key_owner_unsuitable"


def test_a_resellers_create_must_name_an_owner_where_there_is_no_default_client() -> None:
    owners = OwnerBook(owners=OWNERS.owners, accounts={"partner": LinkedAccount(account="partner", owner="70000000")})
    assert refusal(decided(a_create(), None, owners=owners))[0] == "key_owner_unsuitable"
    assert structure(decided(a_create(owner_id="70010002"), None, owners=owners))["productConfigurationId"] == 777


def test_the_update_subscription_is_renewed_while_it_runs_and_reinstated_afterwards() -> None:
    renew, reinstate = asked(RenewSus, return_state=True), asked(ReinstateSus, return_state=True, external_id="S-2")
    told = structure(decided(renew, k1()))
    assert (told["susExpirationDate"], told["susStatus"]) == ("2025-04-15T00:00:00.000Z", "ACTIVE")
    assert refusal(decided(reinstate, k1()))[0] == "key_sus_state"
    later = datetime(2024, 4, 15, tzinfo=UTC)
    assert refusal(decided(renew, k1(), now=later))[0] == "key_sus_state"
    told = structure(decided(reinstate, k1(), now=later), later)
    assert (told["susExpirationDate"], told["susStatus"]) == ("2025-04-15T00:00:00.000Z", "ACTIVE")
    assert told["items"][0]["externalId"] == "S-2"
    assert refusal(decided(asked(RenewSus, k2()), k2()))[0] == "key_sus_state"


def test_conversion_leaves_the_single_item_of_the_edition() -> None:
    on = k1(items=(KeyItem(item="PLESK-12-WEB-ADMIN-1M", external_id="S-1"), KeyItem(item=FEATURE.item)))
    decision = decided(asked(ConvertToEdition, edition=Edition.WEB_HOST, return_state=True), on)
    assert structure(decision)["items"] == [{"externalId": None, "item": "PLESK-12-WEB-HOST-1M"}]
    assert structure(decision)["keyIdentifiers"]["keyNumber"] == "PLSK.20240317.0001"
    done = after(on, decision)
    assert decided(asked(ConvertToEdition, edition=Edition.WEB_HOST), done).events == ()
    assert refusal(decided(asked(ConvertToEdition, k2(), edition=Edition.WEB_PRO), k2()))[0] == "key_items_refused"
    vps = k1(items=(KeyItem(item="PLESK-12-VPS-WEB-ADMIN-1M"),))
    told = structure(decided(asked(ConvertToEdition, edition=Edition.WEB_PRO), vps))
    assert told["items"][0]["item"] == "PLESK-12-VPS-WEB-PRO-1M"


def test_activations_left_are_set_for_this_month() -> None:
    done = after(k2(), decided(asked(SetRemainingActivations, k2(), remaining=0), k2()))
    assert refusal(decided(modify(done, activation=WantedActivation(uid="a")), done))[0] == "key_activation_refused"
    assert decided(asked(SetRemainingActivations, k2(), remaining=0), done).events == ()


@pytest.mark.parametrize(
    "command",
    [
        asked(RenewKey),
        asked(RenewSus),
        asked(ReinstateSus),
        asked(ConvertToEdition, edition=Edition.WEB_HOST),
        asked(SetRemainingActivations, remaining=1),
        modify(k1(), nickname="too late"),
    ],
    ids=lambda command: command.type,
)
def test_nothing_is_done_with_a_terminated_key(command: Any) -> None:
    assert refusal(decided(command, k1(license=ENDED)))[0] == "key_terminated"


@pytest.mark.parametrize(
    "command",
    [asked(RenewKey), asked(TerminateKey), asked(SetRemainingActivations, remaining=1), modify(k1(), nickname="x")],
    ids=lambda command: command.type,
)
def test_an_account_that_does_not_reach_the_owner_finds_nothing(command: Any) -> None:
    assert refusal(decided(replace(command, asked_by="stranger"), k1())) == ("key_unknown", {"key": "20240317"})


def test_a_key_without_renewal_is_not_renewed() -> None:
    on = k1(update_on=None, purchased=True)
    assert refusal(decided(asked(RenewKey), on))[0] == "key_state_refused"


def test_a_named_request_is_answered_as_before_or_refused_for_anything_else() -> None:
    known = KnownRequest(body_sha256="ab" * 32, status=ReplyStatus.KEY_STATE, meta=b"20240317", body=b"{}")
    command = replace(a_create(), idempotency=Idempotency(key="order-7", body_sha256="ab" * 32))
    decision = decided(command, None, known_request=known)
    assert (decision.answer, decision.events) == (SameAgain(known), ())
    other = replace(command, idempotency=Idempotency(key="order-7", body_sha256="cd" * 32))
    assert refusal(decided(other, None, known_request=known)) == (
        "key_repeat_differs",
        {"parameter": "Idempotency-Key"},
    )


def test_a_command_waits_in_line_behind_an_operation_upstream() -> None:
    opened = OpenOperation(command=a_purchase(), data=ServerData(), steps=())
    decision = decided(modify(k1(), nickname="x"), k1(), open=opened)
    assert (decision.answer, decision.events, decision.open) == (Waiting(), (), opened)


def test_a_due_key_lapses_first_and_a_renewal_brings_it_back() -> None:
    late = datetime(2024, 4, 20, tzinfo=UTC)
    decision = decided(asked(RenewKey, return_state=True), k1(), now=late)
    assert after(k1(), decision).status is LicenseStatus.ACTIVE
    assert len(decision.events) == 2
    assert structure(decision, late)["status"] == "ACTIVE"
    shown = structure(decided(modify(k1(), nickname="x"), k1(), now=late), late)
    assert shown["status"] == "EXPIRED"
    assert (
        structure(decided(modify(k1(), nickname="x"), k1()), datetime(2024, 4, 5, tzinfo=UTC))["status"] == "EXPIRING"
    )


def test_a_suspended_owner_shows_in_the_status() -> None:
    book = {**OWNERS.owners, "70010001": replace(OWNERS.owners["70010001"], suspended=True)}
    told = structure(decided(modify(k1(), nickname="x"), k1(), owners=replace(OWNERS, owners=book)))
    assert (told["ownerSuspended"], told["suspended"], told["status"]) == (True, False, "SUSPENDED")
    assert told["creationDate"] == CREATED.strftime("%Y-%m-%dT%H:%M:%S.120Z")
