"""Plans of what the Partner API reads, on many keys: every statement finds its rows by an index."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from shared.database.key_queries import CHILDREN, FILE, FIND, ONE
from shared.database.key_search import search_for
from shared.database.pool import OwnConnection, close, open_connection
from shared.domain.key_queries import KeyFilter, KeyType

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

SEED = """
INSERT INTO account (name, role, secret_hash) VALUES ('partner', 'partner', '$argon2id$none');
INSERT INTO owner (owner_id, kind, reseller_id)
VALUES ('20001', 'reseller', NULL), ('10001', 'client', '20001'), ('10002', 'client', '20001');
INSERT INTO account_owner (account_id, owner_id) VALUES ('partner', '20001');
INSERT INTO license (license_id, account_id, number, key_id, activation_code, product, model, test, status, suspended,
    expires_on, revision, key_version, sequence, audit_sha256, key)
SELECT 'partner:' || n, 'partner', n::text, n, lpad(n::text, 34, 'A'), 'A-1M', 'standard', false, 'active', n % 100 = 1,
    '2027-03-15', 1, 0, 1, sha256('x'), jsonb_build_object(
        'key_id', n, 'activation_code', lpad(n::text, 34, 'A'),
        'owner', CASE n % 10 WHEN 0 THEN '10002' ELSE '10001' END,
        'items', jsonb_build_array(jsonb_build_object('item', CASE n % 1000 WHEN 7 THEN 'B-1M' ELSE 'A-1M' END)),
        'family', 'plesk', 'purchased', n % 500 = 2, 'nickname', 'shop-' || n,
        'address', '10.0.' || n / 256 || '.' || n % 256,
        'restrict_address', n % 400 = 0, 'uid', 'uid-' || n, 'update_on', '2027-03-05', 'note', repeat('x', 400),
        'parent', CASE WHEN n > 1 THEN jsonb_build_object('license_id', 'partner:' || n / 2, 'key_id', n / 2) END)
FROM generate_series(1, 5000) AS n;
INSERT INTO revision (license_id, revision, cause, product, expires_on, issued_at, body_sha256, body)
SELECT license_id, 1, 'issued', product, expires_on, now(), sha256('body'), 'body' FROM license;
ANALYZE;
"""
BY_OWNER = ("license_by_key_owner", "license_of_account")


@pytest_asyncio.fixture
async def many_keys(database_url: str) -> AsyncIterator[OwnConnection]:
    """A connection set up as a reader's, to five thousand keys of two owners."""
    connection = await open_connection(database_url, command_seconds=30)
    await connection.execute("SET statement_timeout = '30s'")
    await connection.execute(SEED)
    yield connection
    await close(connection)


async def plan_of(connection: OwnConnection, statement: str, *types: str) -> str:
    """The generic plan: the one that does not depend on a lucky argument."""
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE explained ({', '.join(types)}) AS {statement}")
    nothing = ", ".join("NULL" for _ in types)
    rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE explained ({nothing})")
    await connection.execute("DEALLOCATE explained")
    return "\n".join(row[0] for row in rows)


async def test_every_filter_of_a_search_is_served_by_an_index_or_bounded_by_the_owners_keys(
    many_keys: OwnConnection,
) -> None:
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"address": "10.0.1.1"}, ("license_by_key_address",)),
        ({"uid": "uid-7"}, ("license_by_key_uid",)),
        ({"nickname": "shop-7"}, ("license_by_key_nickname",)),
        ({"product": "B-1M"}, ("license_by_key_constant", "license_of_account")),
        ({"restrict_address": True}, ("license_with_restriction",)),
        ({"type": KeyType.PURCHASED}, ("license_bought_for_good",)),
        ({}, BY_OWNER),
        ({"nickname": ""}, BY_OWNER),
        ({"restrict_address": False}, BY_OWNER),
        ({"type": KeyType.LEASE_1M}, BY_OWNER),
        ({"is_els": False}, BY_OWNER),
        *(({"status": status}, BY_OWNER) for status in ("ACTIVE", "EXPIRED", "EXPIRING", "SUSPENDED", "TERMINATED")),
        ({"nickname": "shop-7", "status": "ACTIVE", "type": KeyType.LEASE_1M}, ("license_by_key_nickname",)),
    ]
    for wanted, indexes in cases:
        search = search_for("partner", KeyFilter(**wanted))
        assert search is not None
        plan = await plan_of(many_keys, search.statement, *("text" for _ in search.arguments))
        assert [index for index in indexes if f"using {index} on" not in plan and f"on {index}" not in plan] == [], plan
        assert "Seq Scan on license" not in plan, (wanted, plan)


async def test_one_key_its_children_and_its_file_are_found_by_indexes(many_keys: OwnConnection) -> None:
    for statement, types, index in (
        (ONE, ("text", "bigint", "text"), "key_id_names_one_license"),
        (FIND, ("text", "bigint", "text"), "key_id_names_one_license"),
        (CHILDREN, ("text",), "license_by_key_parent"),
        (FILE, ("text",), "revision_pkey"),
    ):
        plan = await plan_of(many_keys, statement, *types)
        assert index in plan, plan
        assert "Seq Scan on license" not in plan, plan
