"""Hostile and mistaken Partner API requests against the running service: the answer, and that nothing happened."""

import asyncio
import json
from base64 import b64encode
from typing import Any

import pytest
import pytest_asyncio

from keyway.ka.forms import operation_form
from shared.database.accounts import PostgresAccounts
from shared.database.owners import PostgresOwners
from shared.database.pool import open_pool
from shared.domain.key_owners import OwnerKind
from shared.security.account_secrets import hash_secret
from shared.security.accounts import Role
from tests.process.partner_client import ADMIN, HOST, MONITORING, PACKS, PATIENCE_SECONDS, PRO, Key, Partner, an_address
from tests.process.whole_stack import TEST_SECONDS, WholeStack, order, settled

pytestmark = [pytest.mark.process, pytest.mark.asyncio, pytest.mark.timeout(TEST_SECONDS)]

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def partner(stack: WholeStack) -> Partner:
    return Partner.of(stack.state)


@pytest_asyncio.fixture
async def stranger(stack: WholeStack) -> Partner:
    """A partner of another owner."""
    now = stack.now()
    async with open_pool(now.database) as pool:
        owners = PostgresOwners(pool)
        await PostgresAccounts(pool).add("stranger", Role.PARTNER, hash_secret("strange"))
        await owners.add("30001", OwnerKind.CLIENT)
        await owners.link("stranger", "30001")
    return Partner(now.gateways[0] + "/30", "stranger", "strange")


async def test_who_is_nobody_is_401_and_who_is_somebody_else_is_403(partner: Partner, stack: WholeStack) -> None:
    ka = json.loads((stack.state / "endpoints.json").read_text())["accounts"]["ka"]
    pairs: dict[str | None, tuple[int, str]] = {
        None: (401, "30040"),
        "partner:wrong": (401, "30040"),
        "nobody:x": (401, "30040"),
        ":".join(ka): (403, "30041"),
    }
    for pair, expected in pairs.items():
        line = None if pair is None else "Basic " + b64encode(pair.encode()).decode()
        for method, path in (("GET", "/keys"), ("PATCH", "/keys"), ("GET", "/nothing"), ("PUT", "/keys/1")):
            told = await partner.call(method, path, headers={"Authorization": line})
            assert told.error[:2] == expected, (pair, method, path)
            challenged = told.headers.get("www-authenticate")
            assert challenged == ('Basic realm="Partner API"' if expected[0] == 401 else None)


async def test_the_first_failed_check_answers(partner: Partner) -> None:
    """Every request fails all later checks as well (partner-api 5.6)."""
    key = await partner.make()
    bad, text = b'{"a":1,"a":2}', {"Content-Type": "text/plain", "Accept": "text/html"}
    told = await partner.call("PATCH", f"/keys/{key.id}?return-key-state=x", bad, headers=text)
    assert (told.error[:2], told.headers["allow"]) == ((405, "30043"), "GET, PUT, DELETE")
    told = await partner.call("PUT", "/keys/99999999?return-key-state=x", b"x" * 600_000, headers=text)
    assert told.error[:2] == (415, "30045")
    told = await partner.call(
        "PUT", "/keys/99999999?return-key-state=x", b"x" * 600_000, headers=JSON | {"Accept": "text/html"}
    )
    assert told.error[:2] == (406, "30044")
    told = await partner.call("PUT", "/keys/99999999?return-key-state=x", b"x" * 600_000, headers=JSON)
    assert told.error[:2] == (413, "30046")
    assert (await partner.put(99999999, bad, "?return-key-state=x")).error[:2] == (400, "30004")
    assert (await partner.put(99999999, bad)).error[:2] == (400, "30001")
    assert (await partner.put(99999999, {"ownerId": None})).error[:2] == (400, "30003")
    assert (await partner.put(99999999, {"suspended": True})).error[:2] == (404, "30042")
    torn = {"keyIdentifiers": {"keyId": 1}, "ownerId": "10002", "items": [{"item": "NOTHING"}]}
    assert (await partner.put(key, torn)).error[1] == "30011"
    del torn["keyIdentifiers"]
    assert (await partner.put(key, torn)).error[1] == "30010"


