"""The public contract: documents are what the code says, what is emitted fits them, nothing is taken back."""

from collections.abc import Callable
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_structured_event
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema
from jsonschema import Draft202012Validator, FormatChecker

from keyway.cli.contracts import FOLDER, documents, released_schemas
from shared.contracts.asyncapi import asyncapi_document
from shared.contracts.codec import (
    decode_usage,
    encode_attention,
    encode_event,
    encode_intake_outcome,
    encode_usage_closed,
)
from shared.contracts.compatibility import breaks
from shared.contracts.events import (
    AttentionData,
    AttentionEvent,
    ClosedCounter,
    EventType,
    IntakeOutcomeEvent,
    KeyEventData,
    LicenseEventData,
    PublicEvent,
    ShownStatus,
    UsageClosedData,
    UsageClosedEvent,
    intake_outcome_data,
)
from shared.contracts.identifiers import LicenseId
from shared.contracts.public_types import PUBLIC_TYPES, Direction, PublicType
from shared.contracts.requests import IntakeType, RequestReference
from shared.contracts.schemas import all_schemas, schema_of
from shared.contracts.topics import LICENSE_EVENTS
from shared.contracts.usage import UsageType
from shared.errors import InvalidRecordError
from tests.builders import NOW
from tests.command_line import Shell, shell
from workers.intake.translate import translate
from workers.outbox import HEADERS

__all__ = ["shell"]

SCHEMAS = all_schemas()
EVENT_ID = UUID("01a1f0d7-9c41-7000-8000-00000000000a")
SUBJECT = LicenseId("ka:00481516")
STARTED = "keyway.license.renewed"
ASKED = "keyway.license.suspend"


def faults(name: str, event: Any) -> list[str]:
    validator = Draft202012Validator(SCHEMAS[name], format_checker=FormatChecker())
    return [error.message for error in validator.iter_errors(event)]


def emitted() -> dict[str, bytes]:
    data = LicenseEventData(
        license="00481516",
        account="ka",
        product="Bronze",
        status=ShownStatus.ACTIVE,
        expires_on=date(2027, 4, 15),
        revision=2,
        test=False,
        nfr=False,
    )
    key_data = KeyEventData(
        license="20240401",
        account="partner",
        product="360-MON-1M",
        status=ShownStatus.ACTIVE,
        expires_on=date(2027, 4, 15),
        revision=2,
        test=False,
        nfr=False,
        key_id=20240401,
        owner="10001",
        nickname="",
        address=None,
        auto_renew=True,
        parent=None,
        operations=("MOVE",),
    )
    of_keys = {EventType.MOVED, EventType.MODIFIED}
    request = RequestReference(source="urn:x", id="1", type=IntakeType.SUSPEND)
    events = {
        kind.value: encode_event(
            PublicEvent(
                event_id=EVENT_ID,
                type=kind,
                subject=SUBJECT,
                time=NOW,
                sequence=2,
                data=key_data if kind in of_keys else data,
            )
        )
        for kind in EventType
        if kind.value.startswith("keyway.license.")
    }
    attention = AttentionData(
        license=None, account=None, kind="foreign_service", text="a service that we did not order"
    )
    events[EventType.ATTENTION] = encode_attention(
        AttentionEvent(event_id=EVENT_ID, subject="isplicense", time=NOW, data=attention)
    )
    counter = ClosedCounter(counter="c", kind="level", value="1.5", units=2, licenses=1, adjustment="0")
    month = UsageClosedData(account="ka", product="CloudBackup", month="2027-03", counters=(counter,))
    closed = UsageClosedEvent(event_id=EVENT_ID, time=NOW, data=month)
    events[EventType.USAGE_CLOSED] = encode_usage_closed(closed)
    for accepted in (True, False):
        outcome = IntakeOutcomeEvent(
            event_id=EVENT_ID,
            accepted=accepted,
            subject=SUBJECT,
            time=NOW,
            data=intake_outcome_data("ka", "00481516", request, "suspended"),
        )
        events[outcome.type] = encode_intake_outcome(outcome)
    return events


