"""The KA client: forms as KA's samples write them, answers read byte for byte, outcomes in three values."""

import asyncio
from datetime import date

import pytest

from keyway.ka import forms, http
from keyway.ka.client import Exchange, KeyAdministrator, Outcome
from keyway.ka.forms import Order

PURCHASE = Order(
    number="00481516",
    product="Bronze",
    purchase_on=date(2027, 2, 5),
    subscription_on=date(2027, 2, 5),
    start_on=date(2027, 2, 5),
    expires_on=date(2027, 3, 15),
)


def test_purchase_form_reads_like_the_worked_example() -> None:
    assert forms.encode(forms.operation_form("PURCHASE", PURCHASE)) == (
        b"APS_PROTOCOL_MODEL=2&APS_ACTION=PURCHASE&APS_TEST_MODE=N&PURCHASE_ID=00481516&PRODUCT_ID=Bronze"
        b"&PURCHASE_DATE=05%2F02%2F2027&SUBSCRIPTION_DATE=05%2F02%2F2027&START_DATE=05%2F02%2F2027"
        b"&EXPIRY_DATE=15%2F03%2F2027&REG_NAME=60321"
    )


def test_termination_form_carries_no_model_and_no_owner() -> None:
    form = dict(forms.termination_form(PURCHASE, date(2027, 4, 2)))
    assert form == {
        "APS_ACTION": "TERMINATE",
        "APS_TEST_MODE": "N",
        "PURCHASE_ID": "00481516",
        "PRODUCT_ID": "Bronze",
        "APS_TERMINATION_DATE": "02/04/2027",
    }


def test_info_form_always_has_model_three() -> None:
    assert dict(forms.info_form(PURCHASE))["APS_PROTOCOL_MODEL"] == "3"


def test_an_earlier_body_travels_as_base64_and_an_absent_flag_stays_absent() -> None:
    form = dict(forms.operation_form("RENEW", Order(number="1", product="Gold", test=None, previous_body=b"\xfb\xff")))
    assert form["PREVIOUS_LICENSE_BODY"] == "+/8="
    assert "APS_TEST_MODE" not in form


def test_the_secret_shows_in_no_text_of_the_client() -> None:
    assert "hush" not in repr(KeyAdministrator(url="http://127.0.0.1/isv", account="ka", secret="hush"))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.OK),
        (204, Outcome.OK),
        (400, Outcome.FAIL),
        (409, Outcome.FAIL),
        (500, Outcome.INFO),
        (503, Outcome.INFO),
        (504, Outcome.INFO),
        (None, Outcome.INFO),
    ],
)
def test_outcome_follows_the_status(status: int | None, outcome: Outcome) -> None:
    answer = None if status is None else http.Answer(status=status, headers={}, body=b"")
    assert Exchange(form=(), sent_at=0, seconds=1, answer=answer).outcome is outcome


def test_request_states_host_length_and_close() -> None:
    request = http.render(http.Address.of("http://127.0.0.1:8080/isv"), {"Accept": "*/*"}, b"a=b")
    assert request == (
        b"POST /isv HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: */*\r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\na=b"
    )


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/isv", "127.0.0.1:8080", "/isv"])
def test_an_address_without_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        http.Address.of(url)


async def answer_of(data: bytes) -> http.Answer:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await http.read_answer(reader)


@pytest.mark.asyncio
async def test_answer_keeps_body_bytes_and_lower_cases_header_names() -> None:
    answer = await answer_of(b"HTTP/1.1 200 OK\r\nX-APS-Expiration-Date: Mon\r\nContent-Length: 3\r\n\r\n\x00\xff\n...")
    assert (answer.status, answer.headers["x-aps-expiration-date"], answer.body) == (200, "Mon", b"\x00\xff\n")


@pytest.mark.asyncio
async def test_answer_without_length_has_no_body() -> None:
    assert (await answer_of(b"HTTP/1.1 204 No Content\r\n\r\n")).body == b""


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]
)
async def test_an_answer_cut_short_is_no_answer(data: bytes) -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        await answer_of(data)


@pytest.mark.asyncio
@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"])
async def test_nonsense_is_no_answer(data: bytes) -> None:
    with pytest.raises(http.NoAnswerError):
        await answer_of(data)
