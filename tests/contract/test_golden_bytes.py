"""Bytes of every version ever written stay readable and, for the present version, stay what is written.

The files in `golden/` are never edited. A new version adds files; a test that needs one changed has found a break.
"""

from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import orjson
import pytest

from shared.contracts.bells import OrderBell, SweepBell
from shared.contracts.codec import (
    decode_envelope,
    decode_provider_request,
    encode_envelope,
    encode_event,
    encode_provider_request,
    encode_sweep_request,
)
from shared.contracts.commands import (
    BodyDigest,
    LicenseCommand,
    LicensingModel,
    PurchaseLicense,
    RecordActivation,
    RenewLicense,
    ReportUsage,
    ResumeLicense,
    SuspendLicense,
    TerminateLicense,
    UpgradeLicense,
)
from shared.contracts.envelope import Envelope, day_of
from shared.contracts.events import EventType, KeyEventData, LicenseEventData, PublicEvent
from shared.contracts.identifiers import CommandId, LicenseId
from shared.contracts.key_commands import (
    ConvertToEdition,
    CreateKey,
    Edition,
    Idempotency,
    KeyMember,
    KeyMembers,
    KeyReference,
    ModifyKey,
    PlanKey,
    ReinstateSus,
    RenewKey,
    RenewSus,
    SetRemainingActivations,
    TerminateKey,
    WantedActivation,
    WantedItem,
)
from shared.contracts.replies import Reply, ReplyStatus, encode_frame, pack_frames, unpack_frames
from shared.contracts.requests import IntakeType, RequestReference
from shared.errors import InvalidRecordError
from workers.license.sheet import UNSENT

GOLDEN = Path(__file__).parent / "golden"
COMMAND_ID = CommandId(UUID("01a1f0d7-9c40-7abc-8def-0123456789ab"))
CAUSE = UUID("01a1f0d7-0000-7000-8000-000000000001")
REQUEST = RequestReference(source="urn:example:billing", id="7c1e", type=IntakeType.SUSPEND)
DIGEST = BodyDigest(sha256=sha256(b"an earlier body").hexdigest(), length_bytes=15)

COMMANDS: dict[str, LicenseCommand] = {
    "purchase_license": PurchaseLicense(
        account="ka",
        number="00481516",
        product="Bronze",
        model=LicensingModel.STANDARD,
        test=False,
        expires_on=date(2027, 3, 15),
        activation_data='{"ip": "192.0.2.7"} äöü',
        unknown_fields=("X_NEW",),
    ),
    "renew_license": RenewLicense(
        account="ka",
        number="00481516",
        product="Bronze",
        model=LicensingModel.STANDARD,
        test=None,
        expires_on=date(2027, 4, 15),
        start_on=date(2027, 3, 15),
        subscription_on=date(2027, 1, 1),
        purchase_on=date(2026, 12, 31),
        previous_body=DIGEST,
    ),
    "upgrade_license": UpgradeLicense(
        account="ka", number="00481516", product="Silver", model=LicensingModel.STANDARD, test=True
    ),
    "terminate_license": TerminateLicense(
        account="ka", number="00481516", product="Silver", test=False, terminated_on=date(2027, 3, 20)
    ),
    "report_usage-2": ReportUsage(
        account="ka", number="00481516", product="CloudBackup", test=False, reg_name="Acme", usage_ends=(0, 17)
    ),
    "suspend_license": SuspendLicense(account="ka", number="00481516"),
    "resume_license": ResumeLicense(account="ka", number="00481516"),
    "record_activation": RecordActivation(
        account="ka", number="00481516", seen_at=datetime(2027, 3, 1, 3, 59, tzinfo=UTC)
    ),
    "create_key": CreateKey(
        account="partner",
        number="20240317",
        asked_by="partner",
        members=KeyMembers(
            given=(KeyMember.ITEMS,),
            items=(WantedItem(item="PLESK-12-WEB-ADMIN-1M", external_id="S-1", external_id_given=True),),
        ),
        return_state=True,
        idempotency=Idempotency(key="order-7", body_sha256=DIGEST.sha256),
    ),
    "modify_key": ModifyKey(
        account="ka",
        number="00481516",
        asked_by="partner",
        members=KeyMembers(
            given=tuple(KeyMember),
            owner_id="10002",
            guard=KeyReference(key_id=10000001, key_number="PLSK.10000001.0000", activation_code="QK10A7-ZZ81MM"),
            parent=None,
            activation=WantedActivation(uid="ops@example.org"),
            address=None,
            restrict_address=False,
            nickname=None,
            configuration_id=None,
            items=None,
            terminated=False,
            suspended=True,
            auto_renew=False,
        ),
    ),
    "terminate_key": TerminateKey(account="partner", number="20240317", asked_by="partner", return_state=True),
    "renew_key": RenewKey(account="partner", number="20240317", asked_by="partner"),
    "renew_sus": RenewSus(account="partner", number="20240317", asked_by="partner"),
    "reinstate_sus": ReinstateSus(account="partner", number="20240317", asked_by="partner", external_id="S-2"),
    "convert_to_edition": ConvertToEdition(
        account="partner", number="20240317", asked_by="partner", edition=Edition.WEB_HOST
    ),
    "set_remaining_activations": SetRemainingActivations(
        account="partner", number="20240317", asked_by="partner", remaining=0
    ),
    "plan_key": PlanKey(
        account="partner",
        number="20240317",
        asked_by="partner",
        members=KeyMembers(given=(KeyMember.NICKNAME,), nickname=None),
    ),
}


