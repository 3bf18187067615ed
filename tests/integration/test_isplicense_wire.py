"""The adapter on the wire: what leaves, how often, what is certain when nothing did, and that no secret gets out."""

import asyncio
import gc
import gzip
import logging
import resource
import time
import tracemalloc
import zlib
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qsl, quote
from uuid import UUID

import pytest
from pydantic import SecretStr

from shared.clock import MachineClock
from shared.domain.catalog import ProviderOffer
from shared.domain.provider_operation import Elid, OrderSoftware, ServiceKind, marker_of
from shared.domain.provider_outcome import Accepted, Confirmed, NotSent, Refusal, Refused, SendOutcome, Unknown
from tests.fakes.clocks import ManualSystemClock
from tests.fakes.wire_server import Answering, close, drip, hang, raw, reply, reset, wire_server
from tests.integration.sandbox_rig import USER, SandboxRig, running_sandbox
from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.client import IspLicenseClient
from workers.provider.isplicense.pacing import CallPacer
from workers.provider.ports import Fence, ProviderReadError

pytestmark = pytest.mark.asyncio

CANARY = "Canary-pass/word+17"
MARKER = marker_of(b"key", UUID(int=1), 1)
ORDER = OrderSoftware(pricelist=546, address=ip_address("203.0.113.10"), label="web-01", period_months=1)
OFFER = ProviderOffer(order_function="softexternal.order.param", pricelist=546)
DONE = b"<doc><id>40117</id><ok/></doc>"
PAGE = b'<html><head><meta http-equiv="refresh" content="1;url=long/7f3a91/billmgr"></head></html>'


class NotingObserver:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.hostile: list[str] = []

    def call_done(self, function: str, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((function, result))

    def hostile_answer(self, function: str, reason: str) -> None:
        self.hostile.append(f"{function}: {reason}")


async def opened() -> bool:
    return True


def client_of(
    base_url: str,
    *,
    password: str = CANARY,
    timeout_seconds: float = 5.0,
    ca_file: Path | None = None,
    observer: NotingObserver | None = None,
    clock: MachineClock | ManualSystemClock | None = None,
) -> IspLicenseClient:
    account = PanelAccount(
        base_url=base_url,
        user=USER,
        password=SecretStr(password),
        loopback_allowed=True,
        ca_file=ca_file,
        connect_timeout_seconds=0.5,
        read_timeout_seconds=timeout_seconds,
        money_timeout_seconds=timeout_seconds,
    )
    own_clock = clock or MachineClock()
    return IspLicenseClient(
        account,
        clock=own_clock,
        observer=observer or NotingObserver(),
        pacer=CallPacer(own_clock, per_second=1000, burst=1000),
    )


async def order(client: IspLicenseClient, fence: Fence = opened) -> SendOutcome:
    return await client.carry_out(ORDER, offer=OFFER, marker=MARKER, fence=fence)


async def test_request_is_one_post_with_everything_in_its_body() -> None:
    async with wire_server(reply(DONE)) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}"))

    assert isinstance(outcome, Confirmed)
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/manager/billmgr")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept"] == "text/xml"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["connection"] == "close"
    assert {"cookie", "authorization", "referer"}.isdisjoint(request.headers)
    form = parse_qsl(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    assert sorted(form) == sorted(
        {
            "authinfo": f"{USER}:{CANARY}",
            "out": "xml",
            "lang": "en",
            "func": "softexternal.order.param",
            "clicked_button": "finish",
            "ip": "203.0.113.10",
            "licname": f"web-01 {MARKER}",
            "period": "1",
            "pricelist": "546",
            "autoprolong": "null",
            "sok": "ok",
            "skipbasket": "on",
        }.items()
    )


AFTER_THE_FIRST_BYTE: dict[str, Answering] = {
    "closed": close,
    "reset": reset,
    "half a head": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "no HTTP": raw(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "half a body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<doc><id>40117</id>"),
    "chunks cut short": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<doc>"),
    "wrong chunk size": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n<doc>"),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n<doc/>"),
    "a header of megabytes": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000_000 + b"\r\n\r\n" + DONE),
    "headers without end": drip(b"X-Y: z\r\n", pieces=100_000, every_seconds=0),
    "silence": hang,
}


