"""From a raw record to a command and the address of its asker, or to the reason why nobody can read it.

Headers: `cid` (16 bytes, the command id) and `rp` (2 bytes, the asker's reply partition) are binary and never decoded;
commands of other workers carry no `rp` and get no reply. Any other header must be text. Not judged here: the record
key (another key than the license id is harmless: versions in the database keep the order) and the range of `rp`.
"""

from dataclasses import dataclass
from typing import Final

from shared.contracts.codec import decode_envelope
from shared.contracts.replies import ReplyAddress
from shared.contracts.topics import HEADER_COMMAND_ID, HEADER_REPLY_PARTITION
from shared.errors import InvalidRecordError
from shared.kafka import ConsumedRecord
from workers.license.case_file import ReceivedCommand
from workers.runtime.record_headers import headers_of, require_text

COMMAND_ID_BYTES: Final = 16
REPLY_PARTITION_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Arrival:
    """One record as it came: the command in it or why it is none, and who asked as far as that can be read."""

    record: ConsumedRecord
    content: ReceivedCommand | InvalidRecordError
    address: ReplyAddress | None


def read_record(record: ConsumedRecord, now_ms: int) -> Arrival:
    """Return what `record` holds; `now_ms` (since 1970) tells its age. Never raises: a record stops no partition."""
    try:
        command_id, partition = _read_headers(record)
    except InvalidRecordError as error:
        return Arrival(record, error, _salvaged_address(record))
    address = None if command_id is None or partition is None else ReplyAddress(command_id, partition)
    try:
        envelope, payload_sha256 = decode_envelope(record.value)
    except InvalidRecordError as error:
        return Arrival(record, error, address)
    except Exception as error:  # noqa: BLE001 - a record that our reader trips over must not stop its partition
        return Arrival(record, InvalidRecordError("reader_fault", type(error).__name__), address)
    if command_id is not None and command_id != envelope.command_id.bytes:
        return Arrival(record, InvalidRecordError("header", "cid is not the command id of the envelope"), address)
    age_ms = max(0, now_ms - record.timestamp)
    return Arrival(record, ReceivedCommand(envelope, payload_sha256, age_ms, address), address)


def _read_headers(record: ConsumedRecord) -> tuple[bytes | None, int | None]:
    command_id: bytes | None = None
    partition: int | None = None
    for name, value in headers_of(record):
        if name == HEADER_COMMAND_ID:
            if command_id is not None:
                raise InvalidRecordError("header", "cid stands there twice")
            command_id = _sized(name, value, COMMAND_ID_BYTES)
        elif name == HEADER_REPLY_PARTITION:
            if partition is not None:
                raise InvalidRecordError("header", "rp stands there twice")
            partition = int.from_bytes(_sized(name, value, REPLY_PARTITION_BYTES), "big")
        else:
            require_text(name, value)
    if partition is not None and command_id is None:
        raise InvalidRecordError("header", "rp without cid: nobody can be told")
    return command_id, partition


def _sized(name: str, value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise InvalidRecordError("header", f"{name} has {len(value)} bytes, not {size}")
    return value


def _salvaged_address(record: ConsumedRecord) -> ReplyAddress | None:
    """Return the asker of a record with bad headers, when `cid` and `rp` themselves are whole and unambiguous."""
    ids = [value for name, value in record.headers if name == HEADER_COMMAND_ID]
    partitions = [value for name, value in record.headers if name == HEADER_REPLY_PARTITION]
    match ids, partitions:
        case [bytes() as command_id], [bytes() as partition]:
            if len(command_id) == COMMAND_ID_BYTES and len(partition) == REPLY_PARTITION_BYTES:
                return ReplyAddress(command_id, int.from_bytes(partition, "big"))
        case _:
            pass
    return None
