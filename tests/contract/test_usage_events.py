"""Usage events on the wire: the example of the contract is read exactly; whatever else comes has a reason."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from shared.contracts.codec import decode_usage, encode_usage_closed, encode_usage_report
from shared.contracts.envelope import new_id
from shared.contracts.events import ClosedCounter, UsageClosedData, UsageClosedEvent
from shared.contracts.usage import ReportedUsage, UsageKey, UsageType
from shared.errors import InvalidRecordError

EXAMPLE = (
    b'{"specversion":"1.0","id":"7c1e","source":"urn:example:backup-app","type":"keyway.usage.increment",'
    b'"subject":"ka:00502001","time":"2027-03-01T03:59:00Z","datacontenttype":"application/json",'
    b'"data":{"account":"ka","license":"00502001","counter":"sentGigabytes","value":3}}'
)


def changed(inside: dict[str, Any] | None = None, /, **members: Any) -> bytes:
    document = json.loads(EXAMPLE)
    document["data"].update(inside or {})
    document.update(members)
    return json.dumps(document).encode()


def test_the_example_is_read() -> None:
    event, digest = decode_usage(EXAMPLE)

    assert event == ReportedUsage(
        key=UsageKey("urn:example:backup-app", "7c1e"),
        type=UsageType.INCREMENT,
        account="ka",
        number="00502001",
        counter="sentGigabytes",
        value=Decimal(3),
        at=datetime(2027, 3, 1, 3, 59, tzinfo=UTC),
    )
    assert digest.hex() == "5e201b108b97515207e006d19d978c80c92507d66b7db71a8b7a08dc56407e06"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", "0.1"),
        ("9007199254740991", "9007199254740991"),
        ("18446744073709551617", "18446744073709551617"),
        ("1.000000000000000000000000000001", "1.000000000000000000000000000001"),
        ("1e2", "100"),
        ("-0.0", "0"),
    ],
)
def test_numbers_are_read_exactly(text: str, value: str) -> None:
    event, _ = decode_usage(EXAMPLE.replace(b'"value":3', b'"value":' + text.encode()))

    assert event.value == Decimal(value)


@pytest.mark.parametrize(
    "same",
    [
        changed(subject="ka:99999999"),
        changed({"value": 3.0}),
        changed(time="2027-03-01T04:59:00+01:00"),
        changed(extension="x"),
        changed({"comment": "x"}),
    ],
)
def test_the_same_content_in_other_words_is_the_same(same: bytes) -> None:
    assert decode_usage(same) == decode_usage(EXAMPLE)


@pytest.mark.parametrize(
    "other",
    [
        changed({"value": 4}),
        changed({"license": "00502002"}),
        changed({"account": "kb"}),
        changed({"counter": "receivedGigabytes"}),
        changed(time="2027-03-01T03:59:00.000001Z"),
        changed(type="keyway.usage.level"),
    ],
)
def test_another_content_is_another(other: bytes) -> None:
    assert decode_usage(other)[1] != decode_usage(EXAMPLE)[1]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not_json"),
        (b"", "not_json"),
        (b"[]", "not_json"),
        (b"\xff\xfe{}", "not_json"),
        (b"[" * 100_000, "not_json"),
        (EXAMPLE[:-2], "not_json"),
        (EXAMPLE.replace(b":3}", b":NaN}"), "not_json"),
        (EXAMPLE.replace(b":3}", b":-Infinity}"), "not_json"),
        (EXAMPLE.replace(b":3}", b":" + b"9" * 5000 + b"e99999999999999999999}"), "not_json"),
        (changed(specversion="0.3"), "version"),
        (changed(specversion=1), "version"),
        (changed(type="keyway.usage.peak"), "unknown_type"),
        (changed(type=["keyway.usage.level"]), "unknown_type"),
        (changed(id=""), "payload"),
        (changed(id=7), "payload"),
        (changed(id="x" * 501), "payload"),
        (changed(source=None), "payload"),
        (changed(data=None), "payload"),
        (changed(data=[1]), "payload"),
        (changed({"value": "3"}), "payload"),
        (changed({"value": True}), "payload"),
        (changed({"value": None}), "payload"),
        (changed({"account": "KA"}), "payload"),
        (changed({"license": 502001}), "payload"),
        (changed({"license": "00502001x"}), "payload"),
        (changed({"counter": ""}), "payload"),
        (changed({"counter": "\ud800"}), "payload"),
        (changed(time="2027-03-01"), "payload"),
        (changed(time="2027-03-01T03:59:00"), "payload"),
        (changed(time="0001-01-01T00:00:00+14:00"), "payload"),
        (changed(time=1803873540), "payload"),
    ],
)
def test_whatever_else_comes_has_a_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(InvalidRecordError) as refused:
        decode_usage(value)

    assert refused.value.reason == reason


def test_the_report_is_written_as_the_protocol_page_shows_it() -> None:
    figures = {"storedGigabytes": 118, "protectedServers": 3}

    assert encode_usage_report(figures) == (
        b'{"version":"isv-reportable-1","usage":{"storedGigabytes":118,"protectedServers":3}}'
    )


def test_a_closed_month_is_told_as_a_cloud_event() -> None:
    counter = ClosedCounter(counter="sentGigabytes", kind="increment", value="3.5", units=4, licenses=1, adjustment="0")
    event = UsageClosedEvent(
        event_id=new_id(),
        time=datetime(2027, 3, 1, 4, tzinfo=UTC),
        data=UsageClosedData(account="ka", product="CloudTransfer", month="2027-02", counters=(counter,)),
    )

    document = json.loads(encode_usage_closed(event))

    assert document == {
        "specversion": "1.0",
        "id": str(event.event_id),
        "source": "keyway",
        "type": "keyway.usage.closed",
        "subject": "ka:CloudTransfer:2027-02",
        "time": "2027-03-01T04:00:00Z",
        "datacontenttype": "application/json",
        "data": {
            "account": "ka",
            "product": "CloudTransfer",
            "month": "2027-02",
            "counters": [
                {
                    "counter": "sentGigabytes",
                    "kind": "increment",
                    "value": "3.5",
                    "units": 4,
                    "licenses": 1,
                    "adjustment": "0",
                }
            ],
        },
    }
