"""The worked examples of docs/protocols/partner-api.md 9, as far as rules decide them."""

from datetime import UTC, date, datetime

from shared.contracts.envelope import new_id
from shared.contracts.events import EventType, KeyEventData
from shared.contracts.key_commands import KeyReference, RenewKey, TerminateKey, WantedActivation, WantedItem
from shared.domain.decision import Decision, KeyState
from shared.domain.key_details import KeyItem, ParentKey
from shared.domain.key_structure import KeyStatus, key_status, short_structure
from shared.domain.license import LicenseStatus, evolve
from shared.domain.publication import event_type, public_event
from tests.key_builders import (
    CODE_1,
    CREATED,
    K1_ID,
    K2_ID,
    NOW,
    a_create,
    after,
    decided,
    k1,
    k2,
    modify,
    refusal,
    structure,
)

ATTACHED = ParentKey(license_id=K1_ID, key_id=20240317, activation_code=CODE_1)
AS_PUBLISHED = {
    "ownerId": "70010001",
    "keyIdentifiers": {
        "keyId": 20240317,
        "keyNumber": "PLSK.20240317.0000",
        "activationCode": "QK10A7-ZZ81MM-04TB5X-PL9W2C-7HD3RE",
        "activationLink": None,
    },
    "parentKeyIdentifiers": None,
    "activationInfo": None,
    "ipAddressBinding": None,
    "nickname": "",
    "productConfigurationId": 501,
    "items": [{"externalId": "S-1", "item": "PLESK-12-WEB-ADMIN-1M"}],
    "creationDate": "2024-03-05T10:15:30.120Z",
    "lastModificationDate": "2024-03-05T10:15:30.120Z",
    "updateDate": "2024-04-05T00:00:00.000Z",
    "expirationDate": "2024-04-15T00:00:00.000Z",
    "susExpirationDate": "2024-04-15T00:00:00.000Z",
    "susStatus": "ACTIVE",
    "supportExpirationDate": None,
    "supportStatus": None,
    "status": "ACTIVE",
    "terminated": False,
    "suspended": False,
    "ownerSuspended": False,
    "autoRenew": True,
    "restrictIPBinding": False,
    "frauds": [],
    "lastReportingDate": None,
    "lastReportingIp": None,
    "childKeyIdentifiers": [],
    "overridingKeyIdentifiers": None,
}
"""K1 as the page shows it."""


def events(decision: Decision) -> list[str]:
    return [str(event_type(event)).rsplit(".", maxsplit=1)[-1] for event in decision.events]


def operations(decision: Decision) -> list[str]:
    (told,) = (event.operations for event in decision.events if hasattr(event, "operations"))
    return list(told)


def test_example_1_creates_k1_exactly_as_published() -> None:
    decision = decided(a_create(), None, now=CREATED)

    assert structure(decision, CREATED) == AS_PUBLISHED
    assert list(structure(decision, CREATED)) == list(AS_PUBLISHED)
    assert events(decision) == ["issued"]
    made = after(None, decision)
    assert (made.license_id, made.revision, made.product) == (K1_ID, 1, "PLESK-12-WEB-ADMIN-1M")


def test_example_2_upgrade_nickname_and_auto_renew() -> None:
    wanted = (
        WantedItem(item="PLESK-12-WEB-PRO-1M", external_id="S-1", external_id_given=True),
        WantedItem(item="FT-PLESK-5-LANGUAGE-PACKS-1M", external_id="S-2", external_id_given=True),
    )
    decision = decided(modify(k1(), auto_renew=False, nickname="shop-eu-1", items=wanted), k1())

    told = structure(decision)
    assert operations(decision) == ["UPGRADE", "NICKNAME", "AUTORENEW"]
    assert told["keyIdentifiers"]["keyNumber"] == "PLSK.20240317.0001"
    assert told["items"] == [
        {"externalId": "S-1", "item": "PLESK-12-WEB-PRO-1M"},
        {"externalId": "S-2", "item": "FT-PLESK-5-LANGUAGE-PACKS-1M"},
    ]
    assert (told["nickname"], told["autoRenew"]) == ("shop-eu-1", False)
    assert told["lastModificationDate"] == "2024-03-20T12:00:00.000Z"
    assert events(decision) == ["upgraded", "modified"]
    changed = after(k1(), decision)
    assert (changed.product, changed.key_version, changed.revision) == ("PLESK-12-WEB-PRO-1M", 1, 2)