@pytest.mark.parametrize("answer", AFTER_THE_FIRST_BYTE.values(), ids=AFTER_THE_FIRST_BYTE.keys())
async def test_failure_after_the_first_byte_is_unknown_and_nothing_is_sent_again(answer: Answering) -> None:
    async with wire_server(answer) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}", timeout_seconds=1))
        await asyncio.sleep(0.05)

    assert (type(outcome), outcome.evidence.row) == (Unknown, 2)
    assert (len(server.requests), server.connections) == (1, 1)


async def test_body_that_drips_for_ever_ends_with_the_budget() -> None:
    head = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunks = drip(b"1\r\n \r\n", pieces=1000, every_seconds=0.05)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader, writer)
        await chunks(reader, writer)

    started = time.monotonic()
    async with wire_server(answer) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}", timeout_seconds=1))

    assert (type(outcome), outcome.evidence.row) == (Unknown, 2)
    assert time.monotonic() - started < 30, "the drops would go on for fifty seconds"


@pytest.mark.parametrize("cut", [close, reset], ids=["close", "reset"])
async def test_get_of_a_long_page_is_not_repeated_by_the_http_layer(cut: Answering) -> None:
    """The seed of all double charges: aiohttp repeats a GET whose connection dies, unless it is told not to."""
    async with wire_server(reply(PAGE), cut) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}"))
        await asyncio.sleep(0.05)

    assert (type(outcome), outcome.evidence.row) == (Unknown, 2)
    assert [(request.method, request.target) for request in server.requests] == [
        ("POST", "/manager/billmgr"),
        ("GET", "/manager/long/7f3a91/billmgr"),
    ]


async def test_long_page_that_cannot_be_fetched_does_not_unsend_the_order() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.stop_listening()
        await reply(PAGE)(reader, writer)

    async with wire_server(answer) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}"))

    assert (type(outcome), outcome.evidence.row) == (Unknown, 2)
    assert "ClientConnectorError" in outcome.evidence.detail


async def test_long_pages_are_followed_by_get_without_a_secret_until_the_document_comes() -> None:
    clock = ManualSystemClock()
    async with wire_server(reply(PAGE), reply(PAGE), reply(PAGE), reply(DONE)) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}", clock=clock))

    assert isinstance(outcome, Confirmed)
    assert [request.method for request in server.requests] == ["POST", "GET", "GET", "GET"]
    assert {request.target for request in server.requests[1:]} == {"/manager/long/7f3a91/billmgr"}
    assert all(request.body == b"" and CANARY not in str(request) for request in server.requests[1:])


async def test_long_pages_without_end_are_left_after_ten_hops_and_two_minutes() -> None:
    clock = ManualSystemClock()
    async with wire_server(*[reply(PAGE)] * 20) as server:
        started = clock.monotonic()
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}", clock=clock))

    assert (type(outcome), outcome.evidence.row) == (Unknown, 5)
    assert 2 <= len(server.requests) <= 11
    assert sum(request.method == "POST" for request in server.requests) == 1
    assert clock.monotonic() - started <= 120


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/manager/long/1/billmgr",
        "//127.0.0.1:1/long/1/billmgr",
        "../long/1/billmgr",
        "/etc/long/1/billmgr",
        "long/../../x/billmgr",
        "long/1/billmgr?a",
        "file:///long/1/billmgr",
        "long/1/x/billmgr",
        "long/%2e%2e/billmgr",
    ],
)
async def test_long_page_that_leads_elsewhere_is_not_followed(address: str) -> None:
    page = f"<html><a href='{address}'>{address}</a></html>".encode()
    async with wire_server(reply(page)) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}"))

    assert isinstance(outcome, Unknown)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [403, 404, 429, 500])
async def test_status_of_a_long_page_says_nothing_of_the_order(status: int) -> None:
    async with wire_server(reply(PAGE), reply(b"", status=status)) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}"))

    assert (type(outcome), outcome.evidence.row) == (Unknown, 5)


