"""Replies: what the asker of a command learns, and their binary frames on `license.replies`.

A reply is stored with its command id in the transaction of its effect; what is sent, first or again, is that row.

Frame: `correlation id (16) | status (2) | queue age in ms (4) | meta length (2) | meta | body`, integers big-endian.
A record holds one or more frames, each preceded by its length (4). Meta and body by status:

| status | meta | body |
|---|---|---|
| `LICENSE_BODY` | last day, `YYYY-MM-DD` | the license body, raw bytes |
| `USAGE_TOLD` | empty | the report, JSON |
| `REJECTED` | rejection code | JSON object of the details that its text names |
| `KEY_STATE` | key id, digits | the full key structure as JSON when asked for, else empty; of `PlanKey` the plan |
| all others | empty | empty |
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from shared.contracts.outcomes import RejectionCode
from shared.errors import InvalidRecordError

FRAME_HEAD = struct.Struct(">16sHIH")
LENGTH = struct.Struct(">I")
RECORD_LIMIT_BYTES = 262_144
"""A batch's replies to one gateway are split into records of at most this size (a single larger frame stands alone)."""


class ReplyStatus(IntEnum):
    """The kinds of reply; numbers are for ever."""

    LICENSE_BODY = 1
    TERMINATED = 2
    ALREADY_TERMINATED = 3
    TOMBSTONE_RECORDED = 4
    PENDING = 5
    """Stored, never sent: the command waits for a provider and is answered later."""
    IN_LINE = 7
    """Not even stored as a result: the command stands in line and is remembered there."""
    NOTED = 6
    """Stored, never sent: a command of our own roles, which nobody waits for."""
    EXPIRED = 8
    """The deadline had passed before work began: nothing was changed."""
    UNREADABLE = 9
    """The command could not be read; it is a dead letter."""
    USAGE_TOLD = 10
    REJECTED = 16
    KEY_STATE = 32
    """A command of the Partner API was carried out, or found nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlan:
    """What a modification of a key would do (dry run): nothing was carried out."""

    operations: tuple[str, ...]
    """In order of execution; empty when operations conflict."""
    conflicts: tuple[str, ...]
    """Pairs that exclude each other, as the refusal would name them."""
    refusal: RejectionCode | None = None
    """Why it would be refused as things are."""
    details: Mapping[str, str] = field(default_factory=dict)
    """What the refusal names."""


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """Who waits for a reply, and on which partition of `license.replies`."""

    correlation_id: bytes
    partition: int


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply as the gateway sees it; `meta` and `body` as the module's table says."""

    status: ReplyStatus
    meta: bytes
    body: bytes
    queue_age_ms: int = 0
    """How long the command waited between publishing and the worker."""


def encode_frame(correlation_id: bytes, reply: Reply) -> bytes:
    """Return the frame of `reply` for the 16-byte `correlation_id`."""
    head = FRAME_HEAD.pack(correlation_id, reply.status, min(reply.queue_age_ms, 0xFFFF_FFFF), len(reply.meta))
    return head + reply.meta + reply.body


def pack_frames(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Yield record values that hold `frames` in order, split at `RECORD_LIMIT_BYTES`."""
    gathered: list[bytes] = []
    size = 0
    for frame in frames:
        if gathered and size + LENGTH.size + len(frame) > RECORD_LIMIT_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
        gathered += (LENGTH.pack(len(frame)), frame)
        size += LENGTH.size + len(frame)
    if gathered:
        yield b"".join(gathered)


def unpack_frames(value: bytes) -> Iterator[tuple[bytes, Reply]]:
    """Yield `(correlation id, reply)` for every frame of a record value.

    Raises `InvalidRecordError` at the first frame that is cut short or of unknown status; what came before stands.
    """
    position = 0
    while position < len(value):
        start = position + LENGTH.size
        if start > len(value):
            raise InvalidRecordError("reply_frame", f"length cut short at byte {position}")
        (length,) = LENGTH.unpack_from(value, position)
        end = start + length
        if length < FRAME_HEAD.size or end > len(value):
            raise InvalidRecordError("reply_frame", f"frame of {length} bytes at byte {position} does not fit")
        yield _decode_frame(value, start, end)
        position = end


def _decode_frame(value: bytes, start: int, end: int) -> tuple[bytes, Reply]:
    correlation_id, status, queue_age_ms, meta_length = FRAME_HEAD.unpack_from(value, start)
    meta_at = start + FRAME_HEAD.size
    body_at = meta_at + meta_length
    if body_at > end:
        raise InvalidRecordError("reply_frame", f"meta of {meta_length} bytes at byte {start} does not fit")
    try:
        known = ReplyStatus(status)
    except ValueError:
        raise InvalidRecordError("reply_frame", f"unknown status {status}") from None
    return correlation_id, Reply(known, value[meta_at:body_at], value[body_at:end], queue_age_ms)
