"""What every license store promises: the same suite for the one in memory and the one in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from hashlib import sha256

import asyncpg
import pytest
import pytest_asyncio

from shared.contracts.commands import LicensingModel
from shared.contracts.envelope import new_activation_code, new_id
from shared.contracts.identifiers import CommandId, Fingerprint, LicenseId
from shared.contracts.replies import ReplyStatus
from shared.database.license_store import PostgresLicenseStore
from shared.domain.case import RevisionCause
from shared.domain.effects import (
    NO_AUDIT,
    AuditEntry,
    CommandEffect,
    LicenseWrite,
    Loaded,
    NewRevision,
    OutboxEvent,
    StoredLicense,
    StoredReply,
)
from shared.domain.license import License, LicenseStatus
from shared.errors import ConflictError, StoreRefusedError
from tests.builders import APRIL, MARCH, a_license
from tests.fakes.license_store import InMemoryLicenseStore
from workers.license.ports import LicenseStore

HANDLED_AT = datetime(2027, 2, 5, 9, 30, 0, 123456, tzinfo=UTC)
LICENSE = LicenseId("ka:00481516")
BODY_1, BODY_2 = b"first.body.\x00\xff", b"second.body"
FINGERPRINTS = tuple(Fingerprint(sha256(bytes([n])).digest()) for n in range(4))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is on record about one license beside the store's own answers."""

    events: Sequence[tuple[int, str, bytes]]
    audit: Mapping[bytes, AuditEntry]


