"""No log line tells a secret, and every line is one JSON object."""

import logging
from io import BytesIO
from typing import Any
from uuid import UUID

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UnavailableError
from shared.telemetry.logging import ALLOWED_FIELDS, LIBRARY_LINES_PER_SECOND_MAX, configure_logging, redact

CANARY = "hunter2-canary"


@pytest.fixture
def stream() -> BytesIO:
    buffer = BytesIO()
    configure_logging("INFO", "test-0", stream=buffer)
    return buffer


def written(stream: BytesIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_line_tells_what_when_where_and_its_allowed_fields(stream: BytesIO) -> None:
    command_id = UUID("018f0000-0000-7000-8000-000000000001")

    structlog.get_logger().info("license.command.handled", command_id=command_id, license_id="ka:1", attempt=2)

    (line,) = written(stream)
    assert line.pop("at").endswith("Z")
    assert line == {
        "event": "license.command.handled",
        "level": "info",
        "process": "test-0",
        "command_id": str(command_id),
        "license_id": "ka:1",
        "attempt": 2,
    }


def test_unknown_field_becomes_type_length_and_a_fingerprint(stream: BytesIO) -> None:
    structlog.get_logger().info("a.b", password=CANARY, activation_data=CANARY.encode())

    (line,) = written(stream)
    assert line["password"].startswith("str:14:")
    assert line["activation_data"].startswith("bytes:14:")
    assert CANARY.encode() not in stream.getvalue()


def test_bound_values_are_redacted_like_all_others(stream: BytesIO) -> None:
    structlog.contextvars.bind_contextvars(correlation_id="c-1", authorization=CANARY)

    structlog.get_logger().info("a.b")

    assert written(stream)[0]["correlation_id"] == "c-1"
    assert CANARY.encode() not in stream.getvalue()


def test_event_that_is_no_name_is_not_written(stream: BytesIO) -> None:
    structlog.get_logger().info(f"could not verify {CANARY}")

    assert CANARY.encode() not in stream.getvalue()


def test_foreign_exception_tells_its_class_and_place_but_not_its_text(stream: BytesIO) -> None:
    try:
        int(f"Key (data)=({CANARY}) already exists")
    except ValueError:
        structlog.get_logger().exception("a.b")

    (line,) = written(stream)
    assert line["error_class"] == "ValueError"
    assert any("test_telemetry_logging.py" in place for place in line["where"])
    assert CANARY.encode() not in stream.getvalue()


def test_our_own_errors_tell_their_text(stream: BytesIO) -> None:
    structlog.get_logger().warning("a.b", detail=UnavailableError("ping: the database does not answer"))

    assert written(stream)[0]["detail"] == "ping: the database does not answer"


def test_library_lines_take_the_same_way_from_warning_upward(stream: BytesIO) -> None:
    logging.getLogger("aiokafka.producer").info("Sending (key=%s value=%s)", "k", CANARY)
    logging.getLogger("aiokafka.conn").warning("Connection at %s lost", "127.0.0.1")

    (line,) = written(stream)
    assert (line["logger"], line["level"]) == ("aiokafka.conn", "warning")
    assert line["message"] == "Connection at 127.0.0.1 lost"


def test_a_library_that_floods_is_cut_short_each_second_and_what_was_left_out_is_told(stream: BytesIO) -> None:
    handler = logging.getLogger().handlers[0]
    for second, count in ((100.0, 50), (101.0, 1)):
        for _ in range(count):
            record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "broker gone", (), None)
            record.created = second
            handler.emit(record)

    lines = written(stream)

    assert len(lines) == LIBRARY_LINES_PER_SECOND_MAX + 1
    assert lines[-1]["left_out"] == 50 - LIBRARY_LINES_PER_SECOND_MAX


def test_least_level_is_kept(stream: BytesIO) -> None:
    structlog.get_logger().debug("a.b")

    assert written(stream) == []


def test_control_characters_cannot_forge_a_line(stream: BytesIO) -> None:
    structlog.get_logger().info("a.b", detail='x\n{"event":"forged"}\r\x00')

    assert len(written(stream)) == 1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
strange_names = st.text(min_size=1, max_size=12).filter(
    lambda name: name not in ALLOWED_FIELDS and name not in {"event", "exc_info"}
)


@given(
    st.dictionaries(
        strange_names, st.just(CANARY) | st.lists(st.just(CANARY)) | st.builds(lambda v: {"x": [v, CANARY]}, values)
    )
)
def test_nothing_under_a_name_not_allowed_is_ever_written(fields: dict[str, Any]) -> None:
    nested = {"event": "a.b", **fields, "detail": {"reason": "fine", **fields}}

    clean = redact(None, "info", dict(nested))

    assert CANARY not in str(clean)
    assert clean["detail"]["reason"] == "fine"


@given(st.dictionaries(st.sampled_from(sorted(ALLOWED_FIELDS)), values, max_size=5))
def test_whatever_is_logged_can_be_written(fields: dict[str, Any]) -> None:
    buffer = BytesIO()
    configure_logging("INFO", "test-0", stream=buffer)
    structlog.get_logger().info("a.b", **fields)

    assert len(written(buffer)) == 1


def test_line_that_cannot_be_written_is_lost_and_nothing_else(stream: BytesIO) -> None:
    stream.close()

    structlog.get_logger().info("a.b")