@pytest.mark.parametrize("target", ["http://169.254.169.254/", "/manager/billmgr", "http://127.0.0.1:1/"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(status: int, target: str) -> None:
    headers = (f"Location: {target}", "Set-Cookie: billmgrses5=x; Path=/")
    async with wire_server(reply(b"", status=status, headers=headers)) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}"))
        await asyncio.sleep(0)

    assert (type(outcome), outcome.evidence.row) == (Unknown, 4)
    assert len(server.requests) == 1


async def test_cookies_are_neither_kept_nor_sent() -> None:
    answers = [reply(DONE, headers=("Set-Cookie: billmgrses5=x; Path=/",)), reply(DONE)]
    async with wire_server(*answers) as server:
        client = client_of(f"http://127.0.0.1:{server.port}")
        for _ in range(2):
            await order(client)

    assert ["cookie" in request.headers for request in server.requests] == [False, False]
    assert server.connections == 2, "a fresh connection for each"


async def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with wire_server(reply(DONE)) as server:
        assert isinstance(await order(client_of(f"http://127.0.0.1:{server.port}")), Confirmed)


async def test_refused_connection_is_not_sent() -> None:
    async with wire_server() as server:
        port = server.port

    outcome = await order(client_of(f"http://127.0.0.1:{port}"))

    assert (type(outcome), outcome.evidence.row) == (NotSent, 1)
    assert "errno" in outcome.evidence.detail


async def test_name_without_permitted_address_is_not_sent() -> None:
    async def lookup(_host: str, _port: int) -> Sequence[str]:
        return ("10.0.0.1",)

    clock = MachineClock()
    account = PanelAccount(base_url="https://panel.example", user=USER, password=SecretStr(CANARY))
    client = IspLicenseClient(account, clock=clock, observer=NotingObserver(), pacer=CallPacer(clock), lookup=lookup)

    outcome = await order(client)

    assert (type(outcome), outcome.evidence.row) == (NotSent, 1)
    assert "panel.example" not in outcome.evidence.detail


async def test_name_is_resolved_for_every_connection_anew() -> None:
    """A name that turns inwards after the first call is met by the same check."""
    found = ["127.0.0.1"]

    async def lookup(_host: str, _port: int) -> Sequence[str]:
        return tuple(found)

    clock = MachineClock()
    async with wire_server(reply(DONE), reply(DONE)) as server:
        account = PanelAccount(
            base_url=f"http://localhost:{server.port}", user=USER, password=SecretStr(CANARY), loopback_allowed=True
        )
        client = IspLicenseClient(
            account, clock=clock, observer=NotingObserver(), pacer=CallPacer(clock), lookup=lookup
        )
        first = await order(client)
        found[0] = "169.254.169.254"
        second = await order(client)

    assert isinstance(first, Confirmed)
    assert isinstance(second, NotSent)


@pytest.mark.parametrize("kind", ["false", "error", "timeout"])
async def test_closed_fence_leaves_not_one_byte_and_no_connection(kind: str) -> None:
    async def fence() -> bool:
        if kind == "error":
            raise OSError("database gone")
        if kind == "timeout":
            raise TimeoutError
        return False

    async with wire_server(reply(DONE)) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}"), fence)
        await server.until(lambda: server.connections == 1 and server.open_connections == 0)

    assert (type(outcome), outcome.evidence.row) == (NotSent, 1)
    assert outcome.evidence.detail.startswith("fence")
    assert (server.connections, server.requests, server.silent_bytes) == (1, [], [b""])


async def test_fence_is_asked_after_the_connection_stands_and_before_the_first_byte() -> None:
    seen: list[tuple[int, int]] = []

    async with wire_server(reply(DONE)) as server:

        async def fence() -> bool:
            await asyncio.sleep(0.05)
            seen.append((server.connections, len(server.requests)))
            return True

        await order(client_of(f"http://127.0.0.1:{server.port}"), fence)

    assert seen == [(1, 0)]


async def test_fence_that_hangs_ends_with_the_budget_and_sends_nothing() -> None:
    async def fence() -> bool:
        await asyncio.sleep(30)
        return True

    async with wire_server(reply(DONE)) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}", timeout_seconds=0.5), fence)
        await server.until(lambda: server.connections == 1 and server.open_connections == 0)

    assert (type(outcome), server.requests, server.silent_bytes) == (NotSent, [], [b""])