def a_revision(number: int = 1, body: bytes = BODY_1, **changes: object) -> NewRevision:
    plain = NewRevision(
        revision=number,
        cause=RevisionCause.ISSUED if number == 1 else RevisionCause.RENEWED,
        product="Bronze",
        expires_on=MARCH,
        body=body,
        body_sha256=sha256(body).digest(),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # names are those of the class


def an_event(sequence: int = 1, value: bytes = b'{"type":"issued"}') -> OutboxEvent:
    return OutboxEvent(event_id=new_id(), type="keyway.license.issued", sequence=sequence, value=value)


def a_link(previous: bytes = NO_AUDIT, entry: bytes = b'{"asked":"purchase"}') -> AuditEntry:
    return AuditEntry(entry=entry, previous_sha256=previous, entry_sha256=sha256(previous + entry).digest())


def a_reply(revision: int = 1, last_day: date = MARCH) -> StoredReply:
    return StoredReply(status=ReplyStatus.LICENSE_BODY, meta=last_day.isoformat().encode(), revision=revision)


def an_issue(license: License | None = None, **changes: object) -> CommandEffect:
    """The effect of a successful first PURCHASE."""
    license = license or a_license()
    link = a_link()
    plain = CommandEffect(
        command_id=CommandId(new_id()),
        license_id=license.license_id,
        payload_sha256=sha256(b"payload").digest(),
        reply=a_reply(),
        handled_at=HANDLED_AT,
        write=LicenseWrite(
            license=license,
            version_before=0,
            activation_code=new_activation_code(),
            audit_sha256=link.entry_sha256,
        ),
        revision=a_revision(),
        operation=(FINGERPRINTS[0], 1),
        events=(an_event(),),
        audit=link,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # names are those of the class


def a_change(license: License, version_before: int, **changes: object) -> CommandEffect:
    """The effect of a later command that writes the row and nothing else."""
    plain = CommandEffect(
        command_id=CommandId(new_id()),
        license_id=license.license_id,
        payload_sha256=sha256(b"payload").digest(),
        reply=StoredReply(status=ReplyStatus.TERMINATED),
        handled_at=HANDLED_AT,
        write=LicenseWrite(license=license, version_before=version_before, activation_code=None, audit_sha256=NO_AUDIT),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # names are those of the class


def a_renewal(version_before: int = 1, revision: int = 2, **changes: object) -> CommandEffect:
    """The effect of a RENEW to 15 April."""
    renewed = replace(a_license(), expires_on=APRIL, revision=revision, sequence=revision)
    return a_change(
        renewed,
        version_before,
        **{
            "reply": a_reply(revision, APRIL),
            "revision": a_revision(revision, BODY_2, expires_on=APRIL),
            "operation": (FINGERPRINTS[revision - 1], revision),
            "events": (an_event(revision, b'{"type":"renewed"}'),),
            **changes,
        },
    )


async def load_one(store: LicenseStore, license_id: LicenseId = LICENSE) -> StoredLicense:
    loaded = await store.load([], [license_id], FINGERPRINTS)
    return loaded.licenses[license_id]


async def load_nothing_of(store: LicenseStore, *effects: CommandEffect) -> None:
    """Assert that no trace of `effects` is found."""
    loaded = await store.load(
        [effect.command_id for effect in effects], [effect.license_id for effect in effects], FINGERPRINTS
    )
    assert loaded == Loaded()


class LicenseStoreSuite:
    """The promises. A subclass brings the fixture `store`, and `recorded`, what it holds about `LICENSE`."""

    async def recorded(self) -> Recorded:
        raise NotImplementedError

    async def test_what_is_unknown_is_left_out(self, store: LicenseStore) -> None:
        assert await store.load([CommandId(new_id())], [LICENSE], FINGERPRINTS) == Loaded()
        assert await store.load([], [], []) == Loaded()
        assert await store.load_history([LICENSE]) == {}

    async def test_every_member_of_a_license_comes_back_as_stored(self, store: LicenseStore) -> None:
        license = License(
            account="ka-2",
            number="7",
            product="NFR-CloudBackup",
            model=LicensingModel.REPORTING,
            status=LicenseStatus.LAPSED,
            suspended=True,
            test=True,
            subscription_on=date(2027, 1, 1),
            start_on=date(2027, 1, 2),
            purchase_on=date(2027, 1, 3),
            expires_on=date(2027, 1, 4),
            activation_data='{"ip":"192.0.2.1","note":"Größe\x1f\n"}',
            reg_name="6 0321",
            revision=1,
            key_version=12,
            sequence=9,
        )
        effect = an_issue(license)
        await store.store([effect])

        loaded = await store.load([], [license.license_id], [FINGERPRINTS[0], FINGERPRINTS[1]])

        assert effect.write is not None
        assert loaded.licenses == {
            license.license_id: StoredLicense(
                license=license,
                version=1,
                audit_sha256=effect.write.audit_sha256,
                body=BODY_1,
                operations={FINGERPRINTS[0]: 1},
                key_id=10_000_001,
                activation_code=effect.write.activation_code,
            )
        }

    async def test_a_changed_license_comes_back_as_changed(self, store: LicenseStore) -> None:
        await store.store([an_issue()])
        changed = replace(
            a_license(),
            product="Gold",
            status=LicenseStatus.TERMINATED,
            suspended=True,
            start_on=date(2027, 3, 1),
            purchase_on=date(2027, 3, 2),
            expires_on=APRIL,
            terminated_at=HANDLED_AT,
            activation_data="new",
            reg_name=None,
            key_version=1,
            sequence=2,
        )
        await store.store([a_change(changed, 1)])

        found = await load_one(store)

        assert found.license == changed
        assert found.version == 2
        assert found.audit_sha256 == NO_AUDIT

    async def test_a_redelivered_command_finds_its_result_with_the_body_of_its_revision(
        self, store: LicenseStore
    ) -> None:
        first, second = an_issue(), a_renewal()
        await store.store([first])
        await store.store([second])

        loaded = await store.load([first.command_id, second.command_id], [], [])

        found = loaded.results[first.command_id]
        assert (found.payload_sha256, found.reply, found.body) == (first.payload_sha256, first.reply, BODY_1)
        assert loaded.results[second.command_id].body == BODY_2
        assert len(loaded.results) == 2

    async def test_a_reply_without_body_comes_back_as_stored(self, store: LicenseStore) -> None:
        rejected = StoredReply(status=ReplyStatus.REJECTED, meta=b"license_unknown", body=b'{"number":"1"}')
        expired = StoredReply(status=ReplyStatus.EXPIRED)
        effects = [
            CommandEffect(
                command_id=CommandId(new_id()),
                license_id=LICENSE,
                payload_sha256=sha256(bytes([n])).digest(),
                reply=reply,
                handled_at=HANDLED_AT,
            )
            for n, reply in enumerate((rejected, expired))
        ]
        await store.store(effects)

        loaded = await store.load([effect.command_id for effect in effects], [LICENSE], [])

        assert [loaded.results[effect.command_id].reply for effect in effects] == [rejected, expired]
        assert loaded.results[effects[0].command_id].body == rejected.body
        assert loaded.licenses == {}

    async def test_a_tombstone_has_neither_body_nor_last_day(self, store: LicenseStore) -> None:
        tombstone = License(
            account="ka",
            number="00481516",
            product="",
            model=LicensingModel.STANDARD,
            status=LicenseStatus.TERMINATED,
            terminated_at=HANDLED_AT,
            sequence=1,
        )
        effect = a_change(tombstone, 0, reply=StoredReply(status=ReplyStatus.TOMBSTONE_RECORDED), events=(an_event(),))
        await store.store([effect])

        found = await load_one(store)

        assert (found.license, found.body, found.version) == (tombstone, b"", 1)
        assert await store.load_history([LICENSE]) == {}

    async def test_history_tells_every_revision_in_rising_order(self, store: LicenseStore) -> None:
        await store.store([an_issue(), an_issue(a_license(number="2"))])
        await store.store([a_renewal()])

        history = await store.load_history([LICENSE])

        assert list(history) == [LICENSE]
        assert [(past.revision, past.cause, past.product) for past in history[LICENSE]] == [
            (1, RevisionCause.ISSUED, "Bronze"),
            (2, RevisionCause.RENEWED, "Bronze"),
        ]
        assert history[LICENSE][0].body.sha256 == sha256(BODY_1).hexdigest()
        assert history[LICENSE][0].body.length_bytes == len(BODY_1)

    async def test_a_batch_of_128_is_stored_whole(self, store: LicenseStore) -> None:
        effects = [an_issue(a_license(number=str(n))) for n in range(127, -1, -1)]
        await store.store(effects)

        loaded = await store.load(
            [effect.command_id for effect in effects], [effect.license_id for effect in effects], FINGERPRINTS
        )

        assert set(loaded.results) == {effect.command_id for effect in effects}
        assert {found.license for found in loaded.licenses.values()} == {
            effect.write.license for effect in effects if effect.write is not None
        }

    async def test_several_commands_of_one_license_in_one_batch_leave_all_their_traces(
        self, store: LicenseStore
    ) -> None:
        await store.store([replace(an_issue(), write=None), a_renewal(version_before=0, write=new_row(a_renewal()))])

        found = await load_one(store)

        assert (found.version, found.body, found.license.expires_on) == (1, BODY_2, APRIL)
        assert found.operations == {FINGERPRINTS[0]: 1, FINGERPRINTS[1]: 2}
        assert [sequence for sequence, _, _ in (await self.recorded()).events] == [1, 2]

    async def test_events_and_audit_are_on_record_byte_for_byte(self, store: LicenseStore) -> None:
        two_events = (an_event(1, b"one"), an_event(2, b"two"))
        effect = an_issue(a_license(sequence=2), events=two_events)
        await store.store([effect])

        recorded = await self.recorded()

        assert recorded.events == [(1, two_events[0].type, b"one"), (2, two_events[1].type, b"two")]
        assert effect.audit is not None
        assert recorded.audit == {NO_AUDIT: effect.audit}

    async def test_a_license_that_moved_on_is_a_conflict_and_nothing_is_stored(self, store: LicenseStore) -> None:
        await store.store([an_issue()])
        await store.store([a_renewal()])
        late, beside = a_renewal(version_before=1, revision=3), an_issue(a_license(number="9"))

        with pytest.raises(ConflictError):
            await store.store([late, beside])

        await load_nothing_of(store, replace(late, license_id=beside.license_id), beside)
        assert (await load_one(store)).version == 2

    async def test_a_change_of_a_license_that_does_not_exist_is_a_conflict(self, store: LicenseStore) -> None:
        change = a_change(a_license(), 1)
        with pytest.raises(ConflictError):
            await store.store([change])
        await load_nothing_of(store, change)

    async def test_a_number_that_was_issued_meanwhile_is_a_conflict(self, store: LicenseStore) -> None:
        first, second = an_issue(), an_issue()
        await store.store([first])
        with pytest.raises(ConflictError):
            await store.store([second])
        assert (await store.load([second.command_id], [], [])) == Loaded()

    async def test_a_known_command_id_is_a_conflict_and_nothing_is_stored(self, store: LicenseStore) -> None:
        first = an_issue()
        await store.store([first])
        same_id = an_issue(a_license(number="9"), command_id=first.command_id)

        with pytest.raises(ConflictError):
            await store.store([same_id])

        assert (await store.load([], [same_id.license_id], [])) == Loaded()
        assert (await store.load([first.command_id], [], [])).results[first.command_id].body == BODY_1

    @pytest.mark.parametrize("repeated", ["revision", "operation", "event", "audit"])
    async def test_history_that_exists_is_a_conflict(self, store: LicenseStore, repeated: str) -> None:
        first = an_issue()
        await store.store([first])
        again: dict[str, dict[str, object]] = {
            "revision": {"revision": first.revision},
            "operation": {"operation": first.operation},
            "event": {"events": first.events},
            "audit": {"audit": a_link(entry=b"another story")},
        }
        with pytest.raises(ConflictError):
            await store.store([a_change(a_license(), 1, **again[repeated])])
        assert (await load_one(store)).version == 1

    async def test_two_writers_of_one_license_at_once_have_one_winner(self, store: LicenseStore) -> None:
        await store.store([an_issue()])
        outcomes = await asyncio.gather(
            *(store.store([a_renewal(revision=2)]) for _ in range(4)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes if outcome is not None] == [ConflictError] * 3
        assert (await load_one(store)).version == 2

    async def test_operations_after_a_revision_are_forgotten_before_the_new_one_is_remembered(
        self, store: LicenseStore
    ) -> None:
        await store.store([an_issue(), an_issue(a_license(number="2"), operation=(FINGERPRINTS[2], 5))])
        await store.store([a_renewal()])
        reversal = a_renewal(version_before=2, revision=3, forget_operations_after=1, operation=(FINGERPRINTS[1], 3))
        await store.store([reversal])

        assert (await load_one(store)).operations == {FINGERPRINTS[0]: 1, FINGERPRINTS[1]: 3}
        assert (await load_one(store, LicenseId("ka:2"))).operations == {FINGERPRINTS[2]: 5}

    async def test_operations_of_the_same_batch_are_forgotten_too(self, store: LicenseStore) -> None:
        await store.store([an_issue()])
        undone = a_renewal(revision=2, write=None)
        reversal = a_renewal(revision=3, write=None, forget_operations_after=1)
        done_again = a_renewal(revision=4, operation=(FINGERPRINTS[1], 4))

        await store.store([undone, reversal, done_again])

        assert (await load_one(store)).operations == {FINGERPRINTS[0]: 1, FINGERPRINTS[1]: 4, FINGERPRINTS[2]: 3}

    async def test_only_asked_fingerprints_come_back(self, store: LicenseStore) -> None:
        await store.store([an_issue()])
        await store.store([a_renewal()])
        loaded = await store.load([], [LICENSE], [FINGERPRINTS[1], FINGERPRINTS[3]])
        assert loaded.licenses[LICENSE].operations == {FINGERPRINTS[1]: 2}

    @pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["nul", "surrogate"])
    @pytest.mark.parametrize("member", ["activation_data", "reg_name"])
    async def test_a_text_that_no_database_holds_is_refused_and_nothing_is_stored(
        self, store: LicenseStore, text: str, member: str
    ) -> None:
        good, bad = an_issue(a_license(number="1")), an_issue(a_license(**{member: text}))

        with pytest.raises(StoreRefusedError):
            await store.store([good, bad])

        await load_nothing_of(store, good, bad)
        await store.store([good])
        assert (await load_one(store, good.license_id)).version == 1

    @pytest.mark.parametrize(
        "wrong",
        [
            a_license(status=LicenseStatus.ACTIVE, sequence=3, expires_on=APRIL),
            a_license(
                status=LicenseStatus.TERMINATED, terminated_at=HANDLED_AT, sequence=3, revision=2, expires_on=APRIL
            ),
        ],
        ids=["revived", "issued again"],
    )
    async def test_a_terminated_license_is_refused_another_life(self, store: LicenseStore, wrong: License) -> None:
        ended = a_license(status=LicenseStatus.TERMINATED, terminated_at=HANDLED_AT, sequence=2)
        await store.store([an_issue()])
        await store.store([a_change(ended, 1)])
        with pytest.raises(StoreRefusedError):
            await store.store([a_change(wrong, 2)])
        assert (await load_one(store)).license == ended

    @pytest.mark.parametrize("last_day", [date(2027, 3, 14), None])
    async def test_an_earlier_last_day_is_refused(self, store: LicenseStore, last_day: date | None) -> None:
        await store.store([an_issue()])
        with pytest.raises(StoreRefusedError):
            await store.store([a_change(a_license(expires_on=last_day), 1)])

    async def test_an_issued_license_without_activation_code_is_refused(self, store: LicenseStore) -> None:
        effect = an_issue()
        assert effect.write is not None
        with pytest.raises(StoreRefusedError):
            await store.store([replace(effect, write=replace(effect.write, activation_code=None))])
        await load_nothing_of(store, effect)

    async def test_an_activation_code_names_one_license(self, store: LicenseStore) -> None:
        first, second = an_issue(), an_issue(a_license(number="2"))
        assert first.write is not None
        assert second.write is not None
        await store.store([first])
        taken = replace(second.write, activation_code=first.write.activation_code)
        with pytest.raises(ConflictError):
            await store.store([replace(second, write=taken)])


def new_row(effect: CommandEffect) -> LicenseWrite:
    """The write of `effect` as that of a license that is new in this batch."""
    assert effect.write is not None
    return replace(effect.write, version_before=0, activation_code=new_activation_code())


@pytest.mark.asyncio
class TestInMemoryLicenseStore(LicenseStoreSuite):
    @pytest.fixture
    def store(self) -> InMemoryLicenseStore:
        self.memory = InMemoryLicenseStore()
        return self.memory

    async def recorded(self) -> Recorded:
        events = sorted(self.memory.tables.events.items())
        return Recorded(
            events=[(event.sequence, event.type, event.value) for (owner, _), event in events if owner == LICENSE],
            audit={previous: link for (owner, previous), link in self.memory.tables.audit.items() if owner == LICENSE},
        )


@pytest.mark.asyncio
@pytest.mark.services
class TestPostgresLicenseStore(LicenseStoreSuite):
    @pytest_asyncio.fixture
    async def store(self, database_url: str) -> AsyncIterator[PostgresLicenseStore]:
        self.database_url = database_url
        store = PostgresLicenseStore(database_url)
        yield store
        await store.close()

    async def recorded(self) -> Recorded:
        connection = await asyncpg.connect(self.database_url)
        try:
            events = await connection.fetch(
                "SELECT sequence, type, value FROM outbox WHERE license_id = $1 ORDER BY id", LICENSE
            )
            links = await connection.fetch(
                "SELECT entry, previous_sha256, entry_sha256 FROM audit WHERE license_id = $1", LICENSE
            )
        finally:
            await connection.close()
        return Recorded(
            events=[tuple(event) for event in events],
            audit={link["previous_sha256"]: AuditEntry(**link) for link in links},
        )
