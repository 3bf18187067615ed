"""The worked examples of the protocol page, sent as printed with this stack's credentials and fresh numbers."""

import base64
import re
from collections.abc import Iterator, Mapping

import pytest

from keyway.ka import http
from keyway.ka.client import Exchange, KeyAdministrator
from keyway.ka.forms import encode, operation_form
from keyway.ka.license_body import read_claims
from tests.process.protocol_examples import Example, examples
from tests.process.whole_stack import TEST_SECONDS, WholeStack, known, order, settled

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(TEST_SECONDS)]

STORY = [str(number) for number in (*range(1, 19), 24)]
REPEATS = {"2": "1", "11": "10"}
LICENSE_BODIES = {
    "1": ("Bronze", 1),
    "4": ("Bronze", 1),
    "5": ("Bronze", 1),
    "10": ("Bronze", 2),
    "12": ("Gold", 3),
    "14": ("NFR-Gold", 4),
}
EIGHT_DIGITS = re.compile(r"PURCHASE_ID=(\d{8})(?!\d)")
EXPIRES_AT = {"15 Mar 2027": 1805198400, "15 Apr 2027": 1807876800}
"""Claim `exp`: noon UTC of the day after the last day."""


async def published_keys(gateway: str) -> Mapping[str, object]:
    address = http.Address.of(f"{gateway}/.well-known/jwks.json")
    answer = await http.exchange(address, http.render(address, {}, b"", method="GET"), timeout_seconds=20)
    assert answer.status == 200
    import orjson

    keys: Mapping[str, object] = orjson.loads(answer.body)
    return keys


async def send(ka: KeyAdministrator, example: Example, body: bytes) -> Exchange:
    match example.name:
        case "8":
            headers = {"Accept": "*/*", "Content-Type": "application/x-www-form-urlencoded"}
            address = http.Address.of(ka.url)
            answer = await http.exchange(address, http.render(address, headers, body), timeout_seconds=20)
            return Exchange(form=(), sent_at=0, seconds=0, answer=answer)
        case "9":
            wrong = base64.b64encode(f"{ka.account}:wrong".encode()).decode()
            return await ka.send_raw((), body, {"Authorization": f"Basic {wrong}"})
        case _:
            return await ka.send_raw((), body)


def complaints(example: Example, exchange: Exchange, expected_body: bytes | None) -> list[str]:
    answer = exchange.answer
    if answer is None:
        return [f"no answer: {exchange.problem}"]
    found: list[str] = []
    if answer.status != example.status:
        found.append(f"status {answer.status}, not {example.status}: {answer.body!r}")
    if answer.headers.get("content-type") != example.media_type:
        found.append(f"Content-Type {answer.headers.get('content-type')!r}, not {example.media_type!r}")
    for name, value in example.headers.items():
        if answer.headers.get(name) != value:
            found.append(f"{name} {answer.headers.get(name)!r}, not {value!r}")
    length = None if example.status == 204 else str(len(answer.body))
    if answer.headers.get("content-length") != length:
        found.append(f"Content-Length {answer.headers.get('content-length')!r}, not {length!r}")
    if "date" not in answer.headers or "content-encoding" in answer.headers:
        found.append(f"headers {dict(answer.headers)}")
    if expected_body is not None and answer.body != expected_body:
        found.append(f"body {answer.body!r}, not {expected_body!r}")
    return found


def claims_complaints(claims: Mapping[str, object], example: Example, subject: str) -> list[str]:
    product, revision = LICENSE_BODIES[example.name]
    expiry = next(at for day, at in EXPIRES_AT.items() if day in example.headers["x-aps-expiration-date"])
    wanted = {"sub": subject, "product": product, "revision": revision, "exp": expiry, "iss": "keyway"}
    wanted |= {"test": example.name == "5", "nfr": product.startswith("NFR-")}
    return [] if claims == wanted else [f"claims {claims}, not {wanted}"]


async def test_worked_examples_are_answered_as_the_page_says(stack: WholeStack, fresh_number: Iterator[int]) -> None:
    page = examples()
    ka = stack.administrators()[0]
    keys = await published_keys(stack.now().gateways[0])
    assert all(page[name].status < 500 for name in STORY), "whatever is unknown may be asked again"
    fresh: dict[str, str] = {}
    bodies: dict[str, bytes] = {}
    faults: list[str] = []
    for name in STORY:
        example = page[name]
        named = EIGHT_DIGITS.search(example.form.decode())
        number = named.group(1) if named else ""
        own = fresh.setdefault(number, f"{next(fresh_number):08}") if number else ""
        body = example.form.replace(b"=" + number.encode(), b"=" + own.encode())
        exchange = await known(lambda example=example, body=body: send(ka, example, body))
        if name in REPEATS:
            expected: bytes | None = bodies[REPEATS[name]]
        elif name in LICENSE_BODIES:
            expected = None
        else:
            expected = (example.body or "").replace(number, own).encode() if number else (example.body or "").encode()
        bodies[name] = exchange.body
        faults += [f"Ex. {name}: {fault}" for fault in complaints(example, exchange, expected)]
        if name in LICENSE_BODIES and exchange.status == 200:
            claims = read_claims(exchange.body, keys)
            faults += [f"Ex. {name}: {fault}" for fault in claims_complaints(claims, example, f"{ka.account}:{own}")]
    assert not faults, "\n".join(faults)


async def test_both_gateways_give_the_same_bytes_for_the_same_request(
    stack: WholeStack, fresh_number: Iterator[int]
) -> None:
    first, second = stack.administrators()
    form = operation_form("PURCHASE", order(next(fresh_number)))
    one, other = await settled([first], form), await settled([second], form)
    assert (one.status, one.expiry, one.body) == (other.status, other.expiry, other.body)
    assert one.status == 200


@pytest.mark.parametrize(
    ("method", "media_type", "status"),
    [
        ("POST", "application/x-www-formurlencoded", 200),
        ("POST", "application/x-www-form-urlencoded; charset=iso-8859-1", 200),
        ("POST", "application/json", 415),
        ("GET", "application/x-www-form-urlencoded", 405),
    ],
)
async def test_transport_vectors_hold_on_the_wire(
    stack: WholeStack, fresh_number: Iterator[int], method: str, media_type: str, status: int
) -> None:
    ka = stack.administrators()[0]
    address = http.Address.of(ka.url)
    headers = {**ka.headers(), "Content-Type": media_type}
    body = encode(operation_form("PURCHASE", order(next(fresh_number))))
    request = http.render(address, headers, body, method=method)

    async def ask() -> Exchange:
        return Exchange(form=(), sent_at=0, seconds=0, answer=await http.exchange(address, request, timeout_seconds=20))

    answer = (await known(ask)).answer
    assert answer is not None
    assert answer.status == status, answer.body
    assert (answer.headers.get("allow") == "POST") is (status == 405)
