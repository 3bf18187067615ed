"""The worked examples of docs/protocols/partner-api.md 9 against the running service.

Owners, configurations and key numbers are those of the local stack: 70010001 is 10001, 70010002 is 10002, 501 and 502
are 101 and 102, 777 is 201; K1 and K2 are made anew by each test.
"""

import asyncio
import json
import re
from typing import Any

import pytest

from tests.process.partner_client import ADMIN, HOST, MONITORING, PACKS, PRO, SITES, Key, Partner, an_address
from tests.process.whole_stack import TEST_SECONDS, WholeStack

pytestmark = [pytest.mark.process, pytest.mark.asyncio, pytest.mark.timeout(TEST_SECONDS)]

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def partner(stack: WholeStack) -> Partner:
    return Partner.of(stack.state)


async def monitoring(partner: Partner, **members: object) -> Key:
    """K2: an additional key of the same owner."""
    return await partner.make(MONITORING, **members)


def without_changes(structure: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in structure.items() if name != "lastModificationDate"}


async def test_e1_create_answers_with_the_address_and_no_body(partner: Partner) -> None:
    told = await partner.call("POST", "/keys", {"items": [{"externalId": "S-1", "item": ADMIN}]})
    assert (told.status, told.body) == (201, b"")
    location = told.headers["location"]
    assert location.startswith(f"http://{partner.base.host}:{partner.base.port}/30/keys/")
    key_id = int(location.rsplit("/", 1)[1])
    structure = await partner.read(key_id)
    assert structure["keyIdentifiers"]["keyNumber"] == f"PLSK.{key_id:08}.0000"
    assert re.fullmatch(r"[A-Z0-9]{6}(-[A-Z0-9]{6}){4}", structure["keyIdentifiers"]["activationCode"])
    assert (structure["ownerId"], structure["productConfigurationId"]) == ("10001", 101)
    assert structure["items"] == [{"externalId": "S-1", "item": ADMIN}]
    assert structure["status"] == "ACTIVE"
    assert MOMENT.fullmatch(structure["creationDate"])
    assert structure["creationDate"] == structure["lastModificationDate"]
    empty = {name for name, value in structure.items() if value in (None, False, [], "")}
    assert empty == {
        "parentKeyIdentifiers",
        "activationInfo",
        "ipAddressBinding",
        "nickname",
        "supportExpirationDate",
        "supportStatus",
        "terminated",
        "suspended",
        "ownerSuspended",
        "restrictIPBinding",
        "frauds",
        "lastReportingDate",
        "lastReportingIp",
        "childKeyIdentifiers",
        "overridingKeyIdentifiers",
    }


async def test_e2_upgrade_nickname_and_auto_renew_together(partner: Partner) -> None:
    key = await partner.make()
    items = [{"externalId": "S-1", "item": PRO}, {"externalId": "S-2", "item": PACKS}]
    structure = await partner.changed(key, {"autoRenew": False, "nickname": "shop-eu-1", "items": items})
    assert structure["keyIdentifiers"]["keyNumber"] == key.full_number(1)
    assert (structure["nickname"], structure["autoRenew"], structure["items"]) == ("shop-eu-1", False, items)
    assert structure == await partner.read(key)


async def test_e3_e4_suspend_by_activation_code_in_any_case_and_resume_in_vendor_spelling(partner: Partner) -> None:
    key = await partner.make()
    told = await partner.put(key.code.lower(), {"suspended": True})
    assert (told.status, told.body) == (200, b"")
    assert (await partner.read(key.code))["status"] == "SUSPENDED"
    told = await partner.put(key, {"suspended": "false"}, "?return-key-state=true")
    assert told.document["status"] == "ACTIVE"
    assert told.document["suspended"] is False


async def test_e5_conflicts_are_all_named_and_nothing_happens(partner: Partner) -> None:
    key = await partner.make()
    before = await partner.read(key)
    told = await partner.put(
        key,
        {
            "ownerId": "10002",
            "nickname": "moved",
            "ipAddressBinding": "203.0.113.7",
            "items": [{"item": HOST}],
        },
    )
    assert told.error == (400, "30010", "Conflicting operations: MOVE + UPGRADE; MOVE + IPBIND.")
    assert told.document["message"] == "The request combines operations that cannot be performed together."
    assert await partner.read(key) == before


async def test_e6_suspend_and_attach_conflict(partner: Partner) -> None:
    parent, child = await partner.make(), await monitoring(partner)
    told = await partner.put(child, {"suspended": True, "parentKeyIdentifiers": {"keyId": parent.id}})
    assert told.error == (400, "30010", "Conflicting operations: STATE + PARENT.")


