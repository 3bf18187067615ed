"""Every fault mode of docs/protocols/isplicense.md 13.4, seen where a client sees it: on the wire."""

import asyncio
import re
import ssl
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from lxml import etree

from keyway.sandbox.faults.modes import MODES
from tests.integration.sandbox_rig import EXAMPLE_ORDER, SandboxRig, running_sandbox

pytestmark = pytest.mark.asyncio

ORDER = "softexternal.order.param"
GONE = {"drop": "closed", "reset": "reset"}


@pytest_asyncio.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SandboxRig]:
    async with running_sandbox(tmp_path_factory.mktemp("sandbox"), tls=True) as rig:
        yield rig


@pytest_asyncio.fixture
async def sandbox(served: SandboxRig) -> SandboxRig:
    await served.control("POST", "reset")
    return served


async def test_every_mode_is_tried_here() -> None:
    source = await asyncio.to_thread(Path(__file__).read_text, encoding="utf-8")

    assert [mode for mode in MODES if f'"{mode}"' not in source] == []


@pytest.mark.parametrize(("phase", "effects"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("mode", ["drop", "reset"])
async def test_connection_ends_without_a_byte(sandbox: SandboxRig, mode: str, phase: str, effects: int) -> None:
    await sandbox.fault(mode, phase=phase)

    ending = await sandbox.raw(ORDER, **EXAMPLE_ORDER)

    assert (ending.received, ending.how) == (b"", GONE[mode])
    assert len(await sandbox.licenses()) == effects
    assert len(await sandbox.charges()) == effects


@pytest.mark.parametrize(("phase", "effects"), [("before", 0), ("after", 1)])
async def test_hang_answers_nothing_while_the_caller_waits(sandbox: SandboxRig, phase: str, effects: int) -> None:
    await sandbox.fault("hang", phase=phase)

    ending = await sandbox.raw(ORDER, wait_seconds=0.2, **EXAMPLE_ORDER)

    assert (ending.received, ending.how) == (b"", "waiting")
    await sandbox.until_charged(effects)


@pytest.mark.parametrize(("phase", "effects"), [("before", 0), ("after", 1)])
async def test_slow_waits_on_its_side_of_the_effect(sandbox: SandboxRig, phase: str, effects: int) -> None:
    await sandbox.fault("slow", phase=phase, ms=1500)

    async with asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(sandbox.order())
        await asyncio.sleep(0.15)
        await sandbox.until_charged(effects)
        assert not slow.done()

    assert slow.result().error is None
    assert len(await sandbox.charges()) == 1


async def test_slow_call_goes_on_when_its_caller_has_gone(sandbox: SandboxRig) -> None:
    await sandbox.fault("slow", phase="before", ms=1000)

    ending = await sandbox.raw(ORDER, wait_seconds=0.05, **EXAMPLE_ORDER)
    nothing_yet = await sandbox.charges()
    await sandbox.until_charged(1)

    assert (ending.how, nothing_yet) == ("waiting", [])


async def test_drip_sends_byte_by_byte(sandbox: SandboxRig) -> None:
    await sandbox.fault("drip", ms=2)

    begun = asyncio.get_running_loop().time()
    ending = await sandbox.raw("whoami")

    document = etree.fromstring(ending.body)
    assert document.find("user").get("name") == "reseller"
    assert asyncio.get_running_loop().time() - begun > 0.002 * len(ending.body)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 403, 404, 429])
@pytest.mark.parametrize(("phase", "effects"), [("before", 0), ("after", 1)])
async def test_http_status_comes_as_html(sandbox: SandboxRig, status: int, phase: str, effects: int) -> None:
    await sandbox.fault("http_status", phase=phase, status=status, retry_after=7)

    reply = await sandbox.order()

    assert (reply.status, reply.headers["Retry-After"]) == (status, "7")
    assert reply.headers["Content-Type"].startswith("text/html")
    assert reply.body.startswith(b"<html>")
    assert len(await sandbox.charges()) == effects