def test_examples_3_and_4_suspend_and_resume() -> None:
    suspended = decided(modify(k1(), suspended=True), k1())
    assert (operations(suspended), events(suspended)) == (["STATE"], ["suspended", "modified"])
    assert (structure(suspended)["status"], structure(suspended)["suspended"]) == ("SUSPENDED", True)

    held = after(k1(), suspended)
    resumed = decided(modify(held, suspended=False), held)
    assert (operations(resumed), events(resumed)) == (["STATE"], ["resumed", "modified"])
    assert (structure(resumed)["status"], structure(resumed)["suspended"]) == ("ACTIVE", False)


def test_example_5_names_both_conflicts() -> None:
    command = modify(
        k1(),
        owner_id="70010002",
        nickname="moved",
        address="203.0.113.7",
        items=(WantedItem(item="PLESK-12-WEB-HOST-1M"),),
    )
    assert refusal(decided(command, k1())) == ("key_conflict", {"pairs": "MOVE + UPGRADE; MOVE + IPBIND"})


def test_example_6_suspend_and_attach_conflict() -> None:
    command = modify(k2(), suspended=True, parent=KeyReference(key_id=20240317))
    assert refusal(decided(command, k2(), k1())) == ("key_conflict", {"pairs": "STATE + PARENT"})


def test_example_7_equal_values_are_no_operations() -> None:
    command = modify(
        k1(), owner_id="70010001", suspended=False, address="203.0.113.7", restrict_address=True, nickname="eu-7"
    )
    decision = decided(command, k1())
    assert operations(decision) == ["IPBIND", "NICKNAME"]
    assert (structure(decision)["ipAddressBinding"], structure(decision)["restrictIPBinding"]) == ("203.0.113.7", True)


def test_example_8_move_with_its_harmless_companions() -> None:
    decision = decided(modify(k1(), owner_id="70010002", nickname="handed over", auto_renew=False), k1())
    told = structure(decision)
    assert operations(decision) == ["MOVE", "NICKNAME", "AUTORENEW"]
    assert (told["ownerId"], told["productConfigurationId"]) == ("70010002", 777)
    assert (told["nickname"], told["autoRenew"]) == ("handed over", False)
    assert events(decision) == ["moved", "modified"]


def test_example_9_all_five_compatible_operations_at_once() -> None:
    command = modify(
        k2(),
        parent=KeyReference(key_number="PLSK.20240317.0000"),
        configuration_id=502,
        address="2001:db8::17",
        activation=WantedActivation(uid="ops@example.org", activated=True),
        items=(WantedItem(item="360-MON-1M"), WantedItem(item="360-MON-SITE-1M", quantity=5)),
    )
    decision = decided(command, k2(), k1())
    told = structure(decision)
    assert operations(decision) == ["UPGRADE", "ACTIVATE", "IPBIND", "CONFIG", "PARENT"]
    assert told["parentKeyIdentifiers"] == AS_PUBLISHED["keyIdentifiers"]
    assert told["activationInfo"] == {"uid": "ops@example.org", "activated": True}
    assert (told["ipAddressBinding"], told["productConfigurationId"]) == ("2001:db8::17", 502)
    assert told["items"][1] == {"externalId": None, "item": "360-MON-SITE-1M", "quantity": 5}
    assert decision.elsewhere == {K1_ID: ()}, "the parent must not have changed meanwhile"