def test_every_type_has_its_place_in_the_contract() -> None:
    listed = {kind.name for kind in PUBLIC_TYPES}

    assert {kind.value for kind in EventType} | {kind.value for kind in IntakeType} | {
        kind.value for kind in UsageType
    } == listed


def test_committed_documents_are_what_the_code_says() -> None:
    stale = [path for path, content in documents(FOLDER).items() if not path.exists() or path.read_bytes() != content]

    assert stale == [], "run `keyway contracts write` and look at the difference"


def test_nothing_released_is_taken_back() -> None:
    released = released_schemas(FOLDER)

    assert released
    assert breaks(released, SCHEMAS) == []


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_schemas_are_schemas(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("kind", PUBLIC_TYPES, ids=lambda kind: kind.name)
def test_examples_fit_their_schemas_and_a_missing_member_does_not(kind: PublicType) -> None:
    assert faults(kind.name, kind.example) == []
    for member in schema_of(kind)["required"]:
        assert faults(kind.name, {name: value for name, value in kind.example.items() if name != member}) != []


@pytest.mark.parametrize(("name", "value"), emitted().items(), ids=emitted())
def test_what_is_emitted_fits_its_schema_and_the_cloudevents_library_reads_it(name: str, value: bytes) -> None:
    event = orjson.loads(value)

    assert faults(name, event) == []
    read = from_structured_event(
        KafkaMessage(headers={"content-type": b"application/cloudevents+json"}, key=b"ka:00481516", value=value)
    )
    assert (read.get_type(), read.get_id(), read.get_specversion()) == (name, str(EVENT_ID), "1.0")
    assert read.get_data() == event["data"]


def test_events_leave_with_the_header_that_is_promised_and_documented() -> None:
    documented = {
        example["headers"]["content-type"]
        for message in asyncapi_document()["components"]["messages"].values()
        for example in message["examples"]
    }
    assert HEADERS[LICENSE_EVENTS] == [("content-type", b"application/cloudevents+json")]
    assert documented == {"application/cloudevents+json"}


@pytest.mark.parametrize(
    "kind", [kind for kind in PUBLIC_TYPES if kind.direction is Direction.IN and "license." in kind.name]
)
def test_examples_of_requests_are_readable_and_unknown_members_are_ignored(kind: PublicType) -> None:
    plain = translate(orjson.dumps(dict(kind.example)))
    more = deepcopy(dict(kind.example)) | {"shade": "mauve"}
    more["data"] = dict(more["data"]) | {"shade": "mauve"}

    assert plain.reference.type == kind.name
    assert translate(orjson.dumps(more)) == plain
    assert faults(kind.name, more) == []


@pytest.mark.parametrize(
    "kind", [kind for kind in PUBLIC_TYPES if "usage." in kind.name and kind.direction is Direction.IN]
)
def test_examples_of_usage_are_readable(kind: PublicType) -> None:
    event, _ = decode_usage(orjson.dumps(dict(kind.example)))

    assert (event.type, event.value) == (kind.name, kind.example["data"]["value"])


@pytest.mark.parametrize("member", ["account", "license"])
def test_what_the_schema_refuses_the_reader_refuses_too(member: str) -> None:
    (kind,) = (kind for kind in PUBLIC_TYPES if kind.name == ASKED)
    event = deepcopy(dict(kind.example))
    event["data"] = {name: value for name, value in event["data"].items() if name != member}

    assert faults(ASKED, event) != []
    with pytest.raises(InvalidRecordError):
        translate(orjson.dumps(event))


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> list[str]:
    present = deepcopy(dict(SCHEMAS))
    change(present[name])
    return breaks(SCHEMAS, present)


BREAKING: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "member revision is gone": (STARTED, lambda s: s["properties"]["data"]["properties"].pop("revision")),
    "member sequence is gone": (STARTED, lambda s: s["properties"].pop("sequence")),
    "type was 'integer', is 'string'": (
        STARTED,
        lambda s: s["properties"]["data"]["properties"]["revision"].update(type="string"),
    ),
    "member color is required now": (STARTED, lambda s: s["properties"]["data"]["required"].append("color")),
    "member revision is no longer always there": (
        STARTED,
        lambda s: s["properties"]["data"]["required"].remove("revision"),
    ),
    "the value 'suspended' is gone": (
        STARTED,
        lambda s: s["properties"]["data"]["properties"]["status"]["enum"].remove("suspended"),
    ),
    "const was": (STARTED, lambda s: s["properties"]["source"].update(const="somebody")),
    "anyOf was": (STARTED, lambda s: s["properties"]["data"]["properties"]["expires_on"]["anyOf"].pop()),
    "member reason is required now": (ASKED, lambda s: s["properties"]["data"]["required"].append("reason")),
    "enum was not there": (
        ASKED,
        lambda s: s["properties"]["data"]["properties"]["account"].update(enum=["ka"]),
    ),
    "maxLength was 1000, is 10": (ASKED, lambda s: s["properties"]["id"].update(maxLength=10)),
    "additionalProperties was not there": (ASKED, lambda s: s.update(additionalProperties=False)),
}
HARMLESS: dict[str, Callable[[dict[str, Any]], object]] = {
    "an optional member": lambda s: s["properties"]["data"]["properties"].update(color={"type": "string"}),
    "another text": lambda s: s.update(description="Said better."),
    "another status": lambda s: s["properties"]["data"]["properties"]["status"]["enum"].append("paused"),
}


