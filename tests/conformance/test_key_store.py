"""What both license stores promise about keys: details, doubles, effects beside, related keys, named requests."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from shared.contracts.identifiers import LicenseId
from shared.contracts.replies import ReplyStatus
from shared.database import key_rows
from shared.database.license_store import PostgresLicenseStore
from shared.database.pool import connected
from shared.domain.effects import CommandEffect, KeyQuestions, RequestName, StoredReply
from shared.domain.license import License, LicenseStatus
from shared.errors import ConflictError, StoreRefusedError
from tests.conformance.test_license_store import a_change, a_revision, an_issue
from tests.fakes.license_store import InMemoryLicenseStore
from tests.key_builders import CODE_1, CODE_2, K1_ID, K2_ID, NOW, k1, k2
from workers.license.ports import LicenseStore

pytestmark = pytest.mark.asyncio
REPLY = StoredReply(status=ReplyStatus.KEY_STATE, meta=b"20240317", body=b"{}")
NAMED = RequestName(account="partner", name="order-7", body_sha256="ab" * 32, reply=REPLY)


def made(license: License, **changes: Any) -> CommandEffect:
    assert license.key is not None
    assert license.expires_on is not None
    effect = an_issue(license, **changes)
    assert effect.write is not None
    return replace(
        effect,
        revision=a_revision(product=license.product, expires_on=license.expires_on),
        write=replace(effect.write, activation_code=license.key.activation_code, key_id=license.key.key_id),
    )


class KeyStoreSuite:
    """The promises. A subclass brings the fixture `store`."""

    async def test_details_come_back_as_stored(self, store: LicenseStore) -> None:
        attached = k2(uid="ops@example.org", address="2001:db8::17", nickname="Größe")
        await store.store([made(attached)])

        loaded = (await store.load([], [K2_ID], [])).licenses[K2_ID]

        assert loaded.license == attached
        assert (loaded.key_id, loaded.activation_code) == (20240401, CODE_2)

    async def test_changed_details_come_back_as_changed(self, store: LicenseStore) -> None:
        await store.store([made(k1())])
        changed = k1(nickname="eu-7", owner="70010002")
        await store.store([a_change(changed, 1)])

        assert (await store.load([], [K1_ID], [])).licenses[K1_ID].license == changed

    @pytest.mark.parametrize("value", [{"address": "203.0.113.7"}, {"uid": "ops@example.org"}])
    async def test_a_value_that_is_unique_in_a_family_is_held_once_among_live_keys(
        self, store: LicenseStore, value: dict[str, str]
    ) -> None:
        other = {"key_id": 20240402, "activation_code": "other"}
        await store.store([made(k2(**value))])
        twin = k2(license={"number": "20240402"}, **other, **value)
        with pytest.raises(ConflictError):
            await store.store([made(twin)])
        await store.store([made(k1(**value))])  # another family
        ended = k2(license={"status": LicenseStatus.TERMINATED, "terminated_at": NOW}, **value)
        await store.store([a_change(ended, 1)])
        await store.store([made(twin)])

    async def test_what_happens_beside_is_checked_and_has_no_result(self, store: LicenseStore) -> None:
        await store.store([made(k1())])
        await store.store([made(k2())])
        own = a_change(k2(nickname="child"), 1)
        beside = replace(a_change(k1(), 1), command_id=own.command_id, is_beside=True)
        await store.store([own, beside])

        loaded = await store.load([own.command_id], [K1_ID, K2_ID], [])
        assert [result.reply.status for result in loaded.results.values()] == [ReplyStatus.TERMINATED]
        assert (loaded.licenses[K1_ID].version, loaded.licenses[K2_ID].version) == (2, 2)

        late = a_change(k2(nickname="late"), 2)
        with pytest.raises(ConflictError):
            await store.store([late, replace(a_change(k1(), 1), command_id=late.command_id, is_beside=True)])
        assert (await store.load([], [K2_ID], [])).licenses[K2_ID].license == k2(nickname="child")

    async def test_related_keys_are_told(self, store: LicenseStore) -> None:
        await store.store([made(k1(address="203.0.113.7")), made(k2(uid="ops@example.org"))])
        for questions in (
            KeyQuestions(licenses=frozenset({K1_ID, K2_ID})),
            KeyQuestions(key_ids=frozenset({20240317, 20240401})),
            KeyQuestions(activation_codes=frozenset({CODE_1, CODE_2})),
            KeyQuestions(addresses=frozenset({"203.0.113.7"}), uids=frozenset({"ops@example.org"})),
        ):
            told = (await store.load_keys(questions)).licenses
            assert {K1_ID, K2_ID} <= told.keys()
            assert told[K1_ID].license == k1(address="203.0.113.7")

    async def test_a_named_request_is_answered_once(self, store: LicenseStore) -> None:
        await store.store([made(k1(), named=NAMED, reply=REPLY)])

        asked = KeyQuestions(names=frozenset({("partner", "order-7"), ("partner", "order-8")}))
        (known,) = (await store.load_keys(asked)).requests.values()
        assert (known.body_sha256, known.status, known.meta, known.body) == (
            "ab" * 32,
            ReplyStatus.KEY_STATE,
            b"20240317",
            b"{}",
        )
        with pytest.raises(ConflictError):
            await store.store([made(k2(), named=NAMED, reply=REPLY)])
        assert (await store.load([], [K2_ID], [])).licenses == {}


class TestInMemoryKeyStore(KeyStoreSuite):
    @pytest.fixture
    def store(self) -> InMemoryLicenseStore:
        return InMemoryLicenseStore()


@pytest.mark.services
class TestPostgresKeyStore(KeyStoreSuite):
    @pytest_asyncio.fixture
    async def store(self, database_url: str) -> AsyncIterator[PostgresLicenseStore]:
        store = PostgresLicenseStore(database_url)
        yield store
        await store.close()

    async def test_a_name_is_free_again_after_thirty_days_whoever_looks(
        self, store: PostgresLicenseStore, database_url: str
    ) -> None:
        asked = KeyQuestions(names=frozenset({("partner", "order-7")}))
        reply = StoredReply(status=ReplyStatus.KEY_STATE, meta=b"20240317")
        aged = "UPDATE named_request SET handled_at = now() - interval '30 days' + $1::interval"
        await store.store([made(k1(), named=NAMED, reply=reply)])
        async with connected(database_url) as connection:
            await connection.execute(aged, timedelta(minutes=1))
            assert len((await store.load_keys(asked)).requests) == 1
            with pytest.raises(ConflictError):
                await store.store([made(k2(), named=NAMED, reply=reply)])

            await connection.execute(aged, timedelta(0))
            assert (await store.load_keys(asked)).requests == {}
            again = replace(NAMED, body_sha256="cd" * 32)
            late = datetime.now(UTC) - timedelta(days=29, hours=23)  # a worker whose clock is behind
            await store.store([made(k2(), named=again, reply=reply, handled_at=late)])
        (known,) = (await store.load_keys(asked)).requests.values()
        assert known.body_sha256 == "cd" * 32

    async def test_a_parent_tells_its_children_and_a_child_its_parent(self, store: PostgresLicenseStore) -> None:
        from shared.domain.key_details import ParentKey

        parent = ParentKey(license_id=K1_ID, key_id=20240317, activation_code=CODE_1)
        await store.store([made(k1()), made(k2(parent=parent))])
        for one in (K1_ID, K2_ID):
            told = (await store.load_keys(KeyQuestions(licenses=frozenset({one})))).licenses
            assert told.keys() == {K1_ID, K2_ID}
        nobody = await store.load_keys(KeyQuestions(licenses=frozenset({LicenseId("partner:1")})))
        assert nobody.licenses == {}

    async def test_more_relatives_than_can_be_judged_at_once_are_refused_not_cut(
        self, store: PostgresLicenseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store.store([made(k1(address="203.0.113.7")), made(k2(address="203.0.113.7"))])
        asked = KeyQuestions(addresses=frozenset({"203.0.113.7"}))
        monkeypatch.setattr(key_rows, "RELATED_MAX", 2)
        assert (await store.load_keys(asked)).licenses.keys() == {K1_ID, K2_ID}
        monkeypatch.setattr(key_rows, "RELATED_MAX", 1)
        with pytest.raises(StoreRefusedError):
            await store.load_keys(asked)
