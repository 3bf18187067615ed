"""Reports on PostgreSQL: stored with their command, recomputed from raw events, and counters untouched by asking."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import asyncpg
import pytest
import pytest_asyncio

from shared.clock import MachineClock
from shared.contracts.commands import LicensingModel
from shared.contracts.replies import ReplyStatus
from shared.database.license_store import PostgresLicenseStore
from shared.database.pool import OwnConnection
from shared.database.usage_queries import license_usage
from shared.database.usage_store import PostgresUsageStore
from shared.domain.case import Rules
from shared.domain.catalog import Catalog, Counter, CounterKind, Product
from shared.domain.effects import UsageReport
from shared.domain.usage import UsageTold
from shared.errors import ConflictError
from tests.builders import a_license, a_usage_question, an_envelope
from tests.conformance.test_license_store import an_issue
from tests.conformance.test_usage_store import LICENSE, taken
from tests.unit.test_license_handler import FixedClock, Notes, PlainSigner
from workers.license.case_file import ReceivedCommand
from workers.license.handler import LicenseHandler

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

NOW = datetime(2027, 3, 1, 4, 0, tzinfo=UTC)
COUNTERS = (
    Counter(name="storedGigabytes", kind=CounterKind.LEVEL),
    Counter(name="sentGigabytes", kind=CounterKind.INCREMENT),
)
MIXED = Product(sku="Mixed", model=LicensingModel.REPORTING, counters=COUNTERS)


class MixedRules:
    def current(self) -> Rules:
        return Rules(catalog=Catalog(version=1, products={"Mixed": MIXED}))


@pytest_asyncio.fixture
async def connection(database_url: str) -> AsyncIterator[OwnConnection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_told_figure_comes_out_again_from_the_raw_events_and_a_forged_one_does_not(
    database_url: str, connection: OwnConnection
) -> None:
    licenses, usage = PostgresLicenseStore(database_url), PostgresUsageStore(database_url)
    await licenses.store([an_issue(a_license(product="Mixed", model=LicensingModel.REPORTING))])
    notes = Notes()
    handler = LicenseHandler(
        store=licenses,
        signer=PlainSigner(),
        rules=MixedRules(),
        observer=notes,
        listener=notes,
        business_clock=FixedClock(NOW),
        system_clock=FixedClock(MachineClock().now()),
        issuer="keyway",
    )
    level = ("storedGigabytes", CounterKind.LEVEL)

    async def asked() -> bytes:
        envelope = an_envelope(a_usage_question(product="Mixed", usage_ends=(0, 0, 0, 1)))
        received = ReceivedCommand(envelope, sha256(b"p").digest(), 0)
        (first,), (again,) = await handler.handle([received]), await handler.handle([received])
        assert first.reply is not None
        assert first.reply == again.reply
        assert first.reply.status is ReplyStatus.USAGE_TOLD
        return first.reply.body

    before = await connection.fetch("SELECT * FROM usage_total")
    await usage.take([taken("1", "2.5", offset=0), taken("2", "7", counter=level, offset=1)], {3: 2}, received_at=NOW)
    middle = await connection.fetch("SELECT * FROM usage_total ORDER BY counter")
    assert await asked() == b'{"version":"isv-reportable-1","usage":{"storedGigabytes":7,"sentGigabytes":3}}'
    assert await connection.fetch("SELECT * FROM usage_total ORDER BY counter") == middle != before

    late = taken("3", "100", counter=level, at=NOW - timedelta(days=1), offset=2)
    await usage.take([late, taken("4", "0.6", offset=3)], {3: 4}, received_at=NOW)
    assert await asked() == b'{"version":"isv-reportable-1","usage":{"storedGigabytes":7,"sentGigabytes":4}}'

    found = await license_usage(connection, LICENSE)
    assert [dict(report.figures) for report in found.reports] == [dict(each.recomputed) for each in found.reports]
    assert sorted(report.figures["sentGigabytes"] for report in found.reports) == [3, 4]

    await connection.execute("ALTER TABLE usage_report DISABLE TRIGGER usage_report_is_append_only")
    await connection.execute("""UPDATE usage_report SET figures = '{"storedGigabytes":8,"sentGigabytes":3}'""")
    assert not any(report.agrees for report in (await license_usage(connection, LICENSE)).reports)
    await licenses.close()
    await usage.close()


async def test_a_report_is_written_with_its_command_or_not_at_all(database_url: str, connection: OwnConnection) -> None:
    licenses = PostgresLicenseStore(database_url)
    effect = an_issue(a_license())
    await licenses.store([effect])
    told = UsageTold({"stored": 1}, {"stored": CounterKind.LEVEL}, (1, 2))
    report = UsageReport(reported_at=NOW, told=told)
    stale = replace(an_issue(a_license()), usage=report)

    with pytest.raises(ConflictError):
        await licenses.store([stale])

    assert await connection.fetchval("SELECT count(*) FROM usage_report") == 0
    await licenses.close()
