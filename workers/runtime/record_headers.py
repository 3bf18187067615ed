"""What every reader of a topic asks of a record's headers before it looks at the value."""

from collections.abc import Iterator

from shared.errors import InvalidRecordError
from shared.kafka import ConsumedRecord
from workers.runtime.careful_consumer import HEADER_UNREADABLE


def headers_of(record: ConsumedRecord) -> Iterator[tuple[str, bytes]]:
    """Yield the headers. Raises `InvalidRecordError` at one that could not be taken apart or is null."""
    for name, value in record.headers:
        if name == HEADER_UNREADABLE:
            raise InvalidRecordError(
                "record_format", "the record could not be taken apart; its bytes are at its origin"
            )
        if value is None:
            raise InvalidRecordError("header", f"header {name[:80]!r} is null")
        yield name, value


def require_text(name: str, value: bytes) -> None:
    """Raise `InvalidRecordError` when the value of a header is no UTF-8."""
    try:
        value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRecordError("header", f"header {name[:80]!r} is not UTF-8 at byte {error.start}") from None


def require_text_headers(record: ConsumedRecord) -> None:
    """Raise `InvalidRecordError` when the record could not be taken apart, or a header is null or no UTF-8."""
    for name, value in headers_of(record):
        require_text(name, value)
