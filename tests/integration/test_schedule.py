"""What is due, read from a real PostgreSQL; one active scheduler; old results forgotten."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest
import pytest_asyncio

from shared.contracts.envelope import new_id
from shared.database.command_result_days import ensure_command_result_days
from shared.database.pool import OwnConnection, close, open_connection
from shared.database.schedule import PostgresSchedule
from shared.errors import UnavailableError

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

TODAY = datetime.now(UTC).date()
TERMINATED_AT = datetime(2026, 11, 1, tzinfo=UTC)
LICENSE = """
INSERT INTO license (license_id, account_id, number, activation_code, product, model, test, status, suspended,
    expires_on, terminated_at, revision, key_version, sequence, audit_sha256, service)
VALUES ('ka:' || $1, 'ka', $1, $1, $2, 'standard', false, $3, false, $4, $5, 1, 0, 1, sha256('x'), $6::jsonb)
"""
END_ORDER = """
INSERT INTO provider_order (order_id, license_id, account_id, number, provider_account, kind, step, operation, slot_key,
    intended_at)
VALUES ($1, 'ka:' || $2, 'ka', $2, 'isplicense', 'end', '{}', '{"is": "EndService", "of": {"elid": 7}}', 'x', now())
"""
SERVICE = '{"sku": "DNSMGR5", "elid": 7}'


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[OwnConnection]:
    connection = await open_connection(database_url)
    yield connection
    await close(connection)


@pytest_asyncio.fixture
async def schedule(database_url: str) -> AsyncIterator[PostgresSchedule]:
    schedule = PostgresSchedule(database_url)
    assert await schedule.lead()
    yield schedule
    await schedule.close()


async def test_only_active_licenses_whose_last_day_is_over_lapse_oldest_first(
    database: OwnConnection, schedule: PostgresSchedule
) -> None:
    await database.execute(LICENSE, "00000001", "Bronze", "active", date(2026, 11, 2), None, None)
    await database.execute(LICENSE, "00000002", "Bronze", "active", date(2026, 11, 1), None, None)
    await database.execute(LICENSE, "00000003", "Bronze", "active", date(2026, 11, 3), None, None)
    await database.execute(LICENSE, "00000004", "Bronze", "lapsed", date(2026, 11, 1), None, None)

    assert await schedule.lapsing(date(2026, 11, 2), 10) == ["ka:00000002", "ka:00000001"]
    assert await schedule.lapsing(date(2026, 11, 2), 1) == ["ka:00000002"]


async def test_a_service_is_released_once_its_wind_down_is_over_and_nobody_asked_yet(
    database: OwnConnection, schedule: PostgresSchedule
) -> None:
    for number, service in (("00000001", SERVICE), ("00000002", SERVICE), ("00000003", None)):
        await database.execute(LICENSE, number, "DNSMGR5", "terminated", date(2026, 12, 1), TERMINATED_AT, service)
    await database.execute(END_ORDER, new_id(), "00000002")

    assert await schedule.ending({"DNSMGR5": TERMINATED_AT - timedelta(seconds=1)}, 10) == []
    assert await schedule.ending({"DNSMGR5": TERMINATED_AT}, 10) == ["ka:00000001"]
    assert await schedule.ending({"Other": TERMINATED_AT}, 10) == []


async def test_the_release_of_a_service_does_not_stand_for_one_of_the_same_id_in_another_account(
    database: OwnConnection, schedule: PostgresSchedule
) -> None:
    for number, account in (("00000001", "isplicense"), ("00000002", "second")):
        service = f'{{"sku": "DNSMGR5", "elid": 7, "account": "{account}"}}'
        await database.execute(LICENSE, number, "DNSMGR5", "terminated", date(2026, 12, 1), TERMINATED_AT, service)
        await database.execute(END_ORDER, new_id(), number)

    assert await schedule.ending({"DNSMGR5": TERMINATED_AT}, 10) == ["ka:00000002"]


async def test_old_days_of_results_are_dropped_and_no_other(
    database: OwnConnection, schedule: PostgresSchedule
) -> None:
    await ensure_command_result_days(database, TODAY - timedelta(days=10), 12)
    days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'command_result'::regclass"
    before = await database.fetchval(days)

    dropped = await schedule.forget_results(TODAY - timedelta(days=8))

    assert dropped == [f"command_result_{TODAY - timedelta(days=back):%Y%m%d}" for back in (10, 9)]
    assert await database.fetchval(days) == before - 2
    assert await schedule.forget_results(TODAY - timedelta(days=8)) == []


NAMED = """
INSERT INTO named_request (account_id, name, body_sha256, license_id, command_id, status, meta, body, handled_at)
SELECT 'partner', 'order-' || n, sha256('x'), 'partner:1', gen_random_uuid(), 32, '', '',
    $1::timestamptz + n * interval '1 second'
FROM generate_series(1, $2::integer) AS n
"""


async def test_names_are_forgotten_oldest_first_so_many_at_once_and_none_that_is_kept(
    database: OwnConnection, schedule: PostgresSchedule
) -> None:
    moment = datetime(2026, 10, 1, tzinfo=UTC)
    await database.execute(NAMED, moment, 10)

    assert await schedule.forget_names(moment, 100) == 0
    assert await schedule.forget_names(moment + timedelta(seconds=6), 3) == 3
    left = await database.fetch("SELECT name FROM named_request ORDER BY handled_at")
    assert [row["name"] for row in left] == [f"order-{n}" for n in range(4, 11)]
    assert await schedule.forget_names(moment + timedelta(seconds=6), 3) == 2
    assert await schedule.forget_names(moment + timedelta(seconds=6), 3) == 0
    assert await database.fetchval("SELECT min(handled_at) FROM named_request") == moment + timedelta(seconds=6)


async def test_one_scheduler_is_active_until_its_connection_ends(database_url: str, database: OwnConnection) -> None:
    first, second = PostgresSchedule(database_url), PostgresSchedule(database_url)
    assert (await first.lead(), await second.lead()) == (True, False)

    await database.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    assert await second.lead()
    with pytest.raises(UnavailableError):
        await first.lapsing(TODAY, 1)
    assert not await first.lead()
    await first.close()
    await second.close()