def envelope(command: LicenseCommand) -> Envelope:
    purchased = command.type == "purchase_license"
    return Envelope(
        command_id=COMMAND_ID,
        correlation_id=COMMAND_ID,
        causation_id=None if purchased else CAUSE,
        command=command,
        deadline_at=datetime(2027, 2, 5, 9, 30, 25, 500_000, UTC) if purchased else None,
        occurred_at=datetime(2027, 2, 5, 9, 30, tzinfo=UTC),
        request=REQUEST if command.type == "suspend_license" else None,
    )


REPLIES = {
    "license_body": Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15", b"eyJhbGciOiJFZERTQSJ9.e30.c2ln", 17),
    "terminated": Reply(ReplyStatus.TERMINATED, b"", b"", 0),
    "already_terminated": Reply(ReplyStatus.ALREADY_TERMINATED, b"", b"", 1),
    "tombstone_recorded": Reply(ReplyStatus.TOMBSTONE_RECORDED, b"", b"", 2),
    "expired": Reply(ReplyStatus.EXPIRED, b"", b"", 4_294_967_295),
    "unreadable": Reply(ReplyStatus.UNREADABLE, b"", b"", 0),
    "rejected": Reply(ReplyStatus.REJECTED, b"expiry_earlier", b'{"expires_on":"2027-03-15"}', 3),
}
LATER_REPLIES = {
    "key_state": Reply(ReplyStatus.KEY_STATE, b"20240317", b'{"ownerId":"10001"}', 4),
    "usage_told": Reply(
        ReplyStatus.USAGE_TOLD, b"", b'{"version":"isv-reportable-1","usage":{"storedGigabytes":118}}', 5
    ),
}
"""Of statuses that came after `reply-v1-record.bin` was written."""

EVENT = PublicEvent(
    event_id=UUID("01a1f0d7-9c41-7000-8000-00000000000a"),
    type=EventType.RENEWED,
    subject=LicenseId("ka:00481516"),
    time=datetime(2027, 3, 5, 2, 0, 0, 120_000, UTC),
    sequence=2,
    data=LicenseEventData(
        license="00481516",
        account="ka",
        product="Bronze",
        status="active",
        expires_on=date(2027, 4, 15),
        revision=2,
        test=False,
        nfr=False,
    ),
)


MODIFIED = PublicEvent(
    event_id=UUID("01a1f0d7-9c41-7000-8000-00000000000b"),
    type=EventType.MODIFIED,
    subject=LicenseId("partner:20240401"),
    time=datetime(2027, 3, 5, 2, 0, 0, 120_000, UTC),
    sequence=3,
    data=KeyEventData(
        license="20240401",
        account="partner",
        product="360-MON-1M",
        status="active",
        expires_on=date(2027, 4, 15),
        revision=2,
        test=False,
        nfr=False,
        key_id=20240401,
        owner="10001",
        nickname="eu-7",
        address="2001:db8::17",
        auto_renew=False,
        parent=LicenseId("partner:20240317"),
        operations=("UPGRADE", "IPBIND", "PARENT", "NICKNAME", "AUTORENEW"),
    ),
)


@pytest.mark.parametrize("name", COMMANDS)
def test_envelope_v1_is_written_and_read_as_ever(name: str) -> None:
    golden = (GOLDEN / f"envelope-v1-{name}.json").read_bytes()

    assert encode_envelope(envelope(COMMANDS[name])) == golden
    assert decode_envelope(golden)[0] == envelope(COMMANDS[name])


