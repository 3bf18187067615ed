"""The judge of the fuzz test says so when an answer is not as the document describes it."""

import json

import pytest

from tests.process.openapi_cases import Case, Maker, faults, operations

GOOD = {"code": "404", "type": "30042", "message": "The key is not found.", "details": ""}
JSON = {"content-type": "application/json; charset=UTF-8"}


def a_read() -> Case:
    (operation,) = (each for each in operations() if each.name == "GET /30/keys/{key}")
    return Case(operation, "GET", "/30/keys/7")


def test_an_answer_as_described_has_no_fault() -> None:
    assert list(faults(a_read(), 404, JSON, json.dumps(GOOD).encode())) == []


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, JSON, json.dumps({**GOOD, "code": "500", "type": "30050"}).encode()),
        (409, JSON, json.dumps(GOOD).encode()),
        (404, {"content-type": "text/html"}, b"<html>"),
        (404, JSON, json.dumps({**GOOD, "code": 404}).encode()),
        (404, JSON, json.dumps({**GOOD, "stack": "x"}).encode()),
        (401, JSON, json.dumps({**GOOD, "code": "401", "type": "30040"}).encode()),
        (200, JSON, b"{}"),
        (400, JSON, json.dumps({**GOOD, "code": "400", "type": "30001"}).encode()),
    ],
)
def test_every_other_answer_has_one(status: int, headers: dict[str, str], body: bytes) -> None:
    assert list(faults(a_read(), status, headers, body))


def test_the_same_seed_makes_the_same_cases() -> None:
    first, second = ([str(maker.case()) for _ in range(50)] for maker in (Maker(7, ["1"]), Maker(7, ["1"])))
    assert first == second
