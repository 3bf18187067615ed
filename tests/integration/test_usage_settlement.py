"""Settlement months on PostgreSQL and through `keyway usage`: figures, adjustments, and a closed month for ever."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from shared.contracts.commands import LicensingModel
from shared.contracts.usage import ReportedUsage, UsageKey, UsageType
from shared.database.license_store import PostgresLicenseStore
from shared.database.pool import close, open_connection
from shared.database.usage_settlements import OpenAccount, SettledMonth, UsageSettlements
from shared.database.usage_store import PostgresUsageStore
from shared.domain.catalog import Catalog, Counter, CounterKind, Product
from shared.domain.license import LicenseStatus
from shared.domain.settlement import SettlementState
from shared.domain.usage import CountedUsage, judge
from shared.domain.usage_batch import TakenUsage
from shared.errors import ConflictError
from tests.builders import a_license
from tests.command_line import Shell, shell
from tests.conformance.test_license_store import an_issue

__all__ = ["shell"]  # the fixture

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

NOW = datetime(2027, 6, 1, 12, 0, tzinfo=UTC)
JANUARY, FEBRUARY, MARCH, APRIL = (date(2027, month, 1) for month in (1, 2, 3, 4))
COUNTERS = (
    Counter(name="stored", kind=CounterKind.LEVEL),
    Counter(name="sent", kind=CounterKind.INCREMENT),
)
CATALOG = Catalog(version=1, products={"Cloud": Product(sku="Cloud", counters=COUNTERS)})
CLOUD = OpenAccount(account="ka", product="Cloud", first_month=JANUARY, closed_through=None)


class Books:
    """Takes events in as the usage worker does, and settles."""

    def __init__(self, database_url: str, connection: Any) -> None:
        self.database_url = database_url
        self.store = PostgresUsageStore(database_url)
        self.settlements = UsageSettlements(connection)
        self.connection = connection
        self._offset = 0

    async def issue(self, number: str, **changes: Any) -> None:
        store = PostgresLicenseStore(self.database_url)
        license = a_license(number=number, model=LicensingModel.REPORTING, **{"product": "Cloud", **changes})
        await store.store([an_issue(license)])
        await store.close()

    async def report(self, number: str, counter: str, value: str, at: str, event_id: str | None = None) -> CountedUsage:
        """Report at a day such as `02-28` or `02-28T23:59:59`, of 2027."""
        self._offset += 1
        event = ReportedUsage(
            key=UsageKey("test", event_id or str(self._offset)),
            type=UsageType.LEVEL if counter == "stored" else UsageType.INCREMENT,
            account="ka",
            number=number,
            counter=counter,
            value=Decimal(value),
            at=datetime.fromisoformat(f"2027-{at}").replace(tzinfo=UTC),
        )
        loaded = await self.store.load([event.key], [event.license_id])
        counted = judge(event, loaded.holders[event.license_id], CATALOG, now=NOW)
        assert isinstance(counted, CountedUsage)
        digest = sha256(str(self._offset).encode()).digest()
        taken = TakenUsage(counted=counted, content_sha256=digest, partition=0, offset=self._offset)
        await self.store.take([taken], {0: self._offset + 1}, received_at=NOW)
        return counted

    async def close(self, last: date) -> list[date]:
        return await self.settlements.close(CLOUD, last, business_now=NOW, system_now=NOW)

    async def lines(self, month: date, state: SettlementState = SettlementState.CLOSED) -> list[tuple[Any, ...]]:
        settled = SettledMonth(account="ka", product="Cloud", month=month, state=state)
        return [
            (line.license_id[3:], line.counter, line.for_month.month, str(line.value.normalize()), line.units)
            for line in await self.settlements.lines(settled)
        ]

    async def told(self) -> list[dict[str, Any]]:
        rows = await self.connection.fetch(
            "SELECT key, value FROM outbox WHERE type = 'keyway.usage.closed' ORDER BY id"
        )
        events = [json.loads(row["value"]) for row in rows]
        assert [row["key"] for row in rows] == [event["subject"] for event in events]
        return events


@pytest_asyncio.fixture
async def books(database_url: str) -> AsyncIterator[Books]:
    connection = await open_connection(database_url)
    books = Books(database_url, connection)
    yield books
    await books.store.close()
    await close(connection)


async def test_a_level_counts_with_its_highest_and_an_increment_with_its_sum(books: Books) -> None:
    await books.issue("1")
    for value, at in (("5", "01-03"), ("9.2", "01-10"), ("4", "01-31T23:59:59")):
        await books.report("1", "stored", value, at)
    for value, at in (("0.1", "01-01"), ("0.2", "01-31"), ("7", "02-01")):
        await books.report("1", "sent", value, at)

    assert await books.lines(JANUARY, SettlementState.OPEN) == [
        ("1", "sent", 1, "0.3", 1),
        ("1", "stored", 1, "9.2", 10),
    ]
    assert await books.close(JANUARY) == [JANUARY]
    assert await books.lines(JANUARY) == [("1", "sent", 1, "0.3", 1), ("1", "stored", 1, "9.2", 10)]


async def test_a_level_stays_in_force_until_another_or_the_end_of_the_license(books: Books) -> None:
    await books.issue("1")
    ended = datetime(2027, 2, 10, tzinfo=UTC)
    await books.issue("2", status=LicenseStatus.TERMINATED, terminated_at=ended)
    for number in ("1", "2"):
        await books.report(number, "stored", "9", "01-10")
        await books.report(number, "stored", "4", "01-31")
    await books.report("1", "stored", "3", "02-15")

    assert await books.close(MARCH) == [JANUARY, FEBRUARY, MARCH]
    assert await books.lines(JANUARY) == [("1", "stored", 1, "9", 9), ("2", "stored", 1, "9", 9)]
    assert await books.lines(FEBRUARY) == [("1", "stored", 2, "4", 4), ("2", "stored", 2, "4", 4)]
    assert await books.lines(MARCH) == [("1", "stored", 3, "3", 3)]


async def test_of_two_levels_at_one_moment_only_the_one_in_force_counts(books: Books) -> None:
    await books.issue("1")
    await books.report("1", "stored", "100", "01-10", "a")
    await books.report("1", "stored", "7", "01-10", "b")
    await books.close(JANUARY)

    assert await books.lines(JANUARY) == [("1", "stored", 1, "7", 7)]


async def test_what_comes_for_a_closed_month_adjusts_the_open_one_and_never_the_closed(books: Books) -> None:
    await books.issue("1")
    await books.report("1", "stored", "100", "01-10")
    await books.report("1", "sent", "5", "01-10")
    await books.close(JANUARY)
    before = await books.lines(JANUARY)

    late = await books.report("1", "sent", "2.5", "01-11")
    await books.report("1", "stored", "118", "01-12")
    await books.report("1", "stored", "110", "01-13")
    await books.report("1", "sent", "1", "02-01")
    await books.close(FEBRUARY)
    await books.report("1", "stored", "120", "01-14")
    await books.close(MARCH)

    assert (late.month, late.is_adjustment) == (FEBRUARY, True)
    assert await books.lines(JANUARY) == before
    assert await books.lines(FEBRUARY) == [
        ("1", "sent", 1, "2.5", 3),
        ("1", "sent", 2, "1", 1),
        ("1", "stored", 1, "18", 18),
        ("1", "stored", 2, "1.1E+2", 110),
    ]
    assert await books.lines(MARCH) == [("1", "stored", 1, "2", 2), ("1", "stored", 3, "1.2E+2", 120)]


async def test_test_and_nfr_licenses_are_in_no_settlement(books: Books) -> None:
    await books.issue("1", test=True)
    await books.issue("2", product="NFR-Cloud")
    await books.issue("3")
    for number in ("1", "2", "3"):
        await books.report(number, "sent", "5", "01-10")
        await books.report(number, "stored", "5", "01-10")
    await books.close(FEBRUARY)

    assert {line[0] for line in (*await books.lines(JANUARY), *await books.lines(FEBRUARY))} == {"3"}
    assert [account.product for account in await books.settlements.accounts(None, None)] == ["Cloud"]


@pytest.mark.parametrize(
    ("product", "is_test", "constraint"),
    [("NFR-Cloud", "false", "line_not_for_resale_is_never_settled"), ("Cloud", "true", "test_is_never_settled")],
)
async def test_the_database_refuses_a_line_of_a_test_or_nfr_license(
    books: Books, product: str, is_test: str, constraint: str
) -> None:
    await books.connection.execute("ALTER TABLE usage_settlement_line DROP CONSTRAINT line_belongs_to_a_closed_month")
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await books.connection.execute(
            "INSERT INTO usage_settlement_line (account_id, product, month, license_id, counter, for_month, kind,"
            " value, events, test)"
            " VALUES ('ka', $1, '2027-01-01', 'ka:1', 'sent', '2027-01-01', 'increment', 1, 1, $2::text::boolean)",
            product,
            is_test,
        )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE usage_settlement SET state = 'open'",
        "UPDATE usage_settlement SET month = '2027-05-01'",
        "UPDATE usage_settlement SET closed_at = now()",
        "DELETE FROM usage_settlement",
        "UPDATE usage_settlement_line SET value = 1",
        "DELETE FROM usage_settlement_line",
        "TRUNCATE usage_settlement_line",
    ],
)
async def test_the_database_refuses_to_change_a_closed_month(books: Books, change: str) -> None:
    await books.issue("1")
    await books.report("1", "sent", "5", "01-10")
    await books.close(JANUARY)

    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await books.connection.execute(change)


async def test_closing_twice_closes_once_and_tells_once(books: Books) -> None:
    await books.issue("1")
    await books.issue("2")
    await books.report("1", "sent", "0.5", "01-10")
    await books.report("2", "sent", "0.4", "01-10")
    await books.report("2", "stored", "3", "01-10")

    assert await books.close(JANUARY) == [JANUARY]
    assert await books.close(JANUARY) == []
    (event,) = await books.told()
    assert event["subject"] == "ka:Cloud:2027-01"
    assert event["type"] == "keyway.usage.closed"
    assert "sequence" not in event
    assert event["data"]["counters"] == [
        {"counter": "sent", "kind": "increment", "value": "0.9", "units": 2, "licenses": 2, "adjustment": "0"},
        {"counter": "stored", "kind": "level", "value": "3", "units": 3, "licenses": 1, "adjustment": "0"},
    ]


async def test_no_event_slips_into_a_month_while_it_is_closed(books: Books, database_url: str) -> None:
    await books.issue("1")
    first = await books.report("1", "sent", "5", "01-10")
    taken = TakenUsage(
        counted=CountedUsage(
            event=ReportedUsage(
                key=UsageKey("test", "meanwhile"),
                type=first.event.type,
                account="ka",
                number="1",
                counter="sent",
                value=Decimal(1),
                at=first.event.at,
            ),
            kind=first.kind,
            product="Cloud",
            test=False,
            month=JANUARY,
        ),
        content_sha256=bytes(32),
        partition=0,
        offset=9,
    )
    await books.close(JANUARY)

    with pytest.raises(ConflictError):
        await books.store.take([taken], {0: 10}, received_at=NOW)

    assert await books.lines(JANUARY) == [("1", "sent", 1, "5", 5)]


@pytest.fixture
def june(tmp_path: Path) -> Path:
    """The business clock stands on 1 June 2027."""
    file = tmp_path / "clock-offset"
    file.write_text(str(int((NOW - datetime.now(UTC)).total_seconds())))
    return file


async def test_the_verb_shows_closes_disputes_and_settles(
    books: Books, database_url: str, june: Path, shell: Shell
) -> None:
    shell.export(database_url=database_url, clock_offset_file=june)

    async def keyway(*arguments: str) -> tuple[int, str, str]:
        ran = await asyncio.to_thread(shell.keyway, "usage", *arguments)
        return ran.status, ran.out, ran.err

    await books.issue("1")
    await books.report("1", "sent", "2.5", "01-10")
    await books.report("1", "sent", "1", "02-10")

    status, _, problem = await keyway("close", "2027-06")
    assert (status, "not over yet" in problem) == (1, True)
    assert (await keyway("close", "2027-6"))[0] == 2
    assert (await keyway("dispute", "2027-01", "--reason", "x"))[0] == 1

    status, told, _ = await keyway("close", "2027-02", "--json")
    assert status == 0
    closed = [{"month": month, "account": "ka", "product": "Cloud"} for month in ("2027-01", "2027-02")]
    assert json.loads(told) == {"closed": closed}
    assert (await keyway("close", "2027-02"))[:2] == (0, "nothing to close up to 2027-02\n")

    assert (await keyway("dispute", "2027-01", "--reason", " "))[0] == 2  # a dispute without a reason cannot be argued
    assert (await keyway("dispute", "2027-01", "--reason", "too much"))[0] == 0
    assert (await keyway("settle", "2027-01"))[0] == 0
    assert (await keyway("settle", "2027-02"))[0] == 0
    status, _, problem = await keyway("dispute", "2027-02", "--reason", "late")
    assert (status, "never becomes disputed" in problem) == (1, True)

    _, told, _ = await keyway("show", "--json")
    states = {row["month"]: (row["state"], row["reason"]) for row in json.loads(told)["months"]}
    assert states["2027-01"] == ("settled", "too much")
    assert states["2027-02"] == ("settled", "")
    assert states["2027-06"] == ("open", "")

    _, table, _ = await keyway("show", "--month", "2027-01", "--csv")
    (line,) = csv.DictReader(io.StringIO(table))
    assert (line["license_id"], line["counter"], line["value"], line["units"]) == ("ka:1", "sent", "2.5", "3")

    status, told, _ = await keyway("show", "ka:1", "--json")
    (counter,) = json.loads(told)["counters"]
    assert (status, counter["value"], counter["events"]) == (0, "3.5", 2)
    assert (await keyway("show", "ka:999"))[0] == 1