async def test_e7_fields_that_say_what_is_stored_conflict_with_nothing(partner: Partner) -> None:
    key, address = await partner.make(), an_address()
    body = {
        "ownerId": "10001",
        "suspended": False,
        "ipAddressBinding": address,
        "restrictIPBinding": True,
        "nickname": "eu-7",
    }
    told = await partner.put(key, body)
    assert (told.status, told.body) == (200, b"")
    structure = await partner.read(key)
    assert (structure["ipAddressBinding"], structure["restrictIPBinding"], structure["nickname"]) == (
        address,
        True,
        "eu-7",
    )


async def test_e8_move_takes_the_new_owners_default_configuration_and_the_children(partner: Partner) -> None:
    key, child = await partner.make(), await monitoring(partner)
    await partner.changed(child, {"parentKeyIdentifiers": {"keyId": key.id}})
    structure = await partner.changed(key, {"ownerId": "10002", "nickname": "handed over", "autoRenew": False})
    assert (structure["ownerId"], structure["productConfigurationId"]) == ("10002", 201)
    assert (structure["nickname"], structure["autoRenew"]) == ("handed over", False)
    moved = await partner.read(child)
    assert (moved["ownerId"], moved["productConfigurationId"]) == ("10002", 201)
    assert moved["parentKeyIdentifiers"]["keyId"] == key.id


async def test_e9_the_five_in_the_middle_come_together(partner: Partner) -> None:
    parent, key, address = await partner.make(), await monitoring(partner), f"2001:db8::{an_address().split('.')[3]}:17"
    body = {
        "parentKeyIdentifiers": {"keyNumber": parent.full_number()},
        "productConfigurationId": 102,
        "ipAddressBinding": address,
        "activationInfo": {"uid": f"ops-{key.id}@example.org", "activated": 1},
        "items": [{"item": MONITORING}, {"item": SITES, "quantity": 5}],
    }
    told = await partner.put(key, body)
    assert (told.status, told.body) == (200, b""), told
    structure = await partner.read(key)
    assert structure["parentKeyIdentifiers"]["keyId"] == parent.id
    assert structure["productConfigurationId"] == 102
    assert structure["activationInfo"] == {"uid": f"ops-{key.id}@example.org", "activated": True}
    assert structure["items"] == [
        {"externalId": "S-1", "item": MONITORING},
        {"externalId": None, "item": SITES, "quantity": 5},
    ]
    assert [each["keyId"] for each in (await partner.read(parent))["childKeyIdentifiers"]] == [key.id]


async def test_e10_null_unbinds_and_an_omitted_parent_stays(partner: Partner) -> None:
    parent, key = await partner.make(), await monitoring(partner)
    await partner.changed(key, {"ipAddressBinding": an_address(), "parentKeyIdentifiers": {"keyId": parent.id}})
    structure = await partner.changed(key, {"ipAddressBinding": None})
    assert structure["ipAddressBinding"] is None
    assert structure["parentKeyIdentifiers"]["keyId"] == parent.id
    detached = await partner.changed(key, {"parentKeyIdentifiers": None})
    assert detached["parentKeyIdentifiers"] is None


async def test_e11_the_guard_keeps_a_call_off_the_wrong_key(partner: Partner) -> None:
    key, other = await partner.make(), await monitoring(partner)
    told = await partner.put(key, {"keyIdentifiers": {"keyId": other.id}, "terminated": True})
    assert told.error == (400, "30011", f"Key number = {key.full_number()}.")
    assert (await partner.put(key, {"keyIdentifiers": {}, "terminated": True})).error[1] == "30011"
    assert (await partner.read(key))["terminated"] is False


async def test_e12_a_forbidden_null(partner: Partner) -> None:
    told = await partner.put(await partner.make(), {"ownerId": None})
    assert told.error == (400, "30003", "Field = ownerId.")


async def test_e13_all_or_nothing(partner: Partner) -> None:
    key = await partner.make()
    before = await partner.read(key)
    body = {
        "items": [{"externalId": "S-1", "item": HOST}],
        "ipAddressBinding": an_address(),
        "productConfigurationId": 999,
        "nickname": "never seen",
    }
    foretold = (await partner.put(key, body, "?dry-run=true")).document
    assert foretold["operations"] == ["UPGRADE", "IPBIND", "CONFIG", "NICKNAME"]
    refused = await partner.put(key, body)
    assert refused.error == (400, "30025", "Product configuration = 999.")
    assert foretold["refusal"] == refused.document
    assert await partner.read(key) == before


