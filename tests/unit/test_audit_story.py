"""What the audit tells of a number: from the first request on, license or not, in a chain that nobody can bend."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.contracts.identifiers import LicenseId
from shared.database.audit_chain import chain_fault
from shared.domain.effects import NO_AUDIT, AuditEntry
from tests.builders import MARCH, a_purchase, a_renew
from tests.unit.test_provider_handling import LITE, Upstream

pytestmark = pytest.mark.asyncio

LICENSE = LicenseId("ka:00481516")


def links(upstream: Upstream) -> list[AuditEntry]:
    return [link for (owner, _), link in upstream.store.tables.audit.items() if owner == LICENSE]


def head(upstream: Upstream) -> bytes:
    kept = upstream.store.tables.licenses.get(LICENSE)
    return NO_AUDIT if kept is None else kept.audit_sha256


def told(found: Sequence[AuditEntry]) -> list[dict[str, Any]]:
    return [orjson.loads(link.entry) for link in found]


def words(found: Sequence[AuditEntry]) -> list[tuple[str, str]]:
    return [(entry["asked"]["type"], entry["outcome"]) for entry in told(found)]


async def test_the_story_of_a_provider_product_begins_with_the_request_as_it_came() -> None:
    upstream = Upstream()
    await upstream.bought(until=MARCH)
    first, second = links(upstream)

    assert words([first, second]) == [("purchase_license", "pending"), ("record_provider_outcome", "noted")]
    assert told([first])[0]["asked"]["product"] == "ISPMGR6-LITE"
    assert told([first])[0]["orders"] == ["order"]
    assert told([second])[0]["settled"] == "done"
    assert b"203.0.113.10" not in first.entry + second.entry
    assert chain_fault([first, second], head(upstream)) is None


async def test_a_number_that_is_no_license_has_a_story_that_says_why() -> None:
    upstream = Upstream()
    await upstream.ask_from(a_purchase(product="NOSUCH"))
    await upstream.ask_from(a_renew())
    found = links(upstream)

    assert words(found) == [("purchase_license", "product_unknown"), ("renew_license", "license_unknown")]
    assert [entry["why"] for entry in told(found)] == [{"product": "NOSUCH"}, {"number": "00481516"}]
    assert chain_fault(found, head(upstream)) is None


async def test_a_purchase_that_the_provider_refused_tells_the_refusal_and_those_who_waited_in_line() -> None:
    upstream = Upstream()
    await upstream.ask_from(LITE)
    await upstream.ask_from(a_renew(product="ISPMGR6-LITE"))
    await upstream.confirm(upstream.open_order(), confirmed=False, service_id=None, refusal="duplicate")
    found = links(upstream)

    assert words(found) == [
        ("purchase_license", "pending"),
        ("renew_license", "waiting"),
        ("record_provider_outcome", "noted"),
        ("renew_license", "license_unknown"),
    ]
    assert told(found)[2]["settled"] == "provider_value_refused"
    assert chain_fault(found, head(upstream)) is None


async def test_what_came_before_the_license_does_not_loosen_its_chain() -> None:
    upstream = Upstream()
    await upstream.ask_from(a_purchase(product="NOSUCH"))
    await upstream.ask_from(a_purchase())
    await upstream.ask_from(a_renew())
    lone, first, second = links(upstream)

    assert chain_fault([lone, first, second], head(upstream)) is None
    assert chain_fault([first, second], head(upstream)) is None, "its end is kept, whatever came before"
    changed = replace(lone, entry=lone.entry.replace(b"NOSUCH", b"Bronze"))
    for broken in (
        [changed, first, second],
        [lone, second],
        [lone, first],
        [first, lone, second],
        [lone, second, first],
    ):
        assert chain_fault(broken, head(upstream)) is not None
    assert chain_fault([lone, first, second], NO_AUDIT) is not None, "a chain without its license"
