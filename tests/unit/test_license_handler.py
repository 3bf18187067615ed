"""The license handler on the in-memory store: repeats, redeliveries, deadlines, conflicts, poison values."""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.contracts.codec import decode_envelope, encode_envelope
from shared.contracts.commands import BodyDigest, LicenseCommand
from shared.contracts.envelope import Envelope
from shared.contracts.identifiers import CommandId, Fingerprint, LicenseId
from shared.contracts.key_commands import TerminateKey
from shared.contracts.replies import ReplyStatus
from shared.domain.body import Claims
from shared.domain.case import PastRevision, Rules
from shared.domain.decision import Alert
from shared.domain.effects import CommandEffect, Loaded, WaitingCommand
from shared.domain.usage import UsageOnFile
from shared.errors import ConflictError, StoreRefusedError, UnavailableError
from tests.builders import (
    APRIL,
    NOW,
    a_purchase,
    a_renew,
    a_terminate,
    an_envelope,
    an_upgrade,
    rules,
)
from tests.fakes.license_store import InMemoryLicenseStore
from workers.license.case_file import ReceivedCommand
from workers.license.handler import LicenseHandler
from workers.license.sheet import Handled, is_expired

pytestmark = pytest.mark.asyncio


class PlainSigner:
    """Writes the claims down: deterministic, and readable in a failed test."""

    def sign(self, claims: Claims) -> bytes:
        return repr(sorted(claims.items())).encode()


class FixedRules:
    def current(self) -> Rules:
        return rules()


@dataclass
class FixedClock:
    moment: datetime

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@dataclass
class Notes:
    outcomes: list[str] = field(default_factory=list)
    conflicts: int = 0
    committed_batches: list[int] = field(default_factory=list)

    def committed(self, effects: Sequence[CommandEffect]) -> None:
        self.committed_batches.append(len(effects))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        yield

    def command_handled(self, envelope: Envelope, outcome: str, alerts: Sequence[Alert]) -> None:
        self.outcomes.append(outcome)

    def conflict_met(self) -> None:
        self.conflicts += 1


