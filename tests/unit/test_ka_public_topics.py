"""The system beside KA: it writes usage that the product reads, drops copies and notices every loss."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from keyway.ka.month import Report
from keyway.ka.public_topics import Event, Story, usage_event
from shared.contracts.codec import decode_usage
from shared.contracts.usage import UsageType

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)


def an_event(sequence: object, kind: str = "renewed") -> Event:
    return {"type": f"keyway.license.{kind}", "subject": "ka:00481516", "sequence": sequence, "data": {}}


@pytest.mark.parametrize(("kind", "read_as"), [("level", UsageType.LEVEL), ("increment", UsageType.INCREMENT)])
def test_a_report_is_read_as_it_was_meant(kind: str, read_as: UsageType) -> None:
    report = Report(name="noon", kind=kind, counter="storedGigabytes", value=117.2, hours_ago=3)
    read, _ = decode_usage(usage_event(report, account="ka", number="00502001", now=NOON))
    assert (read.type, read.license_id, read.counter) == (read_as, "ka:00502001", "storedGigabytes")
    assert read.value == Decimal("117.2")
    assert read.at == NOON.replace(hour=9)


def test_the_same_report_of_another_license_is_another_event() -> None:
    report = Report(name="noon", kind="level", counter="storedGigabytes", value=1)
    keys = {
        decode_usage(usage_event(report, account="ka", number=number, now=NOON))[0].key
        for number in ("00502001", "00502002", "00502001")
    }
    assert len(keys) == 2


def test_events_in_sequence_are_taken_once_each() -> None:
    story = Story()
    for sequence in ("1", "2", "1", "2", "3"):
        story.take_in(an_event(sequence))
    assert [event["sequence"] for event in story.take()] == ["1", "2", "3"]
    assert story.take() == []
    assert (story.last, story.copies, story.faults) == (3, 2, [])


def test_a_jump_is_a_loss() -> None:
    story = Story()
    story.take_in(an_event("1"))
    story.take_in(an_event("3"))
    assert story.faults == ["event 3 came after event 1"]


@pytest.mark.parametrize("sequence", [None, 1, "", "one"])
def test_an_event_without_a_number_is_a_fault_and_never_taken_for_one(sequence: object) -> None:
    story = Story()
    story.take_in(an_event(sequence, "attention"))
    assert len(story.faults) == 1
    assert story.take() == []
