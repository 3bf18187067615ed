"""Logs as one JSON object per line, with nothing secret in them.

`event` is a dotted past fact (`license.command.dead_lettered`); everything else is a field. A field passes only when
its name stands in `ALLOWED_FIELDS`; any other becomes its type, length and the start of its SHA-256, so that a slip
shows up as a fingerprint and never as a password, a license body or activation data. Texts of foreign exceptions are
not written either (drivers quote values): their class and place are.
"""

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from hashlib import sha256
from typing import BinaryIO, cast
from uuid import UUID

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from shared.errors import KeywayError

TEXT_LENGTH_MAX = 500
DEPTH_MAX = 4
ITEMS_MAX = 50
FRAMES_MAX = 8
INTEGER_MAX = 2**63 - 1
LIBRARY_LINES_PER_SECOND_MAX = 10
EVENT_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")

ALLOWED_FIELDS = frozenset(
    (
        # which thing it is about
        *(
            "account",
            "provider_account",
            "license_id",
            "product",
            "role",
            "username_known",
            "kid",
            "catalog_version",
            "migration",
        ),
        *("command_id", "correlation_id", "causation_id", "event_id", "event_type", "command_type", "sequence"),
        *("topic", "partition", "partitions", "offset", "group", "reply_partition", "slot", "generation", "member"),
        *("process", "name", "pid", "host", "port", "address", "path", "route", "method", "check", "dependency"),
        # what happened
        *("status", "http_status", "code", "reason", "detail", "error_class", "where", "step", "phase"),
        *("state", "outcome", "signal", "logger", "message", "library", "version", "setting"),
        # how much and how long
        *("attempt", "attempts_max", "count", "left_out", "records", "commands", "lag", "watermark"),
        *("size_bytes", "bytes"),
        *("seconds", "duration_ms", "queue_age_ms", "timeout_seconds", "retry_seconds", "age_seconds"),
        *("deadline_at", "occurred_at", "day", "days"),
    )
)
"""Names of fields that may be written as they are. Add a name here only when no value under it can be a secret."""

_LIBRARY_LEVELS: Mapping[str, int] = {
    "aiokafka": logging.WARNING,  # below, it writes keys and values, and every metadata refresh
    "faststream": logging.ERROR,  # it warns at every start that topics are not auto-created
    "aiohttp.access": logging.CRITICAL,  # the gateway writes its own
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
    "asyncpg": logging.WARNING,
}


def configure_logging(level: str, process: str, *, stream: BinaryIO | None = None) -> None:
    """Send this process's log lines to `stream` (standard error when None) from `level` upward.

    `process` is written into each line. Lines of the standard library's loggers take the same way.
    """
    target = sys.stderr.buffer if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,  # before, so that bound values are redacted too
            redact,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            _process_name(process),
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", _Outlet(target))),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in tuple(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_LibraryHandler())
    root.setLevel(max(threshold, logging.INFO))
    for library, least in _LIBRARY_LEVELS.items():
        logging.getLogger(library).setLevel(max(least, threshold))


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class _Outlet:
    """Where lines go. A full disk or a reader that has gone costs the line, never the request that it tells of."""

    stream: BinaryIO

    def write(self, line: bytes) -> None:
        with suppress(OSError, ValueError):
            self.stream.write(line)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()


def redact(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Structlog processor: keep allowed fields, replace the value of every other by what it looks like."""
    clean: EventDict = {}
    for name, value in fields.items():
        if name == "event":
            clean["event"] = value if isinstance(value, str) and EVENT_NAME.fullmatch(value) else fingerprint(value)
        elif name == "exc_info":
            clean.update(_exception_fields(value))
        elif name in ALLOWED_FIELDS or isinstance(value, BaseException):
            clean[name] = _plain(value, depth=0)
        else:
            clean[_text(name)] = fingerprint(value)
    return clean


def fingerprint(value: object) -> str:
    """Return type, length and the first 8 hexadecimal digits of the SHA-256 of `value`'s text."""
    raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return f"{type(value).__name__}:{len(raw)}:{sha256(raw).hexdigest()[:8]}"


def _text(value: str) -> str:
    return value[:TEXT_LENGTH_MAX].encode("utf-8", "replace").decode("utf-8")


def _plain(value: object, *, depth: int) -> object:
    plain: object
    match value:
        case int() if not -INTEGER_MAX <= value <= INTEGER_MAX:  # JSON numbers of 64 bits
            plain = fingerprint(value)
        case None | bool() | int() | float() | UUID() | date() | datetime():
            plain = value
        case Enum():
            plain = _plain(value.value, depth=depth)
        case str():
            plain = _text(value)
        case KeywayError():
            plain = str(value)[:TEXT_LENGTH_MAX]
        case BaseException():
            plain = type(value).__name__
        case dict() if depth < DEPTH_MAX:
            plain = {_text(str(name)): _member(name, value[name], depth) for name in list(value)[:ITEMS_MAX]}
        case list() | tuple() | set() | frozenset() if depth < DEPTH_MAX:
            plain = [_plain(inner, depth=depth + 1) for inner in tuple(value)[:ITEMS_MAX]]
        case _:
            plain = fingerprint(value)
    return plain


def _member(name: object, value: object, depth: int) -> object:
    return _plain(value, depth=depth + 1) if name in ALLOWED_FIELDS else fingerprint(value)


def _exception_fields(given: object) -> EventDict:
    match given:
        case True:
            error = sys.exc_info()[1]
        case BaseException():
            error = given
        case (_, BaseException() as inner, _):
            error = inner
        case _:
            error = None
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    return {
        "error_class": type(error).__name__,
        "error": str(error)[:TEXT_LENGTH_MAX] if isinstance(error, KeywayError) else fingerprint(error),
        "where": [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _to_json(fields: EventDict, **_options: object) -> bytes:
    return orjson.dumps(fields, default=fingerprint, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


@dataclass(frozen=True, slots=True)
class _ProcessName:
    process: str

    def __call__(self, _logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
        fields["process"] = self.process
        return fields


def _process_name(process: str) -> _ProcessName:
    return _ProcessName(process)


class _LibraryHandler(logging.Handler):
    """Writes records of the standard library's loggers as our lines, at most so many a second.

    A client whose broker is gone logs without end; what is left out is counted on the next line that is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._written = 0
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        second = int(record.created)
        if second != self._second:
            self._second, self._written = second, 0
        if self._written >= LIBRARY_LINES_PER_SECOND_MAX:
            self._left_out += 1
            return
        self._written += 1
        fields: dict[str, object] = {"logger": record.name, "message": record.getMessage()}
        if self._left_out:
            fields["left_out"], self._left_out = self._left_out, 0
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        structlog.get_logger().log(record.levelno, "library.logged", **fields)
