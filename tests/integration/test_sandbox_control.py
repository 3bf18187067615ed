"""The control plane: what it switches, what it shows, and what it never shows."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.sandbox_rig import EXAMPLE_ORDER, FROZEN_AT, SandboxRig, running_sandbox

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SandboxRig]:
    async with running_sandbox(tmp_path_factory.mktemp("sandbox")) as rig:
        yield rig


@pytest_asyncio.fixture
async def sandbox(served: SandboxRig) -> SandboxRig:
    await served.control("POST", "reset")
    return served


async def test_without_control_only_ready_answers(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path, control=False) as rig:
        ready = await rig.control("GET", "ready")
        others = [(await rig.get(f"/__sandbox/{path}")).status for path in ("state", "journal", "ledger", "faults")]

    assert ready == {"ready": True, "control": False, "licenses": 0}
    assert others == [404] * 4


async def test_control_answers_only_callers_that_name_this_machine(sandbox: SandboxRig) -> None:
    url = f"{sandbox.root}/__sandbox/state"
    async with sandbox.session.get(url, headers={"Host": "rebound.example"}) as response:
        assert response.status == 403


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("faults", {"mode": "explode"}, "there is no fault mode"),
        ("faults", {"mode": "drop"}, "name the phase"),
        ("faults", {"mode": "truncate", "phase": "before"}, "has no phase"),
        ("faults", {"mode": "slow", "phase": "before", "args": {"seconds": 1}}, "has no argument seconds"),
        ("faults", {"mode": "slow", "phase": "before", "args": {"ms": "soon"}}, "is a int"),
        ("faults", {"mode": "malformed_xml", "args": {"kind": "all"}}, "is one of"),
        ("faults", {"mode": "drop", "phase": "after", "time": 1}, "does not fit"),
        ("clock", {}, "does not fit"),
        ("clock", {"offset_seconds": 1, "advance_seconds": 1}, "does not fit"),
        ("accounts/new", {"balance": "1"}, "needs a password"),
        ("accounts/reseller", {"balance": "1.00001"}, "does not fit"),
        ("accounts/reseller", {"allow_ips": ["everywhere"]}, "does not fit"),
        ("licenses", {"pricelist": 1}, "does not fit"),
        ("licenses", {"licname": "x"}, "needs a pricelist"),
        ("licenses", {"pricelist": 546, "user": "stranger"}, "no account"),
        ("profile", {"page_sise": 1}, "does not fit"),
        ("reset", {"id": 1}, "does not fit"),
    ],
)
async def test_wrong_order_changes_nothing_and_says_why(
    sandbox: SandboxRig, path: str, body: object, complaint: str
) -> None:
    before = await sandbox.control("GET", "state")

    status, content = await sandbox.control_status("POST", path, body)

    after = await sandbox.control("GET", "state")
    assert status == 400
    assert complaint in content["error"]
    assert {**after, "now": ""} == {**before, "now": ""}


async def test_ten_thousand_licenses_are_listed_and_forgotten(sandbox: SandboxRig) -> None:
    seeds = [{"pricelist": 546, "ip": f"10.0.{number // 250}.{number % 250}"} for number in range(10_000)]
    await sandbox.control("POST", "licenses", seeds)
    listed = await sandbox.call("softexternal", p_cnt="1000", p_num="10")

    await sandbox.control("POST", "reset")

    assert (listed.text("p_elems"), len(listed.column("id"))) == ("10000", 1000)
    assert await sandbox.licenses() == []


async def test_call_from_before_a_reset_has_no_effect_after_it(sandbox: SandboxRig) -> None:
    await sandbox.fault("slow", phase="before", ms=150)

    ending = await sandbox.raw("softexternal.order.param", wait_seconds=0.05, **EXAMPLE_ORDER)
    await sandbox.control("POST", "reset")
    late = await sandbox.raw("whoami")
    await asyncio.sleep(0.3)  # the call from before would have had its effect by now

    assert ending.how == "waiting"
    assert b"reseller" in late.body
    assert await sandbox.charges() == []


async def test_journal_tells_all_but_secrets(sandbox: SandboxRig) -> None:
    secret = "s3cr&t pä:ss"
    await sandbox.control("POST", "accounts/second", {"password": secret, "balance": "100"})
    await sandbox.call("whoami", authinfo=f"second:{secret}")
    await sandbox.call("auth", authinfo="", username="second", password=secret)
    await sandbox.order(authinfo=f"second:{secret}", licname=f"echo of {secret}", headers={"X-Lab-Attempt": "o7/2"})
    await sandbox.get(f"/manager/billmgr?func=whoami&authinfo=second:{quote_plus(secret)}")
    key = (await sandbox.licenses())[0]["key"]
    await sandbox.call("soft.edit", authinfo=f"second:{secret}", elid="40001", lickey=key)

    async with sandbox.session.get(f"{sandbox.root}/__sandbox/journal") as response:
        content = await response.text()
    entries: list[dict[str, Any]] = await sandbox.journal()

    assert not any(form in content for form in (secret, quote(secret), quote_plus(secret), key))
    assert [entry["func"] for entry in entries[:3]] == ["whoami", "auth", "softexternal.order.param"]
    assert [entry["secrets_in_query"] for entry in entries] == [False, False, False, True, False]
    order = entries[2]
    assert (order["attempt"], order["charge"], order["effects"]) == ("o7/2", "5.00", ["created 40001"])
    assert (order["user"], order["is_submit"], order["method"]) == ("second", True, "POST")
    assert "pricelist" in order["names"]
    assert (await sandbox.charges())[0]["attempt"] == "o7/2"


async def test_journal_can_be_read_from_a_number_on(sandbox: SandboxRig) -> None:
    for _ in range(3):
        await sandbox.call("whoami")

    newer = await sandbox.control("GET", "journal?since=2")

    assert [entry["number"] for entry in newer["entries"]] == [3]
    assert newer["forgotten"] == 0


async def test_connections_are_told_apart(sandbox: SandboxRig) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            await (await session.post(sandbox.addresses.url, data={"func": "whoami"})).read()
    await sandbox.raw("whoami")

    first, second, third = [entry["connection"] for entry in await sandbox.journal()]

    assert first == second != third


async def test_state_shows_no_secret(sandbox: SandboxRig) -> None:
    await sandbox.control("POST", "accounts/second", {"password": "hidden-thing", "otp": "123456"})

    state = str(await sandbox.control("GET", "state"))

    assert "second" in state
    assert "hidden-thing" not in state
    assert "123456" not in state


async def test_licenses_can_be_planted_changed_and_removed(sandbox: SandboxRig) -> None:
    await sandbox.control("POST", "clock", {"at": FROZEN_AT, "frozen": True})
    planted = await sandbox.control(
        "POST",
        "licenses",
        [{"pricelist": 549, "nodes": 2, "licname": "a"}, {"pricelist": 250, "id": 77, "charged": True}],
    )
    await sandbox.control("POST", "licenses", {"id": 40_001, "status": 3, "expires": "2027-01-01"})
    await sandbox.control("DELETE", "licenses/77")

    (left,) = await sandbox.licenses()

    assert planted == {"ids": [40_001, 77]}
    assert (left["id"], left["status"], left["nodes"], left["licname"]) == (40_001, 3, 2, "a")
    assert left["expires"] == "2027-01-01"
    assert [line["license"] for line in await sandbox.charges()] == [77]


async def test_clock_runs_on_unless_frozen(sandbox: SandboxRig) -> None:
    moved = await sandbox.control("POST", "clock", {"advance_seconds": 86_400})
    running = await sandbox.control("GET", "state")
    await sandbox.control("POST", "clock", {"at": FROZEN_AT, "frozen": True})
    frozen = [(await sandbox.control("GET", "state"))["now"] for _ in range(2)]
    back = await sandbox.control("POST", "clock", {"offset_seconds": 0})

    assert moved["offset_seconds"] == pytest.approx(86_400, abs=1)
    assert running["now"] > moved["now"]
    assert frozen[0] == frozen[1] == FROZEN_AT
    assert back["offset_seconds"] == 0


async def test_get_and_post_on_both_paths_are_the_same(sandbox: SandboxRig) -> None:
    query = "func=whoami&authinfo=reseller:pw&lang=en"

    answers = [await sandbox.get(f"{path}?{query}") for path in ("/manager/billmgr", "/billmgr")]
    mixed = await sandbox.session.post(
        f"{sandbox.root}/billmgr?func=whoami&lang=en", data={"func": "x", **sandbox.defaults}
    )

    assert [answer.doc.find("user").get("name") for answer in answers] == ["reseller"] * 2
    assert b'name="reseller"' in await mixed.read()


async def test_bytes_that_are_no_text_are_replaced_everywhere(sandbox: SandboxRig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sandbox.root.rpartition(":")[2]))
    body = b"func=whoami&authinfo=reseller:pw&licname=%FF\xfe"
    head = b"POST /manager/billmgr?x=%FE HTTP/1.1\r\nHost: panel\xff\r\nX-Lab-Attempt: o\xff1\r\nConnection: close\r\n"
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    received = await reader.read()
    writer.close()

    (entry,) = await sandbox.journal()
    assert b'name="reseller"' in received
    assert entry["attempt"] == "o?1"
    assert entry["values"]["licname"] == "\ufffd\ufffd"


async def test_front_server_refusals_are_html(sandbox: SandboxRig) -> None:
    wrong_path = await sandbox.get("/manager/other")
    too_large = await sandbox.call("whoami", filler="x" * 300_000)

    assert (wrong_path.status, too_large.status) == (404, 413)
    assert wrong_path.headers["Content-Type"] == too_large.headers["Content-Type"] == "text/html; charset=UTF-8"