async def test_media_types(partner: Partner) -> None:
    key = await partner.make()
    cases: list[tuple[dict[str, str | None], int]] = [
        ({"Content-Type": None}, 415),
        ({"Content-Type": "application/json; charset=latin1"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "application/json; charset=UTF8"}, 200),
        ({"Content-Type": "application/json", "Accept": "text/html"}, 406),
        ({"Content-Type": "application/json", "Accept": "text/html, */*;q=0.1"}, 200),
    ]
    for headers, status in cases:
        told = await partner.call("PUT", f"/keys/{key.id}", b'{"nickname":"m"}', headers=headers)
        assert told.status == status, headers


async def test_a_body_in_chunks_is_read(partner: Partner) -> None:
    key = await partner.make()
    reader, writer = await asyncio.open_connection(partner.base.host, partner.base.port)
    head = (
        f"PUT /30/keys/{key.id} HTTP/1.1\r\nHost: x\r\nAuthorization: {partner.authorization}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + b'9\r\n{"nicknam\r\n8\r\ne":"ch"}\r\n0\r\n\r\n')
    answer = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (await partner.read(key))["nickname"] == "ch"


async def test_names_that_no_visible_key_has_are_404_alike(partner: Partner, stranger: Partner) -> None:
    theirs = await stranger.make(ownerId="30001")
    names = ["0", "-1", "12345678901234567890", "%2F", "..%2F", theirs.full_number(), str(theirs.id), theirs.code, "x"]
    for name in names:
        for method, rest, body in (
            ("GET", "", None),
            ("PUT", "", {"nickname": "x"}),
            ("PUT", "?dry-run=yes", {"nickname": "x"}),
            ("DELETE", "", None),
            ("GET", "/retrieve", None),
            ("GET", "/renew", None),
            ("POST", "/renew-sus", None),
            ("GET", "/remaining-activations", None),
            ("POST", "/remaining-activations?remaining-activations=0", None),
        ):
            told = await partner.call(method, f"/keys/{name}{rest}", body)
            assert told.error[:2] == (404, "30042"), (name, method, rest)
    assert str(theirs.id) not in (await partner.call("GET", "/keys")).body.decode()
    assert await stranger.read(theirs) == theirs.structure
    mine = await partner.make()
    for reference in ({"keyId": theirs.id}, {"activationCode": theirs.code}):
        child = await partner.make(MONITORING)
        assert (await partner.put(child, {"parentKeyIdentifiers": reference})).error[1] == "30021"
    assert (await partner.put(mine, {"ownerId": "30001"})).error == (400, "30020", "Owner = 30001.")


async def test_owners_that_cannot_have_a_key(partner: Partner) -> None:
    key, items = await partner.make(), [{"item": ADMIN}]
    for owner in ("20001", "77777", "", "10001 "):
        assert (await partner.put(key, {"ownerId": owner})).error[1] == "30020", owner
        assert (await partner.call("POST", "/keys", {"items": items, "ownerId": owner})).error[1] == "30020"
    child = await partner.make(MONITORING, parentKeyIdentifiers={"keyId": key.id})
    assert (await partner.put(child, {"ownerId": "10002"})).error[1] == "30021"


async def test_addresses(partner: Partner) -> None:
    key, other, address = await partner.make(), await partner.make(), an_address()
    for text in ("fe80::1%eth0", "203.0.113.0/24", "localhost"):
        assert (await partner.put(key, {"ipAddressBinding": text})).error == (400, "30002", "Field = ipAddressBinding.")
    assert (await partner.put(key, {"restrictIPBinding": True})).error[1] == "30002"
    bound = await partner.changed(key, {"ipAddressBinding": address, "restrictIPBinding": True})
    assert bound["ipAddressBinding"] == address
    assert (await partner.put(other, {"ipAddressBinding": address})).error == (400, "30024", f"Address = {address}.")
    both = {"ipAddressBinding": None, "restrictIPBinding": True}
    assert (await partner.put(key, both)).error[1] == "30002"
    freed = await partner.changed(key, {"ipAddressBinding": None})
    assert (freed["ipAddressBinding"], freed["restrictIPBinding"]) == (None, False)
    assert (await partner.changed(other, {"ipAddressBinding": address}))["ipAddressBinding"] == address


async def test_one_address_asked_for_at_once_goes_to_one_key(partner: Partner) -> None:
    keys, address = [await partner.make() for _ in range(6)], an_address()
    told = await asyncio.gather(*(partner.put(key, {"ipAddressBinding": address}) for key in keys))
    assert sorted(each.status for each in told) == [200, 400, 400, 400, 400, 400]
    assert {each.error[1] for each in told if each.status == 400} == {"30024"}


async def test_parents_that_cannot_be(partner: Partner) -> None:
    async def refused(child: Key, parent: dict[str, Any]) -> None:
        assert (await partner.put(child, {"parentKeyIdentifiers": parent})).error[1] == "30021"

    parent, child, second = await partner.make(), await partner.make(MONITORING), await partner.make(MONITORING)
    await refused(child, {"keyId": child.id})
    await refused(parent, {"keyId": (await partner.make()).id})  # a base key is nobody's child
    await refused(child, {"keyId": 99999999})
    await refused(child, {"keyId": parent.id, "activationCode": child.code})  # two different keys
    await partner.changed(child, {"parentKeyIdentifiers": {"activationCode": parent.code.lower()}})
    await refused(second, {"keyId": child.id})
    await refused(second, {"keyId": parent.id})  # it has one of this type
    other = await partner.make()
    await partner.changed(other, {"suspended": True})
    await refused(second, {"keyId": other.id})
    await partner.call("DELETE", f"/keys/{other.id}")
    await refused(second, {"keyId": other.id})


async def test_items_that_cannot_be(partner: Partner) -> None:
    key = await partner.make()
    for items, expected in (
        ([{"item": ADMIN}] * 101, "30002"),
        ([{"item": ADMIN}, {"item": ADMIN}], "30023"),
        ([{"item": PACKS}], "30023"),
        ([], "30023"),
        ([{"item": MONITORING}], "30023"),
        ([{"item": "Bronze"}], "30022"),
        ([{"item": "NOBODY-SELLS-THIS"}], "30022"),
    ):
        assert (await partner.put(key, {"items": items})).error[1] == expected, items
    assert await partner.read(key) == key.structure
    upgraded = await partner.changed(key, {"items": [{"item": HOST}]})
    lowered = await partner.changed(key, {"items": [{"item": PRO}]})
    assert [each["items"][0]["item"] for each in (upgraded, lowered)] == [HOST, PRO]
    assert lowered["keyIdentifiers"]["keyNumber"] == key.full_number(2)


async def test_a_suspended_key_is_resumed_before_anything_else(partner: Partner) -> None:
    key = await partner.make(MONITORING)
    await partner.changed(key, {"suspended": True})
    for body in (
        {"items": None, "productConfigurationId": 102},
        {"ipAddressBinding": an_address()},
        {"activationInfo": {"uid": f"u-{key.id}"}},
        {"items": [{"item": MONITORING}, {"item": "360-MON-SITE-1M"}]},
    ):
        assert (await partner.put(key, body)).error == (400, "30027", f"Key number = {key.full_number()}."), body
    assert (await partner.put(key, {"nickname": "still"})).status == 200
    assert (await partner.call("DELETE", f"/keys/{key.id}")).status == 200


async def test_activation(partner: Partner) -> None:
    key, other, plain = await partner.make(MONITORING), await partner.make(MONITORING), await partner.make()
    uid = f"uid-{key.id}"
    assert (await partner.put(key, {"activationInfo": {"uid": ""}})).error[1] == "30026"
    assert (await partner.put(plain, {"activationInfo": {"uid": uid}})).error[1] == "30026"
    activated = await partner.changed(key, {"activationInfo": {"uid": uid, "activated": "true"}})
    assert activated["activationInfo"] == {"uid": uid, "activated": True}
    assert (await partner.put(other, {"activationInfo": {"uid": uid}})).error[1] == "30026"
    assert (await partner.put(key, {"activationInfo": None})).error[1] == "30026"
    again = await partner.changed(key, {"activationInfo": {"uid": uid + "-new"}})
    assert again["activationInfo"]["uid"] == uid + "-new"


async def test_both_ends_in_one_request_conflict(partner: Partner) -> None:
    key = await partner.make()
    told = await partner.put(key, {"suspended": True, "terminated": True})
    assert told.error == (400, "30010", "Conflicting operations: STATE + STATE.")
    assert await partner.read(key) == key.structure


async def test_a_new_key_is_made_whole_or_not_at_all(partner: Partner) -> None:
    nickname = f"whole-{an_address()}"
    body = {"items": [{"item": MONITORING}], "nickname": nickname, "productConfigurationId": 999}
    assert (await partner.call("POST", "/keys", body)).error[1] == "30025"
    assert (await partner.call("GET", f"/keys?nickname={nickname}")).document == []
    parent, address = await partner.make(), an_address()
    made = await partner.make(
        MONITORING,
        ownerId=10001,
        parentKeyIdentifiers={"keyId": parent.id},
        ipAddressBinding=address,
        activationInfo={"uid": nickname},
        productConfigurationId="102",
        nickname=nickname,
        autoRenew="False",
    )
    assert made.structure["parentKeyIdentifiers"]["keyId"] == parent.id
    assert made.structure["activationInfo"] == {"uid": nickname, "activated": True}
    assert (made.structure["ipAddressBinding"], made.structure["autoRenew"]) == (address, False)
    for wanted in (f"uid={nickname}", f"ip-address-binding={address}", f"nickname={nickname}&type=lease1m"):
        assert [each["keyId"] for each in (await partner.call("GET", f"/keys?{wanted}")).document] == [made.id]
    for wanted in ("status=asleep", "type=gift", "fraud=none", "is-els=perhaps", "status=active&status=active"):
        assert (await partner.call("GET", f"/keys?{wanted}")).error[1] == "30004", wanted


async def test_a_license_bought_over_isv_is_seen_and_changed_here_once_its_account_is_linked(
    partner: Partner, stack: WholeStack
) -> None:
    (administrator, *_) = stack.administrators()
    number = next(stack.numbers)
    bought = await settled([administrator], operation_form("PURCHASE", order(number)))
    assert bought.answer is not None
    async with open_pool(stack.now().database) as pool:
        key_id, code = await pool.fetchrow(
            "SELECT key_id, activation_code FROM license WHERE license_id = $1", f"ka:{number}"
        )
        assert (await partner.call("GET", f"/keys/{key_id}")).status == 404
        owners = PostgresOwners(pool)
        await owners.link("ka", "10001")
        try:
            structure = await partner.read(code)
            assert structure["items"] == [{"externalId": None, "item": "Bronze"}]
            assert (await partner.put(key_id, {"items": [{"item": ADMIN}]})).status == 400
            changed = await partner.changed(key_id, {**structure, "suspended": True, "nickname": "bought over ISV"})
            assert (changed["status"], changed["nickname"]) == ("SUSPENDED", "bought over ISV")
            again = await settled([administrator], operation_form("PURCHASE", order(number)))
            assert again.answer is not None
            assert (again.answer.status, again.answer.body) == (200, bought.answer.body)
            assert (await partner.call("DELETE", f"/keys/{key_id}")).status == 200
        finally:
            await owners.unlink("ka")
    renewed = await settled([administrator], operation_form("RENEW", order(number)))
    assert renewed.answer is not None
    assert renewed.answer.status == 409