async def test_e14_nothing_can_be_done_with_a_terminated_key_but_nothing(partner: Partner) -> None:
    key = await partner.make()
    assert (await partner.call("DELETE", f"/keys/{key.id}")).status == 200
    assert (await partner.put(key, {"nickname": "too late"})).error == (
        400,
        "24204",
        f"Key number = {key.full_number()}.",
    )
    assert (await partner.put(key, {"terminated": False})).error[1] == "24204"
    assert (await partner.put(key, {"nickname": ""})).status == 200
    assert (await partner.call("GET", f"/keys/{key.id}/renew")).error[1] == "24204"


async def test_e15_another_reference_is_a_rebuild_and_no_new_version(partner: Partner) -> None:
    key = await partner.make()
    structure = await partner.changed(key, {"items": [{"externalId": "S-9", "item": ADMIN}]})
    assert structure["keyIdentifiers"]["keyNumber"] == key.full_number()
    assert structure["items"] == [{"externalId": "S-9", "item": ADMIN}]


async def test_e16_suspend_rebuild_and_nickname(partner: Partner) -> None:
    key = await partner.make()
    body = {"suspended": True, "nickname": f"unpaid-{key.id}", "items": None}
    plan = await partner.put(key, body, "?dry-run=true")
    assert plan.document == {"operations": ["STATE", "REBUILD", "NICKNAME"], "conflicts": [], "refusal": None}
    told = await partner.put(key, body)
    assert (told.status, told.body) == (200, b"")
    found = await partner.call("GET", f"/keys?status=suspended&nickname=unpaid-{key.id}")  # E19
    assert found.document == [
        {"ownerId": "10001", "keyId": key.id, "parentKeyId": None, "isEls": False, "lastReportingOs": None}
    ]


async def test_e17_a_structure_sent_back_as_read_changes_nothing(partner: Partner) -> None:
    parent, key = await partner.make(), await monitoring(partner)
    await partner.changed(key, {"parentKeyIdentifiers": {"keyId": parent.id}, "nickname": "as read"})
    for each in (parent, key):
        before = await partner.read(each)
        assert await partner.changed(each, before) == before
        edited = await partner.changed(each, {**before, "nickname": "edited"})
        assert without_changes(edited) == without_changes({**before, "nickname": "edited"})


async def test_e18_a_parent_ends_and_its_child_lives_on(partner: Partner) -> None:
    parent, child = await partner.make(), await monitoring(partner)
    await partner.changed(child, {"parentKeyIdentifiers": {"keyId": parent.id}})
    told = await partner.call("DELETE", f"/keys/{parent.id}?return-key-state=yes")
    assert (told.document["status"], told.document["terminated"]) == ("TERMINATED", True)
    assert told.document["lastModificationDate"] > parent.structure["lastModificationDate"]
    assert told.document == await partner.read(parent)
    alive = await partner.read(child)
    assert (alive["status"], alive["parentKeyIdentifiers"]["keyId"]) == ("ACTIVE", parent.id)
    again = await partner.call("DELETE", f"/keys/{parent.id}")
    assert (again.status, again.body) == (200, b"")


async def test_e20_the_key_file(partner: Partner) -> None:
    key = await partner.make()
    told = await partner.call("GET", f"/keys/{key.id}/retrieve", headers={"Accept": "application/octet-stream"})
    assert told.status == 200
    assert told.headers["content-type"] == "application/octet-stream"
    assert told.headers["content-disposition"] == f"attachment; filename={key.full_number()}.xml"
    assert told.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    older = await partner.call("GET", f"/keys/{key.id}/retrieve?previous-version=yes")
    assert older.body in told.body


async def test_e21_renew_once_however_often_asked(partner: Partner) -> None:
    key = await partner.make()
    first = await partner.call("GET", f"/keys/{key.id}/renew?return-key-state=yes")
    before, after = key.structure, first.document
    assert (before["updateDate"], after["updateDate"]) == ("2027-03-05T00:00:00.000Z", "2027-04-05T00:00:00.000Z")
    assert (before["expirationDate"], after["expirationDate"]) == (
        "2027-03-15T00:00:00.000Z",
        "2027-04-15T00:00:00.000Z",
    )
    again = await partner.call("GET", f"/keys/{key.id}/renew?return-key-state=yes")
    assert again.body == first.body