@pytest.mark.parametrize(("phase", "effects"), [("before", 0), ("after", 1)])
async def test_error_doc_is_an_error_in_200(sandbox: SandboxRig, phase: str, effects: int) -> None:
    await sandbox.fault("error_doc", phase=phase, type="db", object="x", msg="pw leaked?")

    reply = await sandbox.order()

    assert (reply.status, reply.error, reply.text("error/msg")) == (200, ("db", "x"), "pw leaked?")
    assert reply.doc.find("id") is None
    assert len(await sandbox.charges()) == effects


async def test_error_doc_may_keep_the_id(sandbox: SandboxRig) -> None:
    await sandbox.fault("error_doc", phase="after", type="value", keep_id=True)

    reply = await sandbox.order()

    assert reply.error == ("value", "")
    assert reply.new_id == (await sandbox.licenses())[0]["id"]


async def test_truncate_announces_all_and_sends_half(sandbox: SandboxRig) -> None:
    await sandbox.fault("truncate")

    ending = await sandbox.raw(ORDER, **EXAMPLE_ORDER)

    announced = int(re.search(rb"Content-Length: (\d+)", ending.received)[1])
    assert (len(ending.body), ending.how) == (announced // 2, "closed")
    assert len(await sandbox.charges()) == 1


@pytest.mark.parametrize("kind", ["unclosed", "ampersand", "nul", "two_roots"])
async def test_malformed_xml_is_no_xml(sandbox: SandboxRig, kind: str) -> None:
    await sandbox.fault("malformed_xml", kind=kind)

    reply = await sandbox.order()

    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(reply.body)
    assert b"<id>40001</id>" in reply.body
    assert len(await sandbox.charges()) == 1


@pytest.mark.parametrize("root", ["html", "root"])
async def test_wrong_root_is_xml_of_another_kind(sandbox: SandboxRig, root: str) -> None:
    await sandbox.fault("wrong_root", root=root)

    assert (await sandbox.order()).doc.tag == root


async def test_empty_body_has_no_byte(sandbox: SandboxRig) -> None:
    await sandbox.fault("empty_body")

    reply = await sandbox.order()

    assert (reply.status, reply.body) == (200, b"")


async def test_bad_encoding_is_not_what_it_says(sandbox: SandboxRig) -> None:
    await sandbox.fault("bad_encoding")
    await sandbox.fault("bad_encoding", nth=2, kind="utf-16")

    cyrillic, wide = await sandbox.order(), await sandbox.order()

    assert b'encoding="UTF-8"' in cyrillic.body
    with pytest.raises(UnicodeDecodeError):
        cyrillic.body.decode()
    assert wide.body.startswith(b"\xff\xfe")
    assert "<id>" in wide.body.decode("utf-16")


async def test_xxe_counts_who_follows_it(sandbox: SandboxRig) -> None:
    await sandbox.fault("xxe", file="/etc/passwd")
    await sandbox.fault("xxe_param", nth=2)

    entities, subset = await sandbox.order(), await sandbox.order()
    hits_before = (await sandbox.control("GET", "state"))["listener_hits"]
    listener = re.search(rb"http://[^/]+(/[^\"?]+)", entities.body)[1].decode()
    await sandbox.get(listener)

    assert b'SYSTEM "file:///etc/passwd"' in entities.body
    assert b"<!ENTITY % net SYSTEM" in subset.body
    assert hits_before == 0
    assert (await sandbox.control("GET", "state"))["listener_hits"] == 1


async def test_bombs_are_what_they_promise(sandbox: SandboxRig) -> None:
    for nth, mode in enumerate(("billion_laughs", "quadratic", "deep"), start=1):
        await sandbox.fault(mode, nth=nth)

    laughs, quadratic, deep = [(await sandbox.order()).body for _ in range(3)]

    assert laughs.count(b"<!ENTITY") == 11
    assert laughs.count(b"&l9;") == 10
    assert quadratic.count(b"&a;") == 10_000
    assert len(quadratic) > 100 * 1024
    assert deep.count(b"<a>") == 100_000


async def test_huge_body_is_valid_and_large(sandbox: SandboxRig) -> None:
    await sandbox.fault("huge_body")
    await sandbox.fault("huge_body", nth=2, mebibytes=4, gzip=True)

    size = 0
    async with sandbox.session.post(sandbox.addresses.url, data={"func": "whoami", **sandbox.defaults}) as response:
        announced = response.content_length
        async for piece in response.content.iter_any():
            size += len(piece)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        form, accept = {"func": "whoami", **sandbox.defaults}, {"Accept-Encoding": "gzip"}
        async with session.post(sandbox.addresses.url, data=form, headers=accept) as response:
            packed = await response.read()

    assert size == announced
    assert 49 * 1024 * 1024 < size <= 50 * 1024 * 1024 + 200
    assert len(zlib.decompress(packed, wbits=31)) > 100 * len(packed)


async def test_html_login_page_in_200(sandbox: SandboxRig) -> None:
    await sandbox.fault("html_login")

    reply = await sandbox.order()

    assert (reply.status, b"<form" in reply.body) == (200, True)
    assert await sandbox.charges() == []


@pytest.mark.parametrize(
    ("to", "location"),
    [
        ("login", "/manager/billmgr?func=logon"),
        ("self", "/manager/billmgr"),
        ("origin", "https://elsewhere.example/manager/billmgr"),
        ("http", "http://"),
    ],
)
async def test_redirect_points_elsewhere(sandbox: SandboxRig, to: str, location: str) -> None:
    await sandbox.fault("redirect", to=to, status=307)

    reply = await sandbox.order()

    assert reply.status == 307
    assert reply.headers["Location"].startswith(location)
    assert await sandbox.charges() == []


async def test_captcha_is_an_error_document(sandbox: SandboxRig) -> None:
    await sandbox.fault("captcha")

    assert (await sandbox.order()).error == ("captcha_verification_failed", "")


async def test_long_page_variants(sandbox: SandboxRig) -> None:
    await sandbox.fault("long_page", kind="endless")
    await sandbox.fault("long_page", ORDER, nth=2, kind="foreign")

    endless, foreign = await sandbox.order(), await sandbox.order()
    address = endless.body.decode().split("url=")[1].split('"')[0]
    pages = [await sandbox.get(f"/manager/{address}") for _ in range(12)]
    nested = await sandbox.get(f"/manager/{address.removesuffix('billmgr')}{address}")

    assert {page.body for page in [*pages, nested]} == {endless.body}
    assert b"url=http://elsewhere.example/manager/long/" in foreign.body
    assert len(await sandbox.charges()) == 2


async def test_ids_missing_doubled_and_malformed(sandbox: SandboxRig) -> None:
    await sandbox.fault("no_id")
    await sandbox.fault("many_ids", nth=2)
    await sandbox.fault("bad_id", nth=3, id="-5")

    none, many, bad = [await sandbox.order() for _ in range(3)]

    assert none.text("ok") == ""
    assert none.doc.find("id") is None
    assert [element.text for element in many.doc.findall("id")] == ["40002", "40003"]
    assert [element.text for element in bad.doc.findall("id")] == ["-5"]
    assert len(await sandbox.charges()) == 3


async def test_late_visible_order_is_listed_later(sandbox: SandboxRig) -> None:
    await sandbox.fault("late_visible", ORDER, ms=60_000)

    elid = (await sandbox.order()).new_id
    early = await sandbox.call("softexternal")
    form = await sandbox.call("soft.edit", elid=str(elid))
    await sandbox.control("POST", "clock", {"advance_seconds": 61})

    assert early.text("p_elems") == "0"
    assert form.text("status") == "2"
    assert (await sandbox.call("softexternal")).column("id") == [str(elid)]


async def test_late_visible_renewal_shows_its_date_later(sandbox: SandboxRig) -> None:
    elid = str((await sandbox.order()).new_id)
    old = (await sandbox.call("softexternal")).column("expiredate")
    await sandbox.fault("late_visible", ms=60_000)

    reply = await sandbox.call("service.prolong", elid=elid, period="1", sok="ok")
    early = (await sandbox.call("softexternal")).column("expiredate")
    await sandbox.control("POST", "clock", {"advance_seconds": 61})
    late = (await sandbox.call("softexternal")).column("expiredate")

    assert early == old
    assert late == [reply.text("doc/newexpiredate")] != old


async def test_invisible_order_is_charged_and_never_listed(sandbox: SandboxRig) -> None:
    await sandbox.fault("invisible", ORDER)

    await sandbox.order()
    await sandbox.control("POST", "clock", {"advance_seconds": 86_400})

    assert (await sandbox.call("softexternal")).text("p_elems") == "0"
    assert (await sandbox.call("expense")).column("amount") == ["5.00"]
    assert len(await sandbox.licenses()) == 1


async def test_sticky_filter_hides_rows_until_it_is_cleared(sandbox: SandboxRig) -> None:
    await sandbox.order()
    await sandbox.fault("sticky_filter", "softexternal")

    hidden = await sandbox.call("softexternal")
    still_hidden = await sandbox.call("softexternal")
    await sandbox.call("softexternal.filter", sok="ok", licname="", ip="", out="json")
    json_changed_nothing = await sandbox.call("softexternal")
    await sandbox.call("softexternal.filter", sok="ok", licname="", ip="")

    assert [reply.text("p_elems") for reply in (hidden, still_hidden, json_changed_nothing)] == ["0", "0", "0"]
    assert (await sandbox.call("softexternal")).text("p_elems") == "1"


@pytest.mark.parametrize(("lies", "total"), [(False, "3"), (True, "1")])
async def test_short_page_is_cut_and_may_lie_about_it(sandbox: SandboxRig, lies: bool, total: str) -> None:  # noqa: FBT001 - a case of the table
    for _ in range(3):
        await sandbox.order()
    await sandbox.fault("short_page", "softexternal", rows=2, lies=lies)

    cut = await sandbox.call("softexternal")

    assert (len(cut.column("id")), cut.text("p_elems")) == (1, total)
    assert len((await sandbox.call("softexternal")).column("id")) == 3


async def test_namesake_is_an_old_deleted_row(sandbox: SandboxRig) -> None:
    await sandbox.fault("namesake", ORDER)

    elid = (await sandbox.order()).new_id
    listed = await sandbox.call("softexternal")

    assert listed.column("id") == [str(elid - 1), str(elid)]
    assert listed.column("status") == ["4", "2"]
    assert len(set(listed.column("licname"))) == 1
    assert len(await sandbox.charges()) == 1


async def test_double_effect_makes_two_rows_and_two_charges(sandbox: SandboxRig) -> None:
    await sandbox.fault("double_effect", ORDER)

    reply = await sandbox.order()

    assert [element.text for element in reply.doc.findall("id")] == ["40001"]
    assert [line["license"] for line in await sandbox.charges()] == [40_001, 40_002]
    assert (await sandbox.journal())[-1]["effects"] == ["created 40001", "created 40002"]


async def test_balance_exhausted_in_both_money_modes(sandbox: SandboxRig) -> None:
    await sandbox.fault("balance_exhausted", ORDER)
    await sandbox.fault("balance_exhausted", ORDER, nth=2, money="error_money")

    parked, refused, normal = [await sandbox.order() for _ in range(3)]

    assert parked.text("billorder") == "8801"
    assert refused.error == ("sandbox_no_money", "balance")
    assert normal.text("ok") == ""
    assert len(await sandbox.charges()) == 1


async def test_status_stands_in_a_word_or_in_another_element(sandbox: SandboxRig) -> None:
    await sandbox.order()
    await sandbox.fault("localized_status", "softexternal")
    word = (await sandbox.call("softexternal")).doc.find("elem")
    await sandbox.fault("type_switch", "softexternal")
    switched = (await sandbox.call("softexternal")).doc.find("elem")

    assert (word.findtext("item_status"), word.find("item_status").get("orig")) == ("Активен", None)
    assert word.find("status") is None
    assert (switched.findtext("item_real_status"), switched.findtext("item_status")) == ("2", "Active")
    assert switched.find("status") is None


async def test_clock_jump_moves_the_day_of_one_call(sandbox: SandboxRig) -> None:
    await sandbox.control("POST", "clock", {"at": "2026-03-01T12:00:00Z", "frozen": True})
    await sandbox.fault("clock_jump", ORDER, days=-3)

    jumped, plain = await sandbox.order(), await sandbox.order()

    assert jumped.headers["Date"] == "Thu, 26 Feb 2026 12:00:00 GMT"
    assert plain.headers["Date"] == "Sun, 01 Mar 2026 12:00:00 GMT"
    assert (await sandbox.call("softexternal")).column("createdate") == ["2026-02-26", "2026-03-01"]


@pytest.mark.parametrize(
    ("mode", "complaint"),
    [
        ("tls_expired", "expired"),
        ("tls_wrong_host", "IP address mismatch|doesn't match"),
        ("tls_unknown_ca", "unable to get local issuer|self.signed"),
    ],
)
async def test_tls_faults_strike_one_handshake(sandbox: SandboxRig, mode: str, complaint: str) -> None:
    trust = ssl.create_default_context(cafile=sandbox.addresses.authority)
    await sandbox.fault(mode)
    url = sandbox.addresses.tls_url
    form = {"func": "whoami", **sandbox.defaults}

    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError, match=complaint):
            await session.post(url, data=form, ssl=trust)
        async with session.post(url, data=form, ssl=trust) as response:
            assert b'name="reseller"' in await response.read()

    assert [(entry["tls"], entry["func"]) for entry in await sandbox.journal()] == [(True, "whoami")]