async def test_canceled_send_leaves_no_connection_behind() -> None:
    async with wire_server(hang) as server:
        sending = asyncio.create_task(order(client_of(f"http://127.0.0.1:{server.port}", timeout_seconds=60)))
        await server.until(lambda: len(server.requests) == 1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await server.until(lambda: server.open_connections == 0)
        assert len(server.requests) == 1


async def test_silent_tls_server_is_given_up_before_anything_is_sent() -> None:
    async with wire_server() as server:
        started = time.monotonic()
        outcome = await order(client_of(f"https://127.0.0.1:{server.port}", timeout_seconds=60))

    assert isinstance(outcome, NotSent)
    assert time.monotonic() - started < 30, "the connection has a time of its own"


@pytest.mark.parametrize("fault", ["tls_expired", "tls_wrong_host", "tls_unknown_ca"])
async def test_wrong_certificate_is_not_sent(fault: str, tmp_path: Path) -> None:
    async with running_sandbox(tmp_path, tls=True) as rig:
        client = client_of(rig.addresses.tls_url, password="pw", ca_file=Path(rig.addresses.authority))
        good = await order(client)
        await rig.fault(fault)
        bad = await order(client)
        stranger = await order(client_of(rig.addresses.tls_url, password="pw"))

    assert isinstance(good, Confirmed)
    assert (type(bad), bad.evidence.row) == (NotSent, 1)
    assert "Certificate" in bad.evidence.detail
    assert isinstance(stranger, NotSent)


HOSTILE = {
    "xxe": ({}, 6),
    "xxe_param": ({}, 6),
    "billion_laughs": ({}, 6),
    "quadratic": ({}, 6),
    "deep": ({}, 6),
    "huge_body": ({}, 6),
    "gzip bomb": ({"gzip": True}, 6),
    "bad_encoding": ({"kind": "utf-16"}, 6),
    "malformed_xml": ({"kind": "nul"}, 6),
    "wrong_root": ({}, 6),
    "empty_body": ({}, 6),
    "html_login": ({}, 6),
    "truncate": ({}, 2),
    "reset": ({"phase": "after"}, 2),
}


@pytest.mark.parametrize(("mode", "fault"), HOSTILE.items(), ids=HOSTILE.keys())
async def test_hostile_answer_costs_little_and_leaves_the_order_unknown(
    mode: str, fault: tuple[dict[str, object], int], tmp_path: Path
) -> None:
    args, row = fault
    async with running_sandbox(tmp_path) as rig:
        name = "huge_body" if mode == "gzip bomb" else mode
        await rig.control("POST", "faults", {"mode": name, "args": args})
        client = client_of(rig.addresses.url, password="pw")
        gc.collect()
        started = time.process_time()
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome = await order(client)
        spent_seconds = time.process_time() - started
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
        journal = await rig.journal()
        state = await rig.control("GET", "state")

    assert (type(outcome), outcome.evidence.row) == (Unknown, row)
    assert spent_seconds < 1.0, "with the sandbox's own share, which is in this process"
    assert grown_kib < 128 * 1024, "with the sandbox's own share: it holds the bomb"
    assert sum(entry["is_submit"] for entry in journal) == 1
    assert state["listener_hits"] == 0


async def test_client_reads_no_more_of_a_huge_body_than_its_limit() -> None:
    sent = 0

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n<doc>")
        for _ in range(50 * 16):
            writer.write(b" " * 65_536)
            await writer.drain()
            sent += 65_536

    observer = NotingObserver()
    async with wire_server(answer) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}", observer=observer))

    assert (type(outcome), outcome.evidence.row) == (Unknown, 6)
    assert sent < 16 * 1_048_576
    assert observer.hostile == ["softexternal.order.param: body over the limit"]


@pytest.mark.parametrize(
    ("body", "encoding", "expected"),
    [
        (gzip.compress(DONE), "gzip", Confirmed),
        (gzip.compress(DONE)[:-4], "gzip", Unknown),
        (b"not gzip", "gzip", Unknown),
        (DONE, "br", Unknown),
        (DONE, "identity", Confirmed),
    ],
    ids=["gzip", "cut gzip", "no gzip", "brotli", "identity"],
)
async def test_encoding_that_was_not_asked_for_is_read_within_limits_or_not_at_all(
    body: bytes, encoding: str, expected: type[SendOutcome]
) -> None:
    async with wire_server(reply(body, headers=(f"Content-Encoding: {encoding}",))) as server:
        outcome = await order(client_of(f"http://127.0.0.1:{server.port}"))

    assert type(outcome) is expected


