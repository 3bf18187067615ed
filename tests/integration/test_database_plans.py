"""Plans of the two statements of a batch: made once on whatever the tables held, so they must not depend on it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from shared.database.key_rows import LINKS, NAMES, OWNERS, RELATED
from shared.database.lane import INDEX_PLANS
from shared.database.license_statements import HISTORY, READ, WRITE
from shared.database.pool import OwnConnection, close, open_connection
from shared.database.provider_statements import CANARIES, LINKED
from shared.database.usage_reports import READ_USAGE
from shared.database.usage_store import READ as READ_EVENTS

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

TODAY = datetime.now(UTC).date()
READ_TYPES = "(uuid[], date, date, text[], bytea[])"
READ_ARGUMENTS = f"('{{}}', '{TODAY}', '{TODAY}', '{{}}', '{{}}')"


@pytest_asyncio.fixture
async def lane_connection(database_url: str) -> AsyncIterator[OwnConnection]:
    """A connection set up as a lane's, on tables that are still empty."""
    connection = await open_connection(database_url, settings=INDEX_PLANS)
    yield connection
    await close(connection)


async def explain(connection: OwnConnection, statement: str, types: str, arguments: str) -> str:
    await connection.execute(f"PREPARE explained {types} AS {statement}")
    rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE explained {arguments}")
    made = await connection.fetchrow("SELECT generic_plans, custom_plans FROM pg_prepared_statements")
    assert made is not None
    assert tuple(made) == (1, 0)
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize(
    ("statement", "types", "arguments", "indexes"),
    [
        pytest.param(READ, READ_TYPES, READ_ARGUMENTS, ("license", "revision", "operation"), id="read"),
        pytest.param(HISTORY, "(text[])", "('{}')", ("revision",), id="history"),
        pytest.param(
            WRITE, "(command_effect[], text)", "('{}', 'license.events')", ("license", "operation"), id="write"
        ),
        pytest.param(
            READ_EVENTS, "(text[], text[], text[])", "('{}', '{}', '{}')", ("usage_event", "license"), id="usage events"
        ),
        pytest.param(READ_USAGE, "(text[])", "('{}')", ("usage_total",), id="usage told"),
    ],
)
async def test_a_plan_made_on_empty_tables_reads_indexes_only(
    lane_connection: OwnConnection, statement: str, types: str, arguments: str, indexes: tuple[str, ...]
) -> None:
    plan = await explain(lane_connection, statement, types, arguments)

    for table in indexes:
        assert f"{table}_pkey on {table}" in plan
    assert "Seq Scan" not in plan.replace("Seq Scan on usage_watermark", "all 24 rows are asked for")
    assert "Bitmap" not in plan
    assert "Hash Join" not in plan
    assert "Merge Join" not in plan


@pytest.mark.parametrize(
    ("statement", "types", "arguments", "indexes"),
    [
        pytest.param(
            RELATED,
            "(text[], bigint[], text[], text[], text[], integer)",
            "('{}', '{}', '{}', '{}', '{}', 1)",
            (
                "license_pkey",
                "key_id_names_one_license",
                "activation_code_names_one_license",
                "license_by_key_address",
                "license_by_key_uid",
                "license_by_key_parent",
            ),
            id="related",
        ),
        pytest.param(LINKS, "(text[])", "('{}')", ("account_owner_pkey", "price_list_pkey"), id="links"),
        pytest.param(OWNERS, "(text[])", "('{}')", ("owner_pkey", "product_configuration_owner"), id="owners"),
        pytest.param(NAMES, "(text[], text[])", "('{}', '{}')", ("named_request_pkey",), id="names"),
    ],
)
async def test_what_partner_commands_ask_is_read_by_indexes_only(
    lane_connection: OwnConnection, statement: str, types: str, arguments: str, indexes: tuple[str, ...]
) -> None:
    plan = await explain(lane_connection, statement, types, arguments)

    assert [index for index in indexes if index not in plan] == [], plan
    assert "Seq Scan" not in plan, plan


@pytest.mark.parametrize(
    ("statement", "types", "arguments", "indexes"),
    [
        pytest.param(LINKED, "(text, bigint[])", "('isplicense', '{}')", ("provider_order_service",), id="linked"),
        pytest.param(
            CANARIES,
            "(text, text[], float8, integer)",
            "('isplicense', '{}', 30, 100)",
            ("provider_order_made", "provider_order_target"),
            id="canaries",
        ),
    ],
)
async def test_a_look_upstream_does_not_read_every_order_ever_stored(
    lane_connection: OwnConnection, statement: str, types: str, arguments: str, indexes: tuple[str, ...]
) -> None:
    plan = await explain(lane_connection, statement, types, arguments)

    assert [index for index in indexes if index not in plan] == [], plan
    assert "Seq Scan" not in plan, plan


async def test_results_are_looked_for_by_command_id_and_in_the_days_of_the_batch_only(
    lane_connection: OwnConnection,
) -> None:
    plan = await explain(lane_connection, READ, READ_TYPES, READ_ARGUMENTS)

    assert f"command_result_{TODAY:%Y%m%d}_pkey" in plan
    assert f"command_result_{TODAY + timedelta(days=1):%Y%m%d}" not in plan
    assert "Subplans Removed: 14" in plan
    assert "Index Cond: ((command_id = ANY ($1))" in plan
