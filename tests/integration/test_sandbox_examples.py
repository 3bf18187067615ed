"""The worked examples of docs/protocols/isplicense.md 12, sent to the sandbox as written: requests and answers."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.sandbox_rig import EXAMPLE_ORDER, FROZEN_AT, SandboxRig, running_sandbox

pytestmark = pytest.mark.asyncio

LABEL = "web-01 lb-k3q7n5c2xw4mdz6tjy2ahv5pru"
PLESK = {"clicked_button": "finish", "pa_ip": "203.0.113.20", "period": "12", "pricelist": "264", "autoprolong": "null"}
MODULE = {"clicked_button": "finish", "period": "1", "pricelist": "356", "autoprolong": "null"}
SUBMIT = {"sok": "ok", "skipbasket": "on"}


@pytest_asyncio.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SandboxRig]:
    async with running_sandbox(tmp_path_factory.mktemp("sandbox")) as rig:
        yield rig


@pytest_asyncio.fixture
async def sandbox(served: SandboxRig) -> SandboxRig:
    await served.control("POST", "reset", {"next_id": 40_117})
    await served.control("POST", "clock", {"at": FROZEN_AT, "frozen": True})
    return served


async def test_example_1_order_answers_the_new_id(sandbox: SandboxRig) -> None:
    reply = await sandbox.order()

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/xml; charset=UTF-8"
    assert (reply.doc.get("lang"), reply.doc.get("func")) == ("en", "softexternal.order.param")
    assert (reply.new_id, reply.text("ok")) == (40_117, "")
    assert (reply.text("tparams/func"), reply.text("tparams/out")) == ("softexternal.order.param", "xml")
    assert b"authinfo" not in reply.body


async def test_example_2_order_without_id_is_found_by_its_slot(sandbox: SandboxRig) -> None:
    await sandbox.control("POST", "profile", {"answer_id": False})

    reply = await sandbox.call("parallelslic.order.param", **PLESK, **SUBMIT, remoteid="lb-plesk")
    listed = await sandbox.call("parallelslic")

    assert (reply.text("ok"), reply.text("id")) == ("", None)
    assert listed.column("ip") == ["203.0.113.20"]
    assert listed.column("remoteid") == ["lb-plesk"]
    assert listed.column("expiredate") == ["2026-11-22"]


async def test_example_3_module_order_hangs_on_its_license(sandbox: SandboxRig) -> None:
    parent = await sandbox.order()

    reply = await sandbox.call("addition.order.param", **MODULE, **SUBMIT, item=str(parent.new_id))

    assert (parent.new_id, reply.new_id) == (40_117, 40_118)
    assert (await sandbox.call("addition")).column("item") == ["40117"]


async def test_example_4_list_shows_active_processing_and_deleted_rows(sandbox: SandboxRig) -> None:
    row = {"pricelist": 546, "ip": "203.0.113.10"}
    await sandbox.control(
        "POST",
        "licences",
        [
            {**row, "id": 39_001, "licname": "db-01 lb-aaaa", "ip": "203.0.113.5", "created": "2025-01-10"},
            {**row, "id": 40_117, "licname": LABEL, "status": 5},
            {**row, "id": 31_000, "licname": "web-01", "status": 4},
        ],
    )

    reply = await sandbox.call("softexternal", p_cnt="1000", p_num="1")

    assert reply.column("id") == ["31000", "39001", "40117"]
    assert [item.get("orig").split("_")[0] for item in reply.doc.iter("item_status")] == ["4", "2", "5"]
    assert reply.column("item_status") == ["Deleted", "Active", "Processing"]
    assert [reply.text(name) for name in ("p_elems", "p_num", "p_cnt")] == ["3", "1", "1000"]
    assert reply.column("licname")[2] == LABEL
    assert reply.column("pricelist") == ["ISPmanager 6 Lite"] * 3
    assert reply.column("createdate")[1] == "2025-01-10"


async def test_examples_5_and_6_key_comes_after_activation(sandbox: SandboxRig) -> None:
    await sandbox.control(
        "POST", "profile", {"activation": {"mode": "delayed", "ms_processing": 60_000, "ms_key": 5000}}
    )
    elid = str((await sandbox.order()).new_id)

    early = await sandbox.call("soft.edit", elid=elid)
    await sandbox.control("POST", "clock", {"advance_seconds": 61, "frozen": True})
    active = await sandbox.call("soft.edit", elid=elid)
    await sandbox.control("POST", "clock", {"advance_seconds": 5, "frozen": True})
    ready = await sandbox.call("soft.edit", elid=elid)

    assert (early.text("lickey"), early.text("status"), early.text("licname")) == ("", "5", LABEL)
    assert (early.text("pricelist"), early.text("expiredate")) == ("546", "2025-12-22")
    assert (active.text("lickey"), active.text("status")) == ("", "2")
    assert (ready.text("lickey") or "").startswith("40117-")


async def test_example_7_edit_changes_name_and_address(sandbox: SandboxRig) -> None:
    elid = str((await sandbox.order()).new_id)
    name = LABEL.replace("web-01", "web-02")

    reply = await sandbox.call("softexternal.edit", elid=elid, licname=name, ip="203.0.113.11", sok="ok")

    listed = await sandbox.call("softexternal")
    assert (reply.text("ok"), reply.text("id")) == ("", None)
    assert (listed.column("licname"), listed.column("ip")) == ([name], ["203.0.113.11"])


async def test_example_8_nodes_are_set_and_their_difference_is_charged(sandbox: SandboxRig) -> None:
    elid = str((await sandbox.order(pricelist="549")).new_id)
    change = {"elid": elid, "ip": "203.0.113.30", "licname": "cluster lb-x", "sok": "ok"}

    reply = await sandbox.call("soft.edit", **change, addon_550="3")
    again = await sandbox.call("soft.edit", **change, addon_550="3")
    more = await sandbox.call("soft.edit", **change, addon_550="4")

    assert (str(reply.new_id), reply.text("ok")) == (elid, "")
    assert (again.error, more.error) == (None, None)
    assert [line["amount"] for line in await sandbox.charges()] == ["15.00", "9.00", "3.00"]
    assert (await sandbox.call("soft.edit", elid=elid)).text("addon_550") == "4"


async def test_example_9_renewal_tells_both_dates(sandbox: SandboxRig) -> None:
    elid = str((await sandbox.order()).new_id)

    reply = await sandbox.call("service.prolong", elid=elid, period="1", sok="ok")

    assert [reply.text(f"doc/{name}") for name in ("expiredate", "newexpiredate", "period")] == [
        "2025-12-22",
        "2026-01-22",
        "1",
    ]
    assert reply.text("ok") == ""
    assert [line["reason"] for line in await sandbox.charges()] == ["order", "prolong"]


async def test_example_10_termination_and_the_same_again(sandbox: SandboxRig) -> None:
    elid = str((await sandbox.order()).new_id)

    first = await sandbox.call("softexternal.delete", elid=elid, sok="ok")
    second = await sandbox.call("softexternal.delete", elid=elid, sok="ok")

    assert first.text("ok") == ""
    assert (second.status, second.error) == (200, ("missed", "elid"))
    assert second.text("error/param[@name='value']") == elid
    assert second.text("error/msg") == "The item does not exist"


async def test_example_11_wrong_password_is_an_error_in_200(sandbox: SandboxRig) -> None:
    reply = await sandbox.order(authinfo="reseller:wrong")

    error = reply.doc.find("error")
    assert (reply.status, reply.error, error.get("code")) == (200, ("auth", "badpassword"), "1")
    assert reply.text("error/param[@name='value']") == "remote_addr: [127.0.0.1]"
    assert error.find("stack/action").text == "softexternal.order.param"
    assert await sandbox.charges() == []
    assert b"wrong" not in reply.body


async def test_example_12_bad_address_is_named(sandbox: SandboxRig) -> None:
    reply = await sandbox.order(ip="999.1.1.1")

    assert reply.error == ("value", "ip")
    assert reply.text("error/param[@name='value']") == "999.1.1.1"


async def test_example_13_function_that_is_not_loaded(sandbox: SandboxRig) -> None:
    await sandbox.control("POST", "profile", {"missing_functions": ["parallelslic.delete"]})

    reply = await sandbox.call("parallelslic.delete", elid="40117")

    assert reply.error == ("missed", "func")
    assert reply.text("error/param[@name='value']") == "parallelslic.delete"


async def test_example_14_order_without_money_is_parked(sandbox: SandboxRig) -> None:
    await sandbox.control("POST", "accounts/reseller", {"balance": "4.99"})

    reply = await sandbox.order()

    assert (reply.new_id, reply.text("billorder"), reply.text("payment_id")) == (40_117, "8801", "5502")
    assert reply.text("ok") == f"{sandbox.addresses.url}?func=payment.add&billorder=8801"
    assert [row["status"] for row in await sandbox.licenses()] == [1]
    assert await sandbox.charges() == []


async def test_example_15_order_without_money_is_an_error_of_unknown_type(sandbox: SandboxRig) -> None:
    await sandbox.control("POST", "accounts/reseller", {"balance": 0})
    await sandbox.control("POST", "profile", {"money_mode": "error_money"})

    reply = await sandbox.order()

    assert reply.error == ("sandbox_no_money", "balance")
    assert await sandbox.licenses() == []


async def test_example_16_deletion_before_the_minimum_term(sandbox: SandboxRig) -> None:
    await sandbox.control("POST", "profile", {"min_term_days": 30})
    elid = str((await sandbox.order()).new_id)

    early = await sandbox.call("softexternal.delete", elid=elid, sok="ok")
    await sandbox.control("POST", "clock", {"advance_seconds": 30 * 86_400, "frozen": True})
    late = await sandbox.call("softexternal.delete", elid=elid, sok="ok")

    assert early.error == ("pricelist_min_order", "softexternal")
    assert late.text("ok") == ""


async def test_example_17_long_page_leads_to_the_document(sandbox: SandboxRig) -> None:
    await sandbox.fault("long_page", hops=2)

    page = await sandbox.order()
    address = page.body.decode().split("url=")[1].split('"')[0]
    again = await sandbox.get(f"/manager/{address}")
    document = await sandbox.get(f"/manager/{address}")

    assert (page.status, page.headers["Content-Type"].split(";")[0]) == (200, "text/html")
    assert address.startswith("long/")
    assert address.endswith("/billmgr")
    assert again.body == page.body
    assert document.new_id == 40_117
    assert len(await sandbox.charges()) == 1


async def test_example_18_answer_lost_after_the_effect(sandbox: SandboxRig) -> None:
    await sandbox.fault("drop", phase="after")

    ending = await sandbox.raw("softexternal.order.param", **EXAMPLE_ORDER)

    assert (ending.received, ending.how) == (b"", "closed")
    assert (await sandbox.call("softexternal")).column("id") == ["40117"]
    assert len(await sandbox.charges()) == 1


async def test_example_19_without_sok_the_form_comes_back(sandbox: SandboxRig) -> None:
    reply = await sandbox.order(sok="", ip="", licname="")

    assert (reply.text("ip"), reply.text("licname"), reply.text("period")) == ("", "", "1")
    assert reply.text("pricelist") == "546"
    assert [value.get("key") for value in reply.doc.findall("slist[@name='autoprolong']/val")][:2] == ["null", "1"]
    assert reply.doc.find("ok") is None
    assert reply.doc.find("id") is None
    assert await sandbox.licenses() == []


async def test_example_20_hostile_body_comes_with_its_entities(sandbox: SandboxRig) -> None:
    await sandbox.fault("billion_laughs")

    reply = await sandbox.order()

    assert b"<!DOCTYPE doc [<!ENTITY" in reply.body
    assert reply.status == 200


async def test_example_21_session_log_in(sandbox: SandboxRig) -> None:
    reply = await sandbox.call("auth", authinfo="", username="reseller", password="pw")
    session_id = reply.doc.find("auth").get("id")

    listed = await sandbox.call("softexternal", authinfo="", auth=session_id)

    assert (reply.doc.find("auth").get("level"), reply.doc.find("auth").text) == ("16", session_id)
    assert reply.text("tparams/username") == "reseller"
    assert b"pw<" not in reply.body
    assert listed.text("p_elems") == "0"


async def test_repeated_orders_are_never_recognized(sandbox: SandboxRig) -> None:
    replies = await asyncio.gather(*(sandbox.order(remoteid="lb-same") for _ in range(5)))

    assert len({reply.new_id for reply in replies}) == 5
    assert len(await sandbox.charges()) == 5