def test_example_10_null_unbinds_and_omitted_keeps_the_parent() -> None:
    bound = k2(address="203.0.113.7", parent=ATTACHED)
    decision = decided(modify(bound, address=None), bound, k1())
    assert operations(decision) == ["IPBIND"]
    assert structure(decision)["ipAddressBinding"] is None
    assert structure(decision)["parentKeyIdentifiers"] == AS_PUBLISHED["keyIdentifiers"]


def test_example_11_wrong_key_guard() -> None:
    command = modify(k1(), guard=KeyReference(key_id=20240401), terminated=True)
    assert refusal(decided(command, k1())) == ("key_guard_differs", {"number": "PLSK.20240317.0000"})


def test_example_13_all_or_nothing() -> None:
    command = modify(
        k1(),
        items=(WantedItem(item="PLESK-12-WEB-HOST-1M", external_id="S-1", external_id_given=True),),
        address="203.0.113.8",
        configuration_id=999,
        nickname="never seen",
    )
    assert refusal(decided(command, k1())) == ("key_configuration_unsuitable", {"configuration": "999"})


def test_example_14_terminated_key() -> None:
    ended = k1(license={"status": LicenseStatus.TERMINATED, "terminated_at": NOW})
    assert refusal(decided(modify(ended, nickname="too late"), ended)) == (
        "key_terminated",
        {"number": "PLSK.20240317.0000"},
    )


def test_example_15_rebuild_only_keeps_the_version() -> None:
    wanted = (WantedItem(item="PLESK-12-WEB-ADMIN-1M", external_id="S-9", external_id_given=True),)
    decision = decided(modify(k1(), items=wanted), k1())
    assert (operations(decision), events(decision)) == (["REBUILD"], ["modified"])
    assert structure(decision)["keyIdentifiers"]["keyNumber"] == "PLSK.20240317.0000"
    assert structure(decision)["items"] == [{"externalId": "S-9", "item": "PLESK-12-WEB-ADMIN-1M"}]


def test_example_16_suspend_rebuild_and_nickname() -> None:
    decision = decided(modify(k1(), suspended=True, nickname="unpaid", items=None), k1())
    assert operations(decision) == ["STATE", "REBUILD", "NICKNAME"]
    assert structure(decision)["items"] == AS_PUBLISHED["items"]


def test_example_17_the_whole_structure_as_read_changes_nothing() -> None:
    command = modify(
        k1(),
        owner_id="70010001",
        guard=KeyReference(key_id=20240317, key_number="PLSK.20240317.0000", activation_code=CODE_1),
        parent=None,
        activation=None,
        address=None,
        nickname="",
        configuration_id=501,
        items=(WantedItem(item="PLESK-12-WEB-ADMIN-1M", external_id="S-1", external_id_given=True),),
        terminated=False,
        suspended=False,
        auto_renew=True,
        restrict_address=False,
    )
    decision = decided(command, k1())
    assert decision.events == ()
    assert structure(decision) == AS_PUBLISHED
    ended = k1(license={"status": LicenseStatus.TERMINATED, "terminated_at": NOW})
    assert isinstance(decided(modify(ended, nickname=""), ended).answer, KeyState), "also when it is terminated"


def test_example_18_termination_leaves_an_attached_key_alive_and_attached() -> None:
    child = k2(parent=ATTACHED)
    command = TerminateKey(account="partner", number="20240317", asked_by="partner", return_state=True)
    decision = decided(command, k1(), child)
    told = structure(decision)
    assert (told["status"], told["terminated"]) == ("TERMINATED", True)
    assert [each["keyId"] for each in told["childKeyIdentifiers"]] == [20240401]
    assert (events(decision), decision.elsewhere) == (["terminated"], {})
    again = decided(command, after(k1(), decision), child)
    assert (again.events, structure(again)["status"]) == ((), "TERMINATED")