@dataclass
class Disturbed:
    """A store in front of the real twin that fails as told, a given number of times."""

    store: InMemoryLicenseStore
    failures: list[Exception] = field(default_factory=list)
    poison_number: str = ""
    stored_batches: list[int] = field(default_factory=list)

    async def load(
        self,
        command_ids: Collection[CommandId],
        license_ids: Collection[LicenseId],
        fingerprints: Collection[Fingerprint],
    ) -> Loaded:
        return await self.store.load(command_ids, license_ids, fingerprints)

    async def load_history(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, tuple[PastRevision, ...]]:
        return await self.store.load_history(license_ids)

    async def load_line(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, tuple[WaitingCommand, ...]]:
        return await self.store.load_line(license_ids)

    async def load_usage(self, license_ids: Collection[LicenseId]) -> Mapping[LicenseId, UsageOnFile]:
        return await self.store.load_usage(license_ids)

    async def store_(self, effects: Sequence[CommandEffect]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        if any(effect.license_id.endswith(f":{self.poison_number}") for effect in effects):
            raise StoreRefusedError("a value cannot be stored")
        self.stored_batches.append(len(effects))
        await self.store.store(effects)


class Bench:
    """A handler with everything around it."""

    def __init__(self, **disturbance: object) -> None:
        self.store = InMemoryLicenseStore()
        self.notes = Notes()
        self.disturbed = Disturbed(self.store, **disturbance)  # type: ignore[arg-type]  # passed through
        self.clock = FixedClock(datetime.now(UTC))
        self.business = FixedClock(NOW)
        port = _Port(self.disturbed)
        self.handler = LicenseHandler(
            store=port,
            signer=PlainSigner(),
            rules=FixedRules(),
            observer=self.notes,
            listener=self.notes,
            business_clock=self.business,
            system_clock=self.clock,
            issuer="keyway",
        )

    async def send(self, *envelopes: Envelope) -> Sequence[Handled]:
        return await self.handler.handle([received(envelope) for envelope in envelopes])

    async def ask(self, command: LicenseCommand) -> Handled:
        (handled,) = await self.send(an_envelope(command))
        return handled


class _Port:
    """`Disturbed` under the port's method names."""

    def __init__(self, disturbed: Disturbed) -> None:
        self.load = disturbed.load
        self.load_history = disturbed.load_history
        self.load_line = disturbed.load_line
        self.load_usage = disturbed.load_usage
        self.store = disturbed.store_


def received(envelope: Envelope) -> ReceivedCommand:
    decoded, payload_sha256 = decode_envelope(encode_envelope(envelope))
    return ReceivedCommand(decoded, payload_sha256, queue_age_ms=3)


def body_of(handled: Handled) -> bytes:
    assert handled.reply is not None
    assert handled.reply.status is ReplyStatus.LICENSE_BODY
    return handled.reply.body


async def test_a_repeat_with_a_new_command_id_gets_the_same_bytes_and_no_second_event() -> None:
    bench = Bench()

    first = await bench.ask(a_purchase())
    second = await bench.ask(a_purchase(purchase_on=None))

    assert body_of(first) == body_of(second)
    assert bench.notes.outcomes == ["done", "repeated"]


async def test_twenty_purchases_of_one_number_in_one_batch_make_one_license() -> None:
    bench = Bench()

    handled = await bench.send(*[an_envelope(a_purchase()) for _ in range(20)])

    assert len({body_of(one) for one in handled}) == 1
    assert bench.notes.outcomes == ["done"] + ["repeated"] * 19


async def test_a_redelivered_command_is_answered_from_its_stored_result_even_after_its_deadline() -> None:
    bench = Bench()
    envelope = an_envelope(a_purchase())
    (first,) = await bench.send(envelope)
    await bench.ask(a_renew())
    bench.clock.moment += timedelta(hours=1)

    (again,) = await bench.send(envelope)

    assert body_of(again) == body_of(first)
    assert bench.notes.outcomes[-1] == "redelivered"


async def test_the_same_command_twice_in_one_batch_has_one_effect() -> None:
    bench = Bench()
    envelope = an_envelope(a_purchase())

    one, two = await bench.send(envelope, envelope)

    assert body_of(one) == body_of(two)
    assert bench.notes.outcomes == ["done", "redelivered"]


async def test_a_command_id_used_with_another_payload_is_set_aside() -> None:
    bench = Bench()
    envelope = an_envelope(a_purchase())
    await bench.send(envelope)

    (misused,) = await bench.send(replace(envelope, command=a_purchase(number="00481517")))

    assert misused.reply is None
    assert misused.dead_letter is not None
    assert misused.dead_letter.reason == "id_reuse"


async def test_an_overtaken_repeat_gets_the_current_body() -> None:
    bench = Bench()
    await bench.ask(a_purchase())
    renewed = await bench.ask(a_renew())

    repeat = await bench.ask(a_purchase())

    assert body_of(repeat) == body_of(renewed)


async def test_purchase_renew_upgrade_and_terminate_of_one_license_fold_in_order_within_a_batch() -> None:
    bench = Bench()

    handled = await bench.send(
        an_envelope(a_purchase()),
        an_envelope(a_renew()),
        an_envelope(an_upgrade(expires_on=APRIL)),
        an_envelope(a_terminate(product="Gold")),
        an_envelope(a_terminate(product="Gold")),
    )

    statuses = [one.reply.status for one in handled if one.reply is not None]
    body = ReplyStatus.LICENSE_BODY
    assert statuses == [body, body, body, ReplyStatus.TERMINATED, ReplyStatus.ALREADY_TERMINATED]
    assert len({body_of(one) for one in handled[:3]}) == 3


async def test_a_command_past_its_deadline_is_dropped_and_changes_nothing() -> None:
    bench = Bench()
    late = an_envelope(a_purchase(), deadline_at=bench.clock.moment - timedelta(seconds=1))

    (handled,) = await bench.send(late)
    after = await bench.ask(a_renew())

    assert handled.reply is not None
    assert handled.reply.status is ReplyStatus.EXPIRED
    assert after.reply is not None
    assert after.reply.meta == b"license_unknown"


async def test_a_termination_past_its_deadline_still_runs() -> None:
    bench = Bench()
    await bench.ask(a_purchase())

    (handled,) = await bench.send(an_envelope(a_terminate(), deadline_at=bench.clock.moment - timedelta(days=1)))

    assert handled.reply is not None
    assert handled.reply.status is ReplyStatus.TERMINATED


async def test_a_termination_of_a_key_past_its_deadline_still_runs() -> None:
    """It may have stood in line behind an order for hours; its caller was told that it is not finished yet."""
    bench = Bench()
    moment = bench.clock.moment
    delete = TerminateKey(account="ka", number="00481516", asked_by="ka")

    assert not is_expired(an_envelope(delete, deadline_at=moment - timedelta(hours=1)), moment)
    assert is_expired(an_envelope(a_purchase(), deadline_at=moment - timedelta(hours=1)), moment)


async def test_a_command_without_deadline_always_runs() -> None:
    bench = Bench()
    bench.clock.moment += timedelta(days=100)

    (handled,) = await bench.send(an_envelope(a_purchase(), deadline_at=None))

    assert body_of(handled)


async def test_a_conflict_is_read_and_decided_again() -> None:
    bench = Bench(failures=[ConflictError("version moved on")])

    handled = await bench.ask(a_purchase())

    assert body_of(handled)
    assert bench.notes.conflicts == 1
    assert bench.notes.outcomes == ["done"]


async def test_a_conflict_without_end_is_given_back_to_be_tried_later() -> None:
    bench = Bench(failures=[ConflictError("again") for _ in range(50)])

    with pytest.raises(UnavailableError):
        await bench.ask(a_purchase())

    assert bench.notes.outcomes == []


async def test_one_value_that_cannot_be_stored_is_found_and_the_others_go_on() -> None:
    bench = Bench(poison_number="00000005")
    envelopes = [an_envelope(a_purchase(number=f"{number:08}")) for number in range(16)]

    handled = await bench.send(*envelopes)

    assert [index for index, one in enumerate(handled) if one.dead_letter is not None] == [5]
    assert handled[5].dead_letter is not None
    assert handled[5].dead_letter.reason == "not_storable"
    assert sum(bench.disturbed.stored_batches) == 15


async def test_an_outage_leaves_nothing_and_the_same_batch_may_come_again() -> None:
    bench = Bench(failures=[UnavailableError("no answer")])
    envelope = an_envelope(a_purchase())

    with pytest.raises(UnavailableError):
        await bench.send(envelope)
    (handled,) = await bench.send(envelope)

    assert body_of(handled)
    assert bench.notes.outcomes == ["done"]


async def test_a_renew_with_the_body_before_a_lost_upgrade_goes_back_to_that_product() -> None:
    bench = Bench()
    bronze = await bench.ask(a_purchase())
    await bench.ask(an_upgrade())
    digest = digest_of(body_of(bronze))

    renewed = await bench.ask(a_renew(previous_body=digest))
    repeated_upgrade = await bench.ask(an_upgrade(expires_on=APRIL))
    undone = await bench.ask(an_upgrade())

    assert b"Bronze" in body_of(renewed)
    assert b"Gold" in body_of(repeated_upgrade)
    assert undone.reply is not None
    assert undone.reply.meta == b"expiry_earlier"


async def test_a_lost_upgrade_within_one_batch_is_reversed_all_the_same() -> None:
    bench = Bench()
    bronze = await bench.ask(a_purchase())

    _, renewed = await bench.send(
        an_envelope(an_upgrade()), an_envelope(a_renew(previous_body=digest_of(body_of(bronze))))
    )

    assert b"Bronze" in body_of(renewed)


def digest_of(body: bytes) -> BodyDigest:
    from hashlib import sha256

    return BodyDigest(sha256=sha256(body).hexdigest(), length_bytes=len(body))
