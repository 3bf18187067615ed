"""Public requests, read without any machine: what each becomes, and what nobody can read."""

from datetime import UTC, date, datetime
from typing import Any

import orjson
import pytest

from shared.contracts.codec import decode_envelope, encode_envelope
from shared.contracts.commands import RecordActivation, ResumeLicense, SuspendLicense, TerminateLicense
from shared.contracts.envelope import Envelope, cause_of_request, command_id_of_request, day_of
from shared.contracts.requests import IntakeType, RequestReference
from shared.errors import InvalidRecordError
from workers.intake.translate import translate

REQUEST: dict[str, Any] = {
    "specversion": "1.0",
    "id": "7c1e",
    "source": "urn:example:billing",
    "type": "keyway.license.suspend",
    "subject": "somebody:else",
    "time": "2027-03-01T05:59:00+02:00",
    "data": {"account": "ka", "license": "00481516"},
}


def read(**changes: Any) -> Any:
    return translate(orjson.dumps({name: value for name, value in (REQUEST | changes).items() if value is not ...}))


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("suspend", SuspendLicense(account="ka", number="00481516")),
        ("resume", ResumeLicense(account="ka", number="00481516")),
        ("terminate", TerminateLicense(account="ka", number="00481516", product=None, test=None)),
        (
            "activated",
            RecordActivation(account="ka", number="00481516", seen_at=datetime(2027, 3, 1, 3, 59, tzinfo=UTC)),
        ),
    ],
)
def test_each_type_becomes_its_command_for_the_license_that_the_data_name(kind: str, command: object) -> None:
    request = read(type=f"keyway.license.{kind}")

    assert request.command == command
    assert request.reference == RequestReference(
        source="urn:example:billing", id="7c1e", type=IntakeType(f"keyway.license.{kind}")
    )
    assert request.license_id == "ka:00481516"


def test_every_type_has_a_command() -> None:
    assert {read(type=kind.value).reference.type for kind in IntakeType} == set(IntakeType)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"specversion": "0.3"}, "version"),
        ({"specversion": ...}, "version"),
        ({"id": ...}, "envelope"),
        ({"id": ""}, "envelope"),
        ({"id": 7}, "envelope"),
        ({"source": "x" * 1001}, "envelope"),
        ({"source": "é" * 501}, "envelope"),
        ({"id": "a\nb"}, "envelope"),
        ({"time": "yesterday"}, "envelope"),
        ({"time": "2027-03-01T05:59:00"}, "envelope"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "envelope"),
        ({"time": 0}, "envelope"),
        ({"type": "keyway.license.issued"}, "unknown_type"),
        ({"data": ...}, "payload"),
        ({"data": []}, "payload"),
        ({"data": ..., "data_base64": "e30="}, "payload"),
        ({"datacontenttype": "text/plain"}, "payload"),
        ({"data": {"account": "ka"}}, "payload"),
        ({"data": {"account": "KA", "license": "1"}}, "payload"),
        ({"data": {"account": "ka", "license": "12345678901"}}, "payload"),
        ({"data": {"account": "ka", "license": 1}}, "payload"),
        ({"data": {"account": "ka", "license": "\u0661"}}, "payload"),
    ],
)
def test_what_nobody_can_read_has_a_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRecordError) as refused:
        read(**changes)

    assert refused.value.reason == reason


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"\xff", b'"x"', b"[" * 100_000])
def test_what_is_no_object_has_a_reason(value: bytes | None) -> None:
    with pytest.raises(InvalidRecordError) as refused:
        translate(value)

    assert refused.value.reason == "not_json"


def test_the_content_is_what_decides_and_not_how_it_was_written() -> None:
    plain = read().content_sha256

    assert read(time="2027-03-09T00:00:00Z", subject="x", shade="mauve").content_sha256 == plain
    assert read(data={"license": "00481516", "account": "ka", "more": 1}).content_sha256 == plain
    assert read(type="keyway.license.resume").content_sha256 != plain
    assert read(data={"account": "ka", "license": "481516"}).content_sha256 != plain


def test_ids_of_a_request_come_from_its_source_and_id_and_the_day_from_its_first_arrival() -> None:
    first = datetime(2027, 3, 1, 23, 59, 59, tzinfo=UTC)
    made = command_id_of_request("urn:a", "1", first)

    assert made == command_id_of_request("urn:a", "1", first)
    assert (made.version, day_of(made)) == (7, date(2027, 3, 1))
    assert len({made, command_id_of_request("urn:a1", "", first), command_id_of_request("urn:", "a1", first)}) == 3
    assert cause_of_request("urn:a", "1") == cause_of_request("urn:a", "1") != cause_of_request("urn:", "a1")


def test_an_envelope_carries_its_request_and_older_ones_have_none() -> None:
    request = read()
    command_id = command_id_of_request(*request.key, datetime(2027, 3, 1, tzinfo=UTC))
    envelope = Envelope(
        command_id=command_id,
        correlation_id=command_id,
        causation_id=cause_of_request(*request.key),
        command=request.command,
        deadline_at=None,
        occurred_at=datetime(2027, 3, 1, tzinfo=UTC),
        request=request.reference,
    )
    value = encode_envelope(envelope)
    without = {name: member for name, member in orjson.loads(value).items() if name != "request"}

    assert decode_envelope(value)[0] == envelope
    assert decode_envelope(orjson.dumps(without))[0].request is None
    for broken in ({}, {"source": "x", "id": "1", "type": "keyway.license.explode"}, "x"):
        with pytest.raises(InvalidRecordError):
            decode_envelope(orjson.dumps(without | {"request": broken}))
