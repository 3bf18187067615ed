"""Dead letters as people work with them: read off a topic a portion at a time, and sent back where they came from."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.contracts.topics import DEAD_SUFFIX
from shared.database.dead_letter_actions import LetterPlace
from shared.errors import UnavailableError
from shared.kafka import ConsumedRecord, Headers, RecordProducer
from shared.telemetry.metrics import RetriedStep
from workers.runtime.careful_consumer import HEADER_UNREADABLE
from workers.runtime.dead_letters import ATTEMPT_DIGITS_MAX, HEADER_ATTEMPT, HEADER_ERROR, HEADER_ORIGIN, OURS
from workers.runtime.shipment import Parcel

PORTION_RECORDS_MAX = 200
PORTION_BYTES_MAX = 8 * 1024 * 1024
POLL_MS = 500
SILENT_POLLS_MAX = 60
"""Polls in a row that bring nothing although letters are left: half a minute, then the broker is away."""
ORIGIN_PARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter."""

    record: ConsumedRecord
    reason: str
    detail: str
    origin: tuple[str, int, int] | None
    """Topic, partition and offset of the record; None when the letter does not say so legibly."""
    attempt: int

    @property
    def place(self) -> LetterPlace:
        """Where it stands."""
        at = datetime.fromtimestamp(self.record.timestamp / 1000, UTC)
        return LetterPlace(topic=self.record.topic, partition=self.record.partition, offset=self.record.offset, at=at)

    @property
    def name(self) -> str:
        """How people name it: `partition/offset` on its dead-letter topic."""
        return f"{self.record.partition}/{self.record.offset}"

    @property
    def headers(self) -> Headers:
        """The headers of the original record."""
        return [(name, value) for name, value in self.record.headers if name not in OURS]

    @property
    def obstacle(self) -> str | None:
        """Why it cannot be sent back; None when it can."""
        if any(name == HEADER_UNREADABLE for name, _ in self.record.headers):
            return "the letter holds no bytes: the record could not be taken apart"
        if self.origin is None or self.origin[0] + DEAD_SUFFIX != self.record.topic:
            return "its x-origin does not name the topic that it came from"
        return None


def letter_of(record: ConsumedRecord) -> Letter:
    """Return the letter in a record of a dead-letter topic. Never raises: anybody may have written it."""
    told = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers if name in OURS}
    reason, _, detail = told.get(HEADER_ERROR, "unknown: no x-error").partition(": ")
    attempt = told.get(HEADER_ATTEMPT, "")
    is_number = attempt.isascii() and attempt.isdigit() and len(attempt) <= ATTEMPT_DIGITS_MAX
    return Letter(
        record=record,
        reason=reason,
        detail=detail,
        origin=_origin(told.get(HEADER_ORIGIN, "")),
        attempt=int(attempt) if is_number else 1,
    )


def _origin(text: str) -> tuple[str, int, int] | None:
    parts = text.rsplit("/", ORIGIN_PARTS - 1)
    if len(parts) != ORIGIN_PARTS or not all(part.isascii() and part.isdigit() for part in parts[1:]):
        return None
    return parts[0], int(parts[1]), int(parts[2])


async def read_letters(
    bootstrap: str, topic: str, count: int, chosen: Collection[tuple[int, int]] = ()
) -> AsyncIterator[list[Letter]]:
    """Yield the letters that stand on `topic` (of `count` partitions) now, a portion at a time, in order per partition.

    With `chosen` (partition, offset) those alone are read. Raises `UnavailableError` when the topic is not known or
    the broker falls silent.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="keyway-dead",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
        fetch_max_bytes=PORTION_BYTES_MAX,
        max_partition_fetch_bytes=1024 * 1024,
    )
    try:
        await consumer.start()
        if topic not in await consumer.topics():
            raise UnavailableError(f"there is no topic {topic}: run `keyway topics apply`")
        async for records in _portions(consumer, [TopicPartition(topic, number) for number in range(count)], chosen):
            yield [letter_of(record) for record in records]
    except (KafkaError, OSError) as error:
        raise UnavailableError(f"Kafka at {bootstrap} does not answer ({type(error).__name__}): try again") from None
    finally:
        await consumer.stop()


async def _portions(
    consumer: Any,  # noqa: ANN401 - the library is untyped
    partitions: Sequence[TopicPartition],
    chosen: Collection[tuple[int, int]],
) -> AsyncIterator[Sequence[ConsumedRecord]]:
    consumer.assign(partitions)
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    if chosen:
        for number, offset in sorted(chosen):
            partition = TopicPartition(partitions[0].topic, number)
            if begins.get(partition, 0) <= offset < ends.get(partition, 0):
                consumer.assign([partition])
                consumer.seek(partition, offset)
                async for records in _until(consumer, {partition: offset + 1}, records_max=1):
                    yield [record for record in records if record.offset == offset]
        return
    for partition in partitions:
        consumer.seek(partition, begins[partition])
    left = {partition: end for partition, end in ends.items() if end > begins[partition]}
    async for records in _until(consumer, left, records_max=PORTION_RECORDS_MAX):
        yield records


async def _until(
    consumer: Any,  # noqa: ANN401 - the library is untyped
    ends: Mapping[TopicPartition, int],
    *,
    records_max: int,
) -> AsyncIterator[Sequence[ConsumedRecord]]:
    """Yield what stands before `ends`, and nothing that came since."""
    left, silent = dict(ends), 0
    while left:
        found = await consumer.getmany(*left, timeout_ms=POLL_MS, max_records=records_max)
        silent = 0 if found else silent + 1
        if silent >= SILENT_POLLS_MAX:
            raise UnavailableError(f"{len(left)} partitions fell silent before their end: is the broker well?")
        for partition, records in found.items():
            yield [record for record in records if record.offset < ends[partition]]
        for partition in tuple(left):
            if await consumer.position(partition) >= left[partition]:
                del left[partition]


def parcel_back(letter: Letter, producer: RecordProducer) -> Parcel:
    """Return the original record on its way back: its bytes, key, headers and partition, and the attempts so far."""
    assert letter.origin is not None  # noqa: S101 - a letter without an obstacle
    topic, partition, _ = letter.origin
    return Parcel(
        step=RetriedStep.DEAD_LETTER,
        producer=producer,
        topic=topic,
        partition=partition,
        key=letter.record.key,
        value=letter.record.value,
        headers=[*letter.headers, (HEADER_ATTEMPT, str(letter.attempt).encode())],
    )