def test_example_19_short_structure() -> None:
    decision = decided(modify(k1(), suspended=True, nickname="unpaid"), k1())
    assert isinstance(decision.answer, KeyState)
    view = decision.answer.view
    assert key_status(view.standing, NOW) is KeyStatus.SUSPENDED
    assert short_structure(owner_id=view.details.owner, key_id=view.details.key_id, parent_key_id=None) == {
        "ownerId": "70010001",
        "keyId": 20240317,
        "parentKeyId": None,
        "isEls": False,
        "lastReportingOs": None,
    }


def test_example_21_renewal_moves_both_days_by_a_month_once_a_day() -> None:
    command = RenewKey(account="partner", number="20240317", asked_by="partner", return_state=True)
    decision = decided(command, k1())
    told = structure(decision)
    assert told["updateDate"] == "2024-05-05T00:00:00.000Z"
    assert told["expirationDate"] == "2024-05-15T00:00:00.000Z"
    assert events(decision) == ["renewed"]
    renewed = after(k1(), decision)
    again = decided(command, renewed, now=datetime(2024, 3, 21, 11, 59, tzinfo=UTC))
    assert (again.events, structure(again)["updateDate"]) == ((), "2024-05-05T00:00:00.000Z")
    later = decided(command, renewed, now=datetime(2024, 3, 21, 12, tzinfo=UTC))
    assert structure(later)["updateDate"] == "2024-06-05T00:00:00.000Z"


def test_example_22_keys_of_others_are_not_found() -> None:
    assert refusal(decided(modify(k1(), nickname="x"), None)) == ("key_unknown", {"key": "20240317"})
    foreign = k1(owner="80000001")
    assert refusal(decided(modify(foreign, nickname="x"), foreign)) == ("key_unknown", {"key": "20240317"})


def test_children_move_along_with_events_of_their_own() -> None:
    child = k2(parent=ATTACHED)
    decision = decided(modify(k1(), owner_id="70010002"), k1(), child)
    ((key, (moved,)),) = decision.elsewhere.items()
    assert key == K2_ID
    changed = evolve(child, moved)
    assert changed.key is not None
    assert (changed.key.owner, changed.key.configuration, changed.key.parent) == ("70010002", 777, ATTACHED)
    assert event_type(moved) is EventType.MOVED


def test_nothing_follows_an_end() -> None:
    decision = decided(modify(k1(), terminated=True, nickname="gone", auto_renew=False), k1())
    assert operations(decision) == ["STATE", "NICKNAME", "AUTORENEW"]
    assert events(decision) == ["modified", "terminated"]
    assert (structure(decision)["nickname"], structure(decision)["terminated"]) == ("gone", True)


def test_public_events_tell_owner_address_nickname_and_the_operations_in_order() -> None:
    decision = decided(modify(k1(), nickname="eu-7", address="203.0.113.7"), k1())
    public = public_event(decision.events[-1], after(k1(), decision), new_id())
    assert public is not None
    assert isinstance(public.data, KeyEventData)
    assert (public.data.owner, public.data.nickname, public.data.address) == ("70010001", "eu-7", "203.0.113.7")
    assert (public.data.auto_renew, public.data.parent, public.data.key_id) == (True, None, 20240317)
    assert public.data.operations == ("IPBIND", "NICKNAME")
    assert (public.type, public.sequence) == (EventType.MODIFIED, 2)


def test_a_sold_for_good_key_has_no_last_day() -> None:
    on = k1(license={"expires_on": date.max}, update_on=None, purchased=True)
    told = structure(decided(modify(on, nickname="x"), on))
    assert (told["updateDate"], told["expirationDate"], told["status"]) == (None, None, "ACTIVE")


def test_an_unmatched_item_comes_back_with_its_name() -> None:
    on = k1(items=(KeyItem(item="Bronze", unmatched=True),), family="Bronze")
    assert structure(decided(modify(on, nickname="x"), on))["items"] == [{"externalId": None, "item": "Bronze"}]