async def test_gzip_bomb_is_not_unfolded() -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join([*(packer.compress(b" " * 1_048_576) for _ in range(50)), packer.flush()])
    async with wire_server(reply(bomb, headers=("Content-Encoding: gzip",))) as server:
        client = client_of(f"http://127.0.0.1:{server.port}")
        tracemalloc.start()
        try:
            outcome = await order(client)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert (type(outcome), outcome.evidence.detail) == (Unknown, "body over the limit after decoding")
    assert peak_bytes < 16 * 1_048_576


async def test_observer_learns_of_calls_and_attacks_but_not_of_their_content() -> None:
    observer = NotingObserver()
    dtd = b"<!DOCTYPE doc [<!ENTITY a 'b'>]><doc/>"
    async with wire_server(reply(dtd), reply(DONE), reply(b"", status=502), close) as server:
        client = client_of(f"http://127.0.0.1:{server.port}", observer=observer)
        for _ in range(4):
            await order(client)

    assert [result for _, result in observer.calls] == ["unreadable", "document", "502", "broken"]
    assert observer.hostile == ["softexternal.order.param: declares types or entities"]


CANARY_SPELLINGS = (CANARY, quote(CANARY, safe=""), quote(f"{USER}:{CANARY}", safe=""), CANARY.encode().hex())


