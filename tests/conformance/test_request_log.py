"""What every log of public requests promises: the same suite for the one in memory and the one in PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import asyncpg
import pytest
import pytest_asyncio

from shared.contracts.commands import SuspendLicense
from shared.contracts.envelope import command_id_of_request, new_id
from shared.contracts.requests import IntakeType, RequestReference
from shared.database.intake_requests import PostgresIntakeRequests
from shared.domain.effects import OutboxEvent
from shared.domain.intake import NewRequest, PublicRequest
from shared.errors import StoreRefusedError
from tests.fakes.request_log import InMemoryRequestLog
from workers.intake.ports import RequestLog

pytestmark = pytest.mark.asyncio

AT = datetime(2027, 3, 1, 4, 0, 0, 123456, tzinfo=UTC)


class Kept:
    """A log, and the answers that it wrote."""

    def __init__(self, log: RequestLog, connection: asyncpg.Connection | None) -> None:
        self.log = log
        self._connection = connection

    async def answers(self) -> list[bytes]:
        if self._connection is not None:
            return [row["value"] for row in await self._connection.fetch("SELECT value FROM outbox ORDER BY id")]
        assert isinstance(self.log, InMemoryRequestLog)
        return [answer.value for answer in self.log.answers]


@pytest.fixture
def in_memory() -> Kept:
    return Kept(InMemoryRequestLog(), None)


@pytest_asyncio.fixture
async def in_postgres(database_url: str) -> AsyncIterator[Kept]:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO account (name, role, secret_hash, disabled_at) VALUES ('ka', 'ka', '$argon2id$x', now())"
    )
    log = PostgresIntakeRequests(database_url)
    yield Kept(log, connection)
    await log.close()
    await connection.close()


@pytest.fixture(params=["in_memory", pytest.param("in_postgres", marks=pytest.mark.services)])
def kept(request: pytest.FixtureRequest) -> Kept:
    found: Kept = request.getfixturevalue(request.param)
    return found


def a_new(request_id: str, *, content: bytes = b"a", at: datetime = AT, answer: bytes | None = None) -> NewRequest:
    request = PublicRequest(
        reference=RequestReference(source="urn:example:ä", id=request_id, type=IntakeType.SUSPEND),
        command=SuspendLicense(account="ka", number="00481516"),
        content_sha256=sha256(content).digest(),
    )
    event = None
    if answer is not None:
        event = OutboxEvent(event_id=new_id(), type="keyway.intake.rejected", sequence=None, value=answer)
    return NewRequest(request=request, command_id=command_id_of_request(*request.key, at), answer=event)


async def test_a_request_keeps_the_id_and_the_content_of_its_first_arrival(kept: Kept) -> None:
    first = a_new("1")
    later = a_new("1", content=b"other", at=AT + timedelta(days=9))

    known = await kept.log.remember([first], AT)
    again = await kept.log.remember([later, a_new("2")], AT + timedelta(days=9))

    found = again[first.request.key]
    assert found == known[first.request.key]
    assert (found.command_id, found.content_sha256) == (first.command_id, sha256(b"a").digest())
    assert later.command_id != first.command_id
    assert not found.is_handed_over
    assert len(again) == 2


async def test_what_was_handed_over_stays_so(kept: Kept) -> None:
    one, two = a_new("1"), a_new("2")
    await kept.log.remember([one, two], AT)

    await kept.log.hand_over([one.request.key], AT)
    await kept.log.hand_over([one.request.key], AT)
    known = await kept.log.remember([two, one], AT)

    assert (known[one.request.key].is_handed_over, known[two.request.key].is_handed_over) == (True, False)


async def test_an_answer_is_written_once_with_its_request(kept: Kept) -> None:
    for _ in range(2):
        known = await kept.log.remember([a_new("1", answer=b"no"), a_new("2")], AT)

    assert [known[key].is_handed_over for key in sorted(known)] == [True, False]
    assert await kept.answers() == [b"no"]


async def test_accounts_are_known_disabled_ones_too(kept: Kept) -> None:
    assert await kept.log.known_accounts({"ka", "nobody"}) == {"ka"}
    assert await kept.log.known_accounts(set()) == frozenset()


async def test_a_value_that_cannot_be_stored_is_refused_and_nothing_is_remembered(kept: Kept) -> None:
    with pytest.raises(StoreRefusedError):
        await kept.log.remember([a_new("1"), a_new("a\0b")], AT)

    known = await kept.log.remember([a_new("1", content=b"new")], AT)
    assert known[a_new("1").request.key].content_sha256 == sha256(b"new").digest()


async def test_the_database_answers(kept: Kept) -> None:
    await kept.log.ping()
