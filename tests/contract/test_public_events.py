"""Public events are CloudEvents 1.0 that the ordinary library reads, and tell what the interface promises."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

from shared.contracts.codec import encode_event
from shared.contracts.events import EventType
from shared.domain.license import evolve
from shared.domain.publication import public_event
from tests.builders import a_license, a_purchase, a_terminate, decided

EVENT_ID = UUID("018f0000-0000-7000-8000-000000000001")


def test_the_library_reads_an_event_as_it_was_meant() -> None:
    (issued,) = decided(None, a_purchase()).events
    value = encode_event(public_event(issued, evolve(None, issued), EVENT_ID))

    event = from_kafka_event(
        KafkaMessage(headers={"content-type": b"application/cloudevents+json"}, key=b"ka:00481516", value=value)
    )

    assert event.get_id() == str(EVENT_ID)
    assert event.get_source() == "keyway"
    assert event.get_type() == "keyway.license.issued"
    assert event.get_specversion() == "1.0"
    assert event.get_subject() == "ka:00481516"
    assert event.get_time() == datetime(2027, 2, 5, 9, 30, tzinfo=UTC)
    assert event.get_extension("sequence") == "1"
    assert event.get_data() == {
        "license": "00481516",
        "account": "ka",
        "product": "Bronze",
        "status": "active",
        "expires_on": "2027-03-15",
        "revision": 1,
        "test": False,
        "nfr": False,
    }


@pytest.mark.parametrize("license", [None, a_license()])
def test_the_end_of_a_license_and_of_a_number_never_issued_have_one_type(license: object) -> None:
    before = license if license is None else a_license()
    (ended,) = decided(before, a_terminate()).events

    event = public_event(ended, evolve(before, ended), EVENT_ID)

    assert event.type is EventType.TERMINATED
    assert event.data.status == "terminated"
