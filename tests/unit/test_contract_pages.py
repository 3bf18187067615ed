"""The OpenAPI document: valid, complete against the routes, and rendered without asking anybody."""

import re

import jsonschema
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.partner_problems import PROBLEMS
from gateway.routes.contract import METHODS, add_contract_pages, load_document, page
from gateway.routes.partner_calls import ACTIONS
from gateway.wire.partner import WIRE_NAMES

DOCUMENT = load_document()
PREFIX = "/30/keys"


def operations() -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for path, item in DOCUMENT["paths"].items()
        for method in METHODS
        if method in item and path.startswith(PREFIX)
    }


def test_every_action_is_described_and_nothing_else() -> None:
    paths = {"": PREFIX, "key": f"{PREFIX}/{{key}}"}
    served = {
        (method, paths.get(last, f"{PREFIX}/{{key}}/{last}")) for last, methods in ACTIONS.items() for method in methods
    }
    assert operations() == served


def test_every_schema_is_a_schema_and_every_reference_leads_somewhere() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in re.findall(r"\$ref'?: '#/([^']+)'", str(DOCUMENT)):
        found = DOCUMENT
        for step in reference.split("/"):
            found = found[step]


def test_every_member_that_means_something_is_described_for_both_requests() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["KeyChange"]["properties"]) == set(WIRE_NAMES.values())
    assert set(schemas["NewKey"]["properties"]) == set(WIRE_NAMES.values())


def test_statuses_of_the_catalog_are_described() -> None:
    described = {
        int(status)
        for path, item in DOCUMENT["paths"].items()
        if path.startswith(PREFIX)
        for method in METHODS
        if method in item
        for status in item[method]["responses"]
    }
    assert {problem.status for problem in PROBLEMS.values()} - described == {405}  # for what is not described


def test_page_holds_every_operation_and_loads_nothing_from_elsewhere() -> None:
    text = page(DOCUMENT)
    for _method, path in operations():
        assert f"<code>{path}</code>" in text
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!#|/openapi\.json)", text)


@pytest.mark.asyncio
async def test_both_pages_are_served() -> None:
    application = web.Application()
    add_contract_pages(application, DOCUMENT)
    async with TestClient(TestServer(application)) as client:
        as_json = await client.get("/openapi.json")
        assert (await as_json.json())["openapi"] == "3.1.0"
        docs = await client.get("/docs")
        assert docs.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert (await docs.text()).startswith("<!doctype html>")
