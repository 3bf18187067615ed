"""What every usage store promises: the same suite for the one in memory and the one in PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from shared.contracts.commands import LicensingModel
from shared.contracts.identifiers import LicenseId
from shared.contracts.usage import ReportedUsage, UsageKey, UsageType
from shared.database.license_store import PostgresLicenseStore
from shared.database.usage_store import PostgresUsageStore
from shared.domain.catalog import CounterKind
from shared.domain.usage import CountedUsage, CounterTotal, UsageHolder, UsageOnFile
from shared.domain.usage_batch import TakenUsage, UsageLoaded
from shared.errors import ConflictError, StoreRefusedError
from tests.builders import a_license
from tests.conformance.test_license_store import an_issue
from tests.fakes.usage_store import InMemoryUsageStore
from workers.usage.ports import UsageStore

NOW = datetime(2027, 3, 1, 4, 0, tzinfo=UTC)
LICENSE = LicenseId("ka:00481516")
LEVEL, INCREMENT = CounterKind.LEVEL, CounterKind.INCREMENT
SENT = ("sentGigabytes", INCREMENT)
STORED = ("storedGigabytes", LEVEL)


def taken(
    event_id: str,
    value: str = "1",
    *,
    counter: tuple[str, CounterKind] = SENT,
    at: datetime = NOW,
    source: str = "app",
    offset: int = 0,
    **changes: Any,
) -> TakenUsage:
    name, kind = counter
    event = ReportedUsage(
        key=UsageKey(source, event_id),
        type=UsageType.LEVEL if kind is LEVEL else UsageType.INCREMENT,
        account="ka",
        number="00481516",
        counter=name,
        value=Decimal(value),
        at=at,
    )
    counted = CountedUsage(event=event, kind=kind, product="CloudTransfer", test=False, month=date(2027, 3, 1))
    return TakenUsage(
        counted=replace(counted, **changes),
        content_sha256=sha256(event_id.encode()).digest(),
        partition=3,
        offset=offset,
    )


class UsageStoreSuite:
    """The promises. A subclass brings the fixture `store`; `on_file` and `close_month` act on what it holds."""

    async def on_file(self) -> UsageOnFile:
        raise NotImplementedError

    async def issue(self) -> None:
        """Make the license `LICENSE`, a test license for CloudTransfer."""
        raise NotImplementedError

    async def close_month(self, month: date) -> None:
        raise NotImplementedError

    async def test_what_is_unknown_is_left_out(self, store: UsageStore) -> None:
        assert await store.load([UsageKey("a", "b")], [LICENSE]) == UsageLoaded()

    async def test_a_holder_comes_with_its_marks_and_last_closed_month(self, store: UsageStore) -> None:
        await self.issue()
        holder = UsageHolder(
            account="ka", product="CloudTransfer", test=True, was_issued=True, terminated_at=None, closed_through=None
        )

        assert (await store.load([], [LICENSE])).holders == {LICENSE: holder}

    async def test_an_event_is_known_by_source_and_id_together(self, store: UsageStore) -> None:
        await store.take([taken("1")], {3: 1}, received_at=NOW)

        loaded = await store.load([UsageKey("app", "1"), UsageKey("app", "2"), UsageKey("1", "app")], [])

        assert loaded.known == {UsageKey("app", "1"): taken("1").content_sha256}

    async def test_increments_add_up_over_batches_and_levels_go_by_time_then_id(self, store: UsageStore) -> None:
        later = NOW + timedelta(minutes=1)
        await store.take(
            [taken("1", "0.1"), taken("2", "0.2"), taken("5", "7", counter=STORED, at=later)], {3: 3}, received_at=NOW
        )
        await store.take([taken("3", "0.3"), taken("6", "9", counter=STORED)], {3: 5}, received_at=NOW)
        await store.take([taken("7", "8", counter=STORED, at=later)], {4: 1}, received_at=NOW)
        await store.take([taken("4", "6", counter=STORED, at=later, source="z")], {4: 2}, received_at=NOW)

        on_file = await self.on_file()

        assert on_file.totals == {
            SENT: CounterTotal(kind=INCREMENT, value=Decimal("0.6"), at=NOW, event_id="3", source="app", events=3),
            STORED: CounterTotal(kind=LEVEL, value=Decimal(8), at=later, event_id="7", source="app", events=4),
        }
        assert on_file.watermark == (0, 0, 0, 5, 2)

    async def test_the_watermark_never_goes_back(self, store: UsageStore) -> None:
        await store.take([], {3: 9}, received_at=NOW)
        await store.take([], {3: 4, 0: 1}, received_at=NOW)

        assert (await self.on_file()).watermark == (1, 0, 0, 9)

    async def test_an_event_known_meanwhile_is_a_conflict_and_nothing_is_stored(self, store: UsageStore) -> None:
        await store.take([taken("1")], {3: 1}, received_at=NOW)
        before = await self.on_file()

        with pytest.raises(ConflictError):
            await store.take([taken("2"), taken("1")], {3: 3}, received_at=NOW)

        assert await self.on_file() == before
        assert (await store.load([UsageKey("app", "2")], [])).known == {}

    async def test_a_month_closed_meanwhile_is_a_conflict(self, store: UsageStore) -> None:
        await self.close_month(date(2027, 3, 1))

        with pytest.raises(ConflictError):
            await store.take([taken("1")], {3: 1}, received_at=NOW)

        await store.take([taken("1", month=date(2027, 4, 1))], {3: 1}, received_at=NOW)
        assert (await self.on_file()).totals[SENT].events == 1

    async def test_a_value_that_cannot_be_stored_is_refused_and_nothing_is_stored(self, store: UsageStore) -> None:
        with pytest.raises(StoreRefusedError):
            await store.take([taken("1"), taken("2\0")], {3: 2}, received_at=NOW)

        assert await self.on_file() == UsageOnFile()

    async def test_every_digit_comes_back(self, store: UsageStore) -> None:
        exact = "9007199254740990.000000000000000000000000000001"
        await store.take([taken("1", exact)], {3: 1}, received_at=NOW)
        await store.take([taken("2", "0.1")], {3: 2}, received_at=NOW)

        assert (await self.on_file()).totals[SENT].value == Decimal("9007199254740990.100000000000000000000000000001")


@pytest.mark.asyncio
class TestInMemoryUsageStore(UsageStoreSuite):
    @pytest.fixture
    def store(self) -> InMemoryUsageStore:
        self.held = InMemoryUsageStore()
        return self.held

    async def on_file(self) -> UsageOnFile:
        totals = {(counter, kind): total for (_, counter, kind), total in self.held.totals.items()}
        marks = self.held.marks
        return UsageOnFile(
            totals=totals, watermark=tuple(marks.get(number, 0) for number in range(max(marks, default=-1) + 1))
        )

    async def issue(self) -> None:
        self.held.holders[LICENSE] = UsageHolder(
            account="ka", product="CloudTransfer", test=True, was_issued=True, terminated_at=None, closed_through=None
        )

    async def close_month(self, month: date) -> None:
        self.held.closed_through["ka", "CloudTransfer"] = month


@pytest.mark.asyncio
@pytest.mark.services
class TestPostgresUsageStore(UsageStoreSuite):
    @pytest_asyncio.fixture
    async def store(self, database_url: str) -> AsyncIterator[PostgresUsageStore]:
        self.database_url = database_url
        store = PostgresUsageStore(database_url)
        yield store
        await store.close()

    async def on_file(self) -> UsageOnFile:
        licenses = PostgresLicenseStore(self.database_url)
        try:
            return (await licenses.load_usage([LICENSE]))[LICENSE]
        finally:
            await licenses.close()

    async def issue(self) -> None:
        licenses = PostgresLicenseStore(self.database_url)
        license = a_license(product="CloudTransfer", model=LicensingModel.REPORTING, test=True)
        try:
            await licenses.store([an_issue(license)])
        finally:
            await licenses.close()

    async def close_month(self, month: date) -> None:
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(
                "INSERT INTO usage_settlement (account_id, product, month, state, closed_at)"
                " VALUES ('ka', 'CloudTransfer', $1, 'closed', now())",
                month,
            )
        finally:
            await connection.close()

    async def test_raw_events_are_never_rewritten(self, store: PostgresUsageStore) -> None:
        await store.take([taken("1")], {3: 1}, received_at=NOW)
        connection = await asyncpg.connect(self.database_url)
        try:
            for change in ("UPDATE usage_event SET value = 2", "DELETE FROM usage_event", "TRUNCATE usage_event"):
                with pytest.raises(asyncpg.IntegrityConstraintViolationError):
                    await connection.execute(change)
        finally:
            await connection.close()
