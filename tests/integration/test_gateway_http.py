"""`POST /isv` over real sockets: order of checks, exact statuses and texts, and callers that mean no good.

Behind the routes stands a bus that decides at once by the real rules; Kafka and PostgreSQL are not needed here.
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from gateway.auth import Doorkeeper
from gateway.circuit import Circuit, Machine
from gateway.problems import Refused, Unanswered
from gateway.routes import isv, jwks
from gateway.routes.isv import Bus
from gateway.routes.journal import Journal
from gateway.routes.public import public_application
from gateway.routes.whole_response import DateLine
from gateway.server import PublicServer
from shared.clock import MachineClock
from shared.contracts.commands import PurchaseLicense
from shared.contracts.replies import Reply, ReplyStatus
from shared.security.accounts import Role
from shared.telemetry.metrics import GatewayMetrics
from tests.fakes.gateway import DecidingBus, KnownPairs

pytestmark = pytest.mark.asyncio

BODY_LIMIT = 512 * 1024
FORM = "application/x-www-form-urlencoded"
GOOD = "ka-bridge:demo-only"


@dataclass(frozen=True)
class Answer:
    """An answer taken apart."""

    status: int
    head: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Keys:
    """One public key."""

    def __init__(self) -> None:
        self.reads = 0

    async def all(self) -> list[dict[str, str]]:
        self.reads += 1
        return [{"kty": "OKP", "kid": "first"}]


class Port:
    """The public port under test and what stands behind it; `bus` stands in for the deciding one."""

    def __init__(self, bus: Bus | None = None) -> None:
        clock = MachineClock()
        self.bus = DecidingBus()
        self.connections_max = 400
        self.pairs = KnownPairs(
            {"ka-bridge": ("demo-only", Role.KA), "partner": ("p", Role.PARTNER), "c": ("a:b", Role.KA)}
        )
        self.circuit = Circuit(partitions=24, budget_seconds=25)
        for machine in Machine:
            self.circuit.came_up(machine, now=0.0)
        self.keys = Keys()
        self.registry = CollectorRegistry()
        metrics = GatewayMetrics.bound_to(self.registry)
        date_line = DateLine(clock)
        endpoint = isv.IsvEndpoint(
            bus=bus or self.bus,
            doorkeeper=Doorkeeper(self.pairs, role=Role.KA, circuit=self.circuit, metrics=metrics),
            journal=Journal(metrics, clock, route="isv"),
            clock=clock,
            date_line=date_line,
            body_limit_bytes=BODY_LIMIT,
        )
        keys = jwks.JwksEndpoint(self.keys, clock=clock, date_line=date_line)
        application = public_application(endpoint.handle, keys.handle, clock=clock, date_line=date_line)
        self.server = PublicServer(application, connections_max=self.connections_max, date_line=date_line, clock=clock)
        self.port = 0

    async def send(self, data: bytes, *, patience_seconds: float = 30) -> bytes:
        """Send bytes on a connection of their own and return everything until the other side closes."""
        async with asyncio.timeout(patience_seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(data)
                return await reader.read()
            finally:
                writer.close()

    async def ask(
        self,
        form: str | bytes,
        *,
        method: str = "POST",
        path: str = "/isv",
        pair: str | None = GOOD,
        media_type: str | None = FORM,
        extra: str = "",
    ) -> Answer:
        body = form.encode() if isinstance(form, str) else form
        return taken_apart(await self.send(request(body, method, path, pair, media_type, extra)))


def request(
    body: bytes,
    method: str = "POST",
    path: str = "/isv",
    pair: str | None = GOOD,
    media_type: str | None = FORM,
    extra: str = "",
) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: isv.example.net\r\nAccept: */*\r\nConnection: close\r\n"
    if pair is not None:
        head += f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    if media_type is not None:
        head += f"Content-Type: {media_type}\r\n"
    if "Transfer-Encoding" not in extra and "Content-Length" not in extra:
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + extra.encode() + b"\r\n" + body


def taken_apart(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 "), data
    return Answer(int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body)


@pytest_asyncio.fixture
async def port() -> AsyncIterator[Port]:
    made = Port()
    made.port = await made.server.open("127.0.0.1", 0, None)
    yield made
    await made.server.close(answer_seconds=1)


DATES = (
    "PURCHASE_DATE=05%2F02%2F2027&SUBSCRIPTION_DATE=05%2F02%2F2027&START_DATE=05%2F02%2F2027&EXPIRY_DATE=15%2F03%2F2027"
)


def purchase(
    number: str = "00481516", product: str = "Bronze", dates: str = DATES, test: str = "N", tail: str = ""
) -> str:
    return (
        f"APS_PROTOCOL_MODEL=2&APS_ACTION=PURCHASE&APS_TEST_MODE={test}&PURCHASE_ID={number}&PRODUCT_ID={product}"
        f"&{dates}&REG_NAME=60321{tail}"
    )


def later(action: str, product: str, start: str, expiry: str, purchased: str, number: str = "00481516") -> str:
    return (
        f"APS_PROTOCOL_MODEL=2&APS_ACTION={action}&APS_TEST_MODE=N&PURCHASE_ID={number}&PRODUCT_ID={product}"
        f"&PURCHASE_DATE={purchased}&SUBSCRIPTION_DATE=05%2F02%2F2027&START_DATE={start}&EXPIRY_DATE={expiry}&REG_NAME=60321"
    )


def terminate(number: str = "00481516", product: str = "NFR-Gold") -> str:
    asked = f"APS_ACTION=TERMINATE&APS_TEST_MODE=N&PURCHASE_ID={number}&PRODUCT_ID={product}"
    return asked + "&APS_TERMINATION_DATE=02%2F04%2F2027"


def assert_problem(answer: Answer, status: int, text: str) -> None:
    assert (answer.status, answer.text) == (status, text)
    assert answer.head["Content-Type"] == "text/plain; charset=UTF-8"
    assert answer.head["Content-Length"] == str(len(answer.body))
    assert "Server" not in answer.head


async def test_the_story_of_a_license_is_told_in_the_words_of_the_protocol_page(port: Port) -> None:
    sold = await port.ask(purchase())
    assert (sold.status, sold.body) == (200, b"ka-bridge:00481516 Bronze r1")
    assert sold.head["X-APS-Expiration-Date"] == "Mon, 15 Mar 2027 12:00:00 GMT"
    assert sold.head["Content-Type"] == "application/octet-stream"
    assert sold.head["Content-Length"] == str(len(sold.body))
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", sold.head["Date"])
    assert not {"Server", "Content-Encoding", "Transfer-Encoding", "Location"} & set(sold.head)

    dialect = (
        "REG_NAME=60321&EXPIRY_DATE=15%5c03%5c2027&START_DATE=05%5c02%5c2027&SUBSCRIPTION_DATE=05%5c02%5c2027"
        "&PURCHASE_DATE=05%5c02%5c2027&PRODUCT_ID=Bronze&PURCHASE_ID=00481516&APS_ACTION=PURCHASE"
    )
    again = await port.ask(dialect)
    assert (again.status, again.body) == (200, sold.body)
    other = await port.ask(purchase(product="Gold"))
    assert_problem(other, 409, "Error: license 00481516 already exists with different parameters.")

    march = later("RENEW", "Bronze", "05%2F03%2F2027", "15%2F04%2F2027", "05%2F03%2F2027")
    renewed = await port.ask(march)
    assert (renewed.status, renewed.body) == (200, b"ka-bridge:00481516 Bronze r2")
    assert renewed.head["X-APS-Expiration-Date"] == "Thu, 15 Apr 2027 12:00:00 GMT"
    lost = await port.ask(march.replace("PURCHASE_DATE=05", "PURCHASE_DATE=06"))
    assert (lost.status, lost.body) == (200, renewed.body)

    gold = await port.ask(later("UPGRADE", "Gold", "05%2F03%2F2027", "15%2F04%2F2027", "20%2F03%2F2027"))
    assert gold.body.endswith(b"Gold r3")
    silver = await port.ask(later("UPGRADE", "Silver", "05%2F03%2F2027", "15%2F04%2F2027", "20%2F03%2F2027"))
    assert_problem(silver, 400, "Error: upgrade from Gold to Silver is not offered.")
    nfr = await port.ask(later("UPGRADE", "NFR-Gold", "05%2F03%2F2027", "15%2F04%2F2027", "21%2F03%2F2027"))
    assert nfr.body.endswith(b"NFR-Gold r4")

    ended = await port.ask(terminate())
    assert (ended.status, ended.body) == (204, b"")
    assert not {"Content-Length", "Content-Type"} & set(ended.head)
    repeated = await port.ask(terminate())
    assert (repeated.status, repeated.text) == (200, "License 00481516 is terminated.")
    assert repeated.head["Content-Type"] == "text/plain; charset=UTF-8"
    unknown = await port.ask(terminate(number="00999999", product="Bronze"))
    assert (unknown.status, unknown.text) == (200, "License 00999999 is not held here; it is recorded as terminated.")

    revived = await port.ask(later("RENEW", "NFR-Gold", "05%2F04%2F2027", "15%2F05%2F2027", "05%2F04%2F2027"))
    assert_problem(revived, 409, "Error: license 00481516 is terminated and cannot be renewed.")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (
            purchase(dates=DATES.replace("15%2F03%2F2027", "15%2F03%2F2026")),
            "Error: EXPIRY_DATE 15/03/2026 is earlier than START_DATE 05/02/2027.",
        ),
        (purchase(number="00481516001"), "Error: PURCHASE_ID is longer than 10 characters."),
        (
            purchase().replace("PURCHASE&", "SUSPEND&"),
            "Error: APS_ACTION is not one of PURCHASE, RENEW, UPGRADE, TERMINATE, GET-INFO.",
        ),
        (purchase(product="Nonsense"), "Error: product Nonsense is not known."),
        (purchase(product="%E2%80%AE%0B".replace("%0B", "x")), "Error: product (unnamed) is not known."),
    ],
)
async def test_what_is_wrong_with_a_request_is_said_in_one_line(port: Port, form: str, text: str) -> None:
    assert_problem(await port.ask(form), 400, text)


async def test_usage_is_never_invented(port: Port) -> None:
    question = "APS_PROTOCOL_MODEL=3&APS_ACTION=GET-INFO&APS_TEST_MODE=N&PURCHASE_ID={}&PRODUCT_ID={}&REG_NAME=60321"
    backup = purchase(number="00502001", product="CloudBackup").replace("APS_PROTOCOL_MODEL=2", "APS_PROTOCOL_MODEL=3")
    assert (await port.ask(backup)).status == 200
    down = await port.ask(question.format("00502001", "CloudBackup"))
    assert_problem(down, 503, "Error: usage data are temporarily unavailable.")
    assert down.head["Retry-After"] == "600"
    await port.ask(purchase())
    none = await port.ask(question.format("00481516", "Bronze"))
    assert_problem(none, 400, "Error: product Bronze has no usage report.")


@pytest.mark.parametrize(
    ("said", "status", "text", "retry"),
    [
        (Unanswered.NOT_FINISHED, 504, "Error: the request is not finished yet; repeat it later.", "300"),
        (Reply(ReplyStatus.EXPIRED, b"", b""), 504, "Error: the request is not finished yet; repeat it later.", "300"),
        *(
            (refused, 503, "Error: the service is temporarily unavailable; repeat the request later.", "5")
            for refused in (Unanswered.FULL, Unanswered.CIRCUIT, Unanswered.BROKER, Unanswered.DATABASE)
        ),
    ],
)
async def test_a_command_without_reply_is_503_or_504(
    port: Port, said: Reply | Unanswered, status: int, text: str, retry: str
) -> None:
    port.bus.answers = [said]
    answer = await port.ask(purchase())
    assert_problem(answer, status, text)
    assert answer.head["Retry-After"] == retry


async def test_a_usage_report_is_sent_as_the_worker_wrote_it(port: Port) -> None:
    body = b'{"version":"isv-reportable-1","usage":{"storedGigabytes":118,"protectedServers":3}}'
    port.bus.answers = [Reply(ReplyStatus.USAGE_TOLD, b"", body)]
    answer = await port.ask("APS_PROTOCOL_MODEL=3&APS_ACTION=GET-INFO&PURCHASE_ID=00502001&PRODUCT_ID=CloudBackup")
    assert (answer.status, answer.body) == (200, body)
    assert answer.head["Content-Type"] == "application/json; charset=UTF-8"
    assert answer.head["Content-Length"] == "83"
    assert "X-APS-Expiration-Date" not in answer.head


@pytest.mark.parametrize(
    "broken",
    [
        Reply(ReplyStatus.LICENSE_BODY, b"2027-03-1", b"body"),
        Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15\r\nX-Evil: 1", b"body"),
        Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15", b""),
        Reply(ReplyStatus.REJECTED, b"a_code_of_the_future", b""),
        Reply(ReplyStatus.REJECTED, b"license_unknown", b"{"),
        Reply(ReplyStatus.UNREADABLE, b"", b""),
    ],
)
async def test_a_reply_that_cannot_be_sent_as_it_must_is_not_sent(port: Port, broken: Reply) -> None:
    port.bus.answers = [broken]
    assert_problem(await port.ask(purchase()), 500, "Error: the request could not be processed.")


async def test_checks_stop_at_the_first_failure_in_the_order_of_the_protocol_page(port: Port) -> None:
    """Each request fails every check from one on; so the first that answers is the one under test."""
    big = "x" * (BODY_LIMIT + 1)
    wrong = {"pair": "ka-bridge:wrong", "media_type": "text/plain", "path": "/isv?a=1"}
    assert (await port.ask(big, method="PUT", pair=None, media_type="text/plain", path="/isv?a=1")).status == 405
    assert (await port.ask(big, pair=None, media_type="text/plain", path="/isv?a=1")).status == 401
    assert (await port.ask(big, **wrong)).status == 403
    assert (await port.ask(big, media_type="text/plain", path="/isv?a=1")).status == 415
    assert (await port.ask(big, path="/isv?a=1")).status == 413
    assert (await port.ask("%zz", path="/isv?a=1")).status == 400
    assert not port.bus.asked


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "TRACE", "HEAD", "PATCH", "OPTIONS"])
async def test_every_other_method_is_refused_before_credentials(port: Port, method: str) -> None:
    answer = await port.ask("", method=method, pair=None)
    assert (answer.status, answer.head["Allow"]) == (405, "POST")
    assert answer.text == ("" if method == "HEAD" else "Error: only POST is accepted here.")


@pytest.mark.parametrize("path", ["/", "//", "/isv/", "//isv", "/%2e%2e/", "/handler.php%00", "/ISV", "/isv%20", "/30"])
async def test_unknown_addresses_are_404_in_plain_text(port: Port, path: str) -> None:
    answer = await port.ask(purchase(), path=path)
    assert_problem(answer, 404, "Error: there is nothing at this address.")


@pytest.mark.parametrize(
    "header",
    [
        *("", "Authorization: Basic\r\n", "Authorization: Basic ====\r\n", "Authorization: Basic !!!\r\n"),
        *("Authorization: Basic YWI=\r\n", "Authorization: Basic /////w==\r\n", "Authorization: Bearer x\r\n"),
        f"Authorization: Basic {'A' * 8000}\r\n",
        f"Authorization: Basic {base64.b64encode(GOOD.encode()).decode()}\r\n" * 2,
    ],
)
async def test_no_usable_credentials_are_401(port: Port, header: str) -> None:
    answer = await port.ask(purchase(), pair=None, extra=header)
    assert_problem(answer, 401, "Error: authentication is required.")
    assert answer.head["WWW-Authenticate"] == 'Basic realm="isv"'


@pytest.mark.parametrize(
    "pair", ["ka-bridge:wrong", "nobody:demo-only", "partner:p", "ka-bridge:demo-only\n", "ka-bridge:"]
)
async def test_a_wrong_pair_and_another_role_are_403_in_the_same_words(port: Port, pair: str) -> None:
    for _attempt in range(2):  # the second time the login may remember it
        answer = await port.ask(purchase(), pair=pair)
        assert_problem(answer, 403, "Error: these credentials are not allowed to use this endpoint.")


async def test_a_password_may_hold_a_colon(port: Port) -> None:
    assert (await port.ask(purchase(), pair="c:a:b")).status == 200


async def test_a_verified_pair_is_not_verified_again(port: Port) -> None:
    for number in range(3):
        assert (await port.ask(purchase(number=str(number)))).status == 200
    assert port.pairs.verifications == 1


async def test_a_busy_login_and_a_database_that_is_away_are_503_for_unknown_pairs_only(port: Port) -> None:
    assert (await port.ask(purchase())).status == 200
    port.pairs.busy = True
    assert (await port.ask(purchase(), pair="c:a:b")).status == 503
    port.circuit.went_down(Machine.DATABASE)
    assert (await port.ask(purchase(), pair="c:a:b")).status == 503
    assert (await port.ask(purchase(), pair=None)).status == 401
    assert (await port.ask(purchase())).status == 200


@pytest.mark.parametrize(
    "media_type",
    [
        *(FORM, "application/x-www-formurlencoded", f"{FORM}; charset=UTF-8", "Application/X-WWW-Form-Urlencoded ; x"),
        *(f"{FORM};charset={name}" for name in ("nope", "utf-16", "idna", "zlib")),
    ],
)
async def test_both_spellings_of_the_media_type_are_accepted_with_any_parameter(port: Port, media_type: str) -> None:
    assert (await port.ask(purchase(), media_type=media_type)).status == 200


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "text/plain", None, "multipart/form-data", "multipart/form-data; boundary=x", ";"],
)
async def test_every_other_media_type_is_415(port: Port, media_type: str | None) -> None:
    assert (await port.ask(purchase(), media_type=media_type)).status == 415


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity"])
async def test_a_content_coding_is_415(port: Port, coding: str) -> None:
    assert (await port.ask(purchase(), extra=f"Content-Encoding: {coding}\r\n")).status == 415


async def test_a_body_at_the_limit_passes_and_one_byte_more_does_not(port: Port) -> None:
    start = purchase(tail="&ACTIVATION_DATA=")
    exact = start + "d" * (BODY_LIMIT - len(start))
    assert (await port.ask(exact)).status == 200
    assert_problem(await port.ask(exact + "d"), 413, "Error: the request body is too large.")
    assert len(port.bus.asked) == 1


async def test_a_body_in_chunks_is_counted_as_it_comes(port: Port) -> None:
    form = purchase().encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(form[at : at + 50]), form[at : at + 50]) for at in range(0, len(form), 50))
    chunked = "Transfer-Encoding: chunked\r\n"
    assert (await port.ask(chunks + b"0\r\n\r\n", extra=chunked)).status == 200
    huge = b"10000\r\n" + b"d" * 0x10000 + b"\r\n"
    assert (await port.ask(huge * 9, extra=chunked)).status == 413


@pytest.mark.parametrize(
    "head",
    [
        b"POST /isv HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /isv HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"POST /isv HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST /isv HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        b"POST /isv HTTP/9.9\r\nHost: a\r\n\r\n",
        b"POST /isv HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"POST /isv HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /isv HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 40_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["hosts", "length-and-chunks", "lengths", "plus", "version", "nul", "xchunked", "long", "headers", "tls"],
)
async def test_what_is_no_http_is_400_without_naming_software(port: Port, head: bytes) -> None:
    answer = taken_apart(await port.send(head))
    assert_problem(answer, 400, "Error: the request is not valid HTTP.")
    assert answer.head["Connection"] == "close"


@pytest.mark.parametrize(
    ("version", "extra"),
    [
        ("2.0", ""),
        ("1.1", "Transfer-Encoding: gzip, chunked\r\n"),
        ("1.0", "Transfer-Encoding: chunked\r\n"),
    ],
)
async def test_a_body_of_which_another_reader_could_see_another_end_is_400(
    port: Port, version: str, extra: str
) -> None:
    form = purchase().encode()
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(form), form) if extra else form
    answer = taken_apart(await port.send(request(body, extra=extra).replace(b"HTTP/1.1", b"HTTP/" + version.encode())))
    assert_problem(answer, 400, "Error: the request is not valid HTTP.")
    assert answer.head["Connection"] == "close"
    assert not port.bus.asked


@pytest.mark.parametrize("line", ["OPTIONS *", "CONNECT isv.example.net:443", "POST /a%0D%0AX:%20y", "GET http://a"])
async def test_what_the_library_finds_no_address_for_is_refused_in_our_words(port: Port, line: str) -> None:
    answer = taken_apart(await port.send(f"{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()))
    assert_problem(answer, 404, "Error: there is nothing at this address.")


async def test_the_callers_claims_about_itself_are_ignored(port: Port) -> None:
    claims = "X-Forwarded-For: 10.0.0.1\r\nX-User-Id: root\r\nX-Tenant: other\r\n"
    assert (await port.ask(purchase(), extra=claims)).status == 200
    (asked,) = port.bus.asked
    assert asked.account == "ka-bridge"


async def test_a_valid_trace_parent_travels_and_every_other_does_not(port: Port) -> None:
    good = f"00-{'a' * 32}-{'b' * 16}-01"
    await port.ask(purchase(), extra=f"traceparent: {good}\r\n")
    for bad in ("", "00-x-y-01", f"00-{'0' * 32}-{'b' * 16}-01", f"ff-{'a' * 32}-{'b' * 16}-01", good.upper()):
        await port.ask(purchase(), extra=f"traceparent: {bad}\r\n")
    assert port.bus.trace_parents == [good.encode(), None, None, None, None, None]


async def test_a_line_break_in_free_text_reaches_no_header(port: Port) -> None:
    answer = await port.ask(purchase(tail="&ACTIVATION_DATA=a%0D%0AX-Evil%3A+1"))
    assert answer.status == 200
    assert "X-Evil" not in answer.head
    (asked,) = port.bus.asked
    assert isinstance(asked, PurchaseLicense)
    assert asked.activation_data == "a\r\nX-Evil: 1"


async def test_a_body_that_stops_half_way_is_ended_after_its_time(port: Port) -> None:
    half = request(b"APS_ACTION=PUR", extra="Content-Length: 200\r\n")
    answer = taken_apart(await port.send(half))
    assert_problem(answer, 408, "Error: the request body did not arrive in time.")
    assert answer.head["Connection"] == "close"
    assert not port.bus.asked


async def test_an_expected_continue_is_given_and_other_expectations_are_not(port: Port) -> None:
    data = await port.send(request(purchase().encode(), extra="Expect: 100-continue\r\n"))
    assert data.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert taken_apart(data.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")).status == 200
    assert (await port.ask(purchase(), extra="Expect: miracles\r\n")).status == 417
    older = request(purchase().encode(), extra="Expect: 100-continue\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert taken_apart(await port.send(older)).status == 200


async def test_a_head_that_never_ends_is_cut(port: Port) -> None:
    assert await port.send(b"POST /isv HTTP/1.1\r\nHost: a\r\n") == b""


async def test_one_connection_serves_many_requests(port: Port) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    one = request(purchase().encode()).replace(b"Connection: close\r\n", b"")
    for _request in range(3):
        writer.write(one)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection" not in head
        await reader.readexactly(int(re.findall(rb"Content-Length: (\d+)", head)[0]))
    writer.close()


async def test_http_1_0_is_answered_and_closed(port: Port) -> None:
    answer = taken_apart(await port.send(request(purchase().encode()).replace(b"HTTP/1.1", b"HTTP/1.0")))
    assert (answer.status, answer.head["Connection"]) == (200, "close")


async def test_the_key_set_is_public_and_cached(port: Port) -> None:
    keys = await port.ask("", method="GET", path="/.well-known/jwks.json", pair=None)
    assert (keys.status, keys.body) == (200, b'{"keys":[{"kty":"OKP","kid":"first"}]}')
    assert keys.head["Content-Type"] == "application/jwk-set+json"
    assert keys.head["Cache-Control"] == "public, max-age=60"
    same = await port.ask(
        "", method="GET", path="/.well-known/jwks.json", extra=f"If-None-Match: {keys.head['ETag']}\r\n"
    )
    assert (same.status, same.body, "Content-Length" in same.head) == (304, b"", False)
    bare = await port.ask("", method="HEAD", path="/.well-known/jwks.json")
    assert (bare.status, bare.body, bare.head["Content-Length"]) == (200, b"", str(len(keys.body)))
    assert (await port.ask("", path="/.well-known/jwks.json")).status == 405
    assert port.keys.reads == 1


async def test_requests_are_counted_by_action_and_status(port: Port) -> None:
    await port.ask(purchase())
    await port.ask(terminate(number="1"), pair=None)
    count = port.registry.get_sample_value
    assert count("keyway_gateway_requests_total", {"route": "purchase_license", "status": "200"}) == 1
    assert count("keyway_gateway_requests_total", {"route": "isv", "status": "401"}) == 1


async def test_too_large_a_command_is_413(port: Port) -> None:
    port.bus.answers = [Refused.TOO_LARGE]
    assert (await port.ask(purchase())).status == 413


async def test_dates_in_heads_follow_the_clock(port: Port) -> None:
    before = datetime.now(UTC)
    answer = await port.ask(purchase())
    told = datetime.strptime(answer.head["Date"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    assert before - timedelta(seconds=2) < told <= datetime.now(UTC), "a second old and cut to the second"