async def test_fault_strikes_the_nth_matching_call_and_no_other(sandbox: SandboxRig) -> None:
    match = {"func": "*.order.param", "user": "reseller", "nth": 2, "parameters": {"pricelist": "546"}}
    await sandbox.control("POST", "faults", {"match": match, "mode": "captcha", "times": 2})

    await sandbox.call("whoami")
    await sandbox.order(pricelist="547")
    struck = [(await sandbox.order()).error is not None for _ in range(4)]

    assert struck == [False, True, True, False]
    assert [entry["faults"][0]["mode"] for entry in await sandbox.journal() if entry["faults"]] == ["captcha"] * 2


async def test_drawn_faults_are_the_same_for_the_same_seed(sandbox: SandboxRig) -> None:
    drawn = []
    for _ in range(2):
        await sandbox.control("POST", "reset", {"seed": "dice"})
        fault = {"match": {"probability": 0.33}, "mode": "captcha", "times": None}
        await sandbox.control("POST", "faults", fault)
        drawn.append([(await sandbox.call("whoami")).error is not None for _ in range(60)])

    assert drawn[0] == drawn[1]
    assert 8 <= sum(drawn[0]) <= 32


async def test_faults_combine(sandbox: SandboxRig) -> None:
    await sandbox.fault("slow", phase="before", ms=50)
    await sandbox.fault("no_id")
    await sandbox.fault("drop", phase="after")

    ending = await sandbox.raw(ORDER, **EXAMPLE_ORDER)

    entry = (await sandbox.journal())[-1]
    assert ending.received == b""
    assert [fault["mode"] for fault in entry["faults"]] == ["slow", "no_id", "drop"]
    assert (entry["effects"], entry["charge"]) == (["created 40001"], "5.00")