async def test_e22_e23_unknown_key_and_bad_switch(partner: Partner) -> None:
    key = await partner.make()
    assert (await partner.call("GET", "/keys/99999999")).error == (404, "30042", "Key = 99999999.")
    told = await partner.put(key, {"nickname": "x"}, "?return-key-state=maybe")
    assert told.error == (400, "30004", "Parameter = return-key-state.")


async def test_sus_edition_and_activations(partner: Partner) -> None:
    key = await partner.make()
    renewed = await partner.call("POST", f"/keys/{key.id}/renew-sus?return-key-state=true")
    assert renewed.document["susExpirationDate"] == "2028-03-15T00:00:00.000Z"
    assert (await partner.call("POST", f"/keys/{key.id}/reinstate-sus")).error[:2] == (400, "30029")
    left = f"/keys/{key.id}/remaining-activations"
    assert (await partner.call("POST", f"{left}?remaining-activations=7")).status == 202
    assert (await partner.call("GET", left)).document == [{"keyNumber": key.id, "remainingActivations": 7}]
    assert (await partner.call("POST", left)).error == (400, "30004", "Parameter = remaining-activations.")
    assert (await partner.call("POST", f"{left}?remaining-activations=-1")).error[1] == "30004"
    converted = await partner.call("POST", f"/keys/{key.id}/convert-to-edition?edition=web-host&return-key-state=1")
    assert [item["item"] for item in converted.document["items"]] == [HOST]
    assert (await partner.call("POST", f"/keys/{key.id}/convert-to-edition")).error[1] == "30004"
    assert (await partner.call("POST", f"/keys/{key.id}/convert-to-edition?edition=x")).error[1] == "30004"


async def test_requests_of_vendor_clients(partner: Partner) -> None:
    bare = {"Content-Type": "application/json"}
    told = await partner.call(
        "POST",
        "/keys?return-key-state=yes&retailer=whmcs-ka",
        {"ownerId": 10001, "items": [{"item": ADMIN}]},
        headers=bare,
    )
    assert told.status == 201
    key_id = told.document["keyIdentifiers"]["keyId"]
    assert (await partner.call("GET", f"/keys/{key_id}?return-key-state=perhaps")).status == 200
    assert (await partner.call("PUT", f"/keys/{key_id}", {"suspended": "true"}, headers=bare)).status == 200
    assert (await partner.call("DELETE", f"/keys/{key_id}", headers={"Content-Length": "0"})).status == 200
    utf8 = {"Content-Type": "application/json; charset=UTF8", "Accept": "application/json", "Accept-Encoding": "gzip"}
    told = await partner.call("POST", "/keys", {"items": [{"item": MONITORING, "quantity": "1"}]}, headers=utf8)
    assert told.status == 201


async def test_a_named_request_has_one_effect_and_one_answer(partner: Partner) -> None:
    key = await partner.make()
    named = {"Idempotency-Key": f"order-{key.id}"}
    body = {"items": [{"item": ADMIN}], "nickname": f"n-{key.id}"}
    first, second = [await partner.call("POST", "/keys?return-key-state=yes", body, headers=named) for _ in range(2)]
    assert (first.status, second.status) == (201, 201)
    assert (first.body, first.headers["location"]) == (second.body, second.headers["location"])
    assert len((await partner.call("GET", f"/keys?nickname=n-{key.id}")).document) == 1
    other = await partner.call("POST", "/keys?return-key-state=yes", {**body, "autoRenew": False}, headers=named)
    assert other.error == (400, "30004", "Parameter = Idempotency-Key.")


async def test_two_puts_at_once_are_both_applied_one_after_the_other(partner: Partner) -> None:
    key = await partner.make()
    told = await asyncio.gather(
        partner.put(key, {"nickname": "a"}),
        partner.put(key, {"autoRenew": False}),
        partner.put(key, {"items": [{"item": PRO}]}),
        partner.put(key, {"productConfigurationId": 102}),
        *(partner.put(key, {"ipAddressBinding": an_address()}) for _ in range(6)),
    )
    assert {each.status for each in told} == {200}
    structure = await partner.read(key)
    assert (structure["nickname"], structure["autoRenew"], structure["productConfigurationId"]) == ("a", False, 102)
    assert structure["keyIdentifiers"]["keyNumber"] == key.full_number(1)


async def test_a_put_repeated_after_a_lost_answer_has_no_second_effect(partner: Partner) -> None:
    key = await partner.make()
    body = {"items": [{"item": PRO}], "nickname": "once"}
    first, second = await partner.changed(key, body), await partner.changed(key, body)
    assert json.dumps(first) == json.dumps(second)
    assert first["keyIdentifiers"]["keyNumber"] == key.full_number(1)