def test_a_command_written_before_a_member_was_added_is_read_as_ever() -> None:
    golden = (GOLDEN / "envelope-v1-report_usage.json").read_bytes()

    assert decode_envelope(golden)[0].command == ReportUsage(
        account="ka", number="00481516", product="CloudBackup", test=False, reg_name="Acme"
    )


def test_payload_hash_v1_is_as_ever() -> None:
    golden = (GOLDEN / "envelope-v1-purchase_license.json").read_bytes()
    payload = orjson.loads(golden)["payload"]
    reordered = orjson.dumps({**orjson.loads(golden), "payload": dict(reversed(payload.items()))})

    digest = decode_envelope(golden)[1]

    assert digest.hex() == (GOLDEN / "payload-sha256-v1-purchase_license.txt").read_text().strip()
    assert decode_envelope(reordered)[1] == digest


def test_result_day_comes_from_the_command_id() -> None:
    assert day_of(COMMAND_ID) == date(2026, 11, 18)


@pytest.mark.parametrize("name", REPLIES | LATER_REPLIES)
def test_reply_frame_v1_is_written_and_read_as_ever(name: str) -> None:
    golden = (GOLDEN / f"reply-v1-{name}.bin").read_bytes()
    reply = (REPLIES | LATER_REPLIES)[name]

    assert b"".join(pack_frames([encode_frame(COMMAND_ID.bytes, reply)])) == golden
    assert list(unpack_frames(golden)) == [(COMMAND_ID.bytes, reply)]


def test_every_reply_status_that_is_sent_has_golden_bytes() -> None:
    assert {reply.status for reply in (REPLIES | LATER_REPLIES).values()} == set(ReplyStatus) - UNSENT


def test_many_replies_share_a_record() -> None:
    golden = (GOLDEN / "reply-v1-record.bin").read_bytes()

    assert b"".join(pack_frames([encode_frame(COMMAND_ID.bytes, reply) for reply in REPLIES.values()])) == golden
    assert [reply for _, reply in unpack_frames(golden)] == list(REPLIES.values())


def test_event_v1_is_written_as_ever() -> None:
    assert encode_event(EVENT) == (GOLDEN / "event-v1-renewed.json").read_bytes()
    assert encode_event(MODIFIED) == (GOLDEN / "event-v1-modified.json").read_bytes()


def test_bells_v1_are_written_and_read_as_ever() -> None:
    order, sweep = ((GOLDEN / f"bell-v1-{name}.json").read_bytes() for name in ("order", "sweep"))

    assert (encode_provider_request(CAUSE), encode_sweep_request(CAUSE)) == (order, sweep)
    assert decode_provider_request(order) == OrderBell(CAUSE)
    assert decode_provider_request(sweep) == SweepBell(CAUSE)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"version":2,"sweep_id":"01a1f0d7-0000-7000-8000-000000000001"}', "version"),
        (b'{"version":1,"sweep_id":"all"}', "payload"),
        (b'{"version":1,"sweep_id":null}', "payload"),
        (b'{"version":1}', "payload"),
        (b"[]", "not_json"),
    ],
)
def test_a_bell_that_names_nothing_is_a_dead_letter(value: bytes, reason: str) -> None:
    with pytest.raises(InvalidRecordError) as refused:
        decode_provider_request(value)

    assert refused.value.reason == reason


def test_members_that_nobody_knows_are_ignored() -> None:
    document = orjson.loads((GOLDEN / "envelope-v1-renew_license.json").read_bytes())
    document["shade"] = "mauve"
    document["payload"]["shade"] = "mauve"

    assert decode_envelope(orjson.dumps(document))[0] == envelope(COMMANDS["renew_license"])


def test_higher_version_is_for_a_newer_reader() -> None:
    document = orjson.loads((GOLDEN / "envelope-v1-renew_license.json").read_bytes())

    with pytest.raises(InvalidRecordError) as refused:
        decode_envelope(orjson.dumps(document | {"version": 2}))

    assert refused.value.reason == "version"


def test_frame_cut_short_is_refused_after_the_whole_ones() -> None:
    golden = (GOLDEN / "reply-v1-record.bin").read_bytes()
    seen = []

    with pytest.raises(InvalidRecordError):  # noqa: PT012 - what was read before the fault counts too
        for _, reply in unpack_frames(golden[:-3]):
            seen.append(reply)

    assert seen == list(REPLIES.values())[:-1]