@pytest.mark.parametrize(
    "answer",
    [
        close,
        reset,
        raw(f"HTTP/1.1 200 {CANARY}\r\nX: {CANARY}\r\nContent-Length: z\r\n\r\n{CANARY}".encode()),
        reply(f"<doc><error type='{CANARY}' object='{CANARY}'><msg>{CANARY}</msg></error></doc>".encode()),
        reply(f"<doc><id>{CANARY}</id><billorder>{CANARY}</billorder><ok>{CANARY}</ok></doc>".encode()),
        reply(f"<doc><tparams><authinfo>{USER}:{CANARY}</authinfo></tparams><id>1</id></doc>".encode()),
        reply(f"<doc>{CANARY}".encode()),
        reply(f"<html>authinfo={quote(USER + ':' + CANARY, safe='')}</html>".encode(), status=502),
        reply(CANARY.encode().hex().encode(), status=403),
        reply(b"", status=302, headers=(f"Location: http://x/?authinfo={CANARY}", f"Set-Cookie: a={CANARY}")),
        reply(f"<a href='http://{CANARY}/long/1/billmgr'>".encode()),
    ],
)
async def test_canary_password_is_in_no_outcome_error_or_log(
    answer: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    observer = NotingObserver()
    try:
        async with wire_server(answer, *[answer] * 3) as server:
            client = client_of(f"http://127.0.0.1:{server.port}", observer=observer)
            outcome = await order(client)
            texts = [repr(outcome), repr(client), repr(vars(client)), repr(observer.calls), repr(observer.hostile)]
            try:
                texts.append(repr(await client.read_service(Elid(1), (ServiceKind.SOFTWARE,))))
            except ProviderReadError as error:
                texts += [repr(error), str(error), repr(error.__context__), repr(error.__cause__), repr(vars(error))]
            texts.append(caplog.text)
    finally:
        asyncio.get_running_loop().set_debug(False)

    leaks = [text for text in texts for spelling in CANARY_SPELLINGS if spelling.casefold() in text.casefold()]
    assert leaks == []


async def seeded(rig: SandboxRig, count: int) -> list[Elid]:
    rows = [
        {"pricelist": 546, "licname": f"web-{number}", "ip": "203.0.113.10", "id": 50_000 + number}
        for number in range(count)
    ]
    await rig.control("POST", "licenses", rows)
    return [Elid(50_000 + number) for number in range(count)]


async def test_saved_filter_is_cleared_once_and_the_list_read_again(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as rig:
        elids = await seeded(rig, 3)
        await rig.control("POST", "faults", {"mode": "sticky_filter", "match": {"func": "softexternal"}})
        client = client_of(rig.addresses.url, password="pw")

        services = await client.read_services(elids[:1])

        functions = [entry["func"] for entry in await rig.journal()]
    assert services.conclusive
    assert [row.elid for row in services.rows] == elids
    assert functions.count("softexternal") == 2
    assert functions.count("softexternal.filter") == 1


async def test_list_of_many_pages_is_read_to_its_end(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as rig:
        elids = await seeded(rig, 1203)
        client = client_of(rig.addresses.url, password="pw")

        services = await client.read_services(elids[-1:])

        pages = [entry["func"] for entry in await rig.journal()].count("softexternal")
    assert services.conclusive
    assert [row.elid for row in services.rows] == elids
    assert pages == 3


async def test_list_that_is_cut_short_or_fails_is_no_evidence(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as rig:
        await seeded(rig, 3)
        client = client_of(rig.addresses.url, password="pw")
        everywhere = {"func": "softexternal"}
        await rig.control("POST", "faults", {"mode": "short_page", "match": everywhere, "times": None})
        short = await client.read_services([])
        await rig.control("DELETE", "faults")
        await rig.control(
            "POST", "faults", {"mode": "http_status", "phase": "before", "match": everywhere, "times": None}
        )
        failed = await client.read_services([])
        await rig.control("DELETE", "faults")
        whole = await client.read_services([])

    assert short.doubts
    assert "2 rows of 3" in short.doubts[0]
    assert failed.doubts == ("softexternal: HTTP 502",)
    assert whole.conclusive


async def test_lying_list_is_caught_by_the_canary(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as rig:
        elids = await seeded(rig, 3)
        client = client_of(rig.addresses.url, password="pw")
        lie = {"mode": "short_page", "match": {"func": "softexternal"}, "times": None, "args": {"lies": True}}
        await rig.control("POST", "faults", lie)

        services = await client.read_services([elids[-1]])

    assert not services.conclusive


@pytest.mark.parametrize("mode", ["type_switch", "localized_status"])
async def test_status_is_read_from_codes_wherever_they_stand_and_never_from_words(mode: str, tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as rig:
        await seeded(rig, 1)
        await rig.control("POST", "faults", {"mode": mode, "times": None})

        services = await client_of(rig.addresses.url, password="pw").read_services([])

    assert [row.status.name for row in services.rows] == ["ACTIVE" if mode == "type_switch" else "UNKNOWN"]


@pytest.mark.parametrize("status", [403, 429, 503])
async def test_read_that_is_held_off_asks_for_a_pause(status: int) -> None:
    async with wire_server(reply(b"", status=status)) as server:
        with pytest.raises(ProviderReadError) as held_off:
            await client_of(f"http://127.0.0.1:{server.port}").read_services([])

    assert (held_off.value.refusal, held_off.value.pause.value) == (Refusal.HELD_OFF, "back_off")


async def test_form_of_another_service_is_no_answer() -> None:
    async with wire_server(reply(b"<doc><id>2</id><elid>2</elid><licname>x</licname></doc>")) as server:
        with pytest.raises(ProviderReadError, match="another service"):
            await client_of(f"http://127.0.0.1:{server.port}").read_service(Elid(1), (ServiceKind.SOFTWARE,))


async def test_missing_form_function_is_no_missing_service() -> None:
    body = b"<doc><error type='missed' object='func'/></doc>"
    async with wire_server(reply(body)) as server:
        with pytest.raises(ProviderReadError, match="no form function"):
            await client_of(f"http://127.0.0.1:{server.port}").read_service(Elid(1), (ServiceKind.PLESK,))


async def test_balance_that_may_not_be_read_is_none(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as rig:
        await rig.control("POST", "profile", {"balance_readable": False})

        assert await client_of(rig.addresses.url, password="pw").read_balance() is None


async def test_bad_id_is_accepted_and_refusal_of_the_form_is_not(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as rig:
        client = client_of(rig.addresses.url, password="pw")
        await rig.fault("bad_id")
        accepted = await order(client)
        await rig.fault("captcha")
        refused = await order(client)

    assert isinstance(accepted, Accepted)
    assert isinstance(refused, Refused)
    assert refused.refusal is Refusal.CAPTCHA


async def test_calls_wait_their_turn_at_the_rate_of_the_account() -> None:
    clock = ManualSystemClock()
    pacer = CallPacer(clock, per_second=2, burst=4)

    for _ in range(8):
        await pacer.turn()

    assert clock.slept == [0.5] * 4
    clock.seconds += 60
    for _ in range(5):
        await pacer.turn()
    assert clock.slept == [0.5] * 5