@pytest.mark.parametrize("sentence", BREAKING)
def test_a_breaking_change_is_refused_by_name(sentence: str) -> None:
    name, change = BREAKING[sentence]
    (found,) = changed(name, change)

    assert found.startswith(name)
    assert sentence in found


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_a_harmless_change_passes(change: Callable[[dict[str, Any]], object]) -> None:
    assert changed(STARTED, change) == []


def test_a_type_that_is_gone_breaks_and_a_new_one_does_not() -> None:
    fewer = {name: schema for name, schema in SCHEMAS.items() if name != STARTED}

    assert breaks(SCHEMAS, fewer) == [f"{STARTED}: the type is gone"]
    assert breaks(fewer, SCHEMAS) == []


def test_the_gate_of_the_build_refuses_what_is_stale_or_breaks(shell: Shell, tmp_path: Path) -> None:
    folder = ("--folder", str(tmp_path))
    assert shell.keyway("contracts", "check", *folder).status == 1
    assert shell.keyway("contracts", "write", *folder).status == 0
    assert shell.keyway("contracts", "release", *folder).status == 0
    assert shell.keyway("contracts", "check", *folder).status == 0

    file = tmp_path / "schemas" / "released" / f"{STARTED}.json"
    schema = orjson.loads(file.read_bytes())
    schema["properties"]["data"]["properties"]["color"] = {"type": "string"}
    file.write_bytes(orjson.dumps(schema))
    ran = shell.keyway("contracts", "check", *folder)

    assert ran.status == 1
    assert f"{STARTED}.data: member color is gone" in ran.err


def test_the_asyncapi_document_is_valid_and_complete() -> None:
    document = asyncapi_document()
    kafka = document["servers"]["kafka"] | {"pathname": ""}  # optional in AsyncAPI, not in this model of it
    ApplicationSchema.model_validate(document | {"servers": {"kafka": kafka}})

    messages = document["components"]["messages"]
    assert set(messages) == {kind.name for kind in PUBLIC_TYPES}
    for name, message in messages.items():
        assert message["bindings"]["kafka"]["key"]["description"]
        assert "content-type" in message["headers"]["properties"]
        assert faults(name, message["examples"][0]["payload"]) == []
    for topic, channel in document["channels"].items():
        assert channel["address"] == topic
        assert channel["messages"]
    for reference in references(document):
        assert resolved(document, reference) is not None, reference


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for part in node.values() for found in references(part)]
    if isinstance(node, list):
        return [found for part in node for found in references(part)]
    return []


def resolved(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    for step in reference.removeprefix("#/").split("/"):
        node = node.get(step)
        if node is None:
            return None
    return node
