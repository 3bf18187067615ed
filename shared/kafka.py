"""Kafka clients with every delivery option written out: the only place where producers and consumers are made.

| producer | acks | a lost acknowledgment means |
|---|---|---|
| commands | all | unknown: the command may be in the log; the asker gets 504 and its repeat converges |
| replies | 1 | nothing: the stored reply is sent again when the command is redelivered or repeated |
| events | all | nothing: the outbox row stays until the relay has published it |
| relay | all, idempotent | nothing: as for events; made anew when it failed |
| dead letters | all | the record's offset must not move: send again |

Only the relay's is idempotent: such batches never expire, which is wrong for a caller who already has an answer, and
order holds without it (one request in flight per broker, retries go first); command ids absorb the duplicates.
Producers are used with an explicit partition (`contracts.identifiers.partition_of`): no client-side partitioner ever
decides.

The libraries' classes are untyped; the protocols here say what we use of them.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Literal, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from shared.errors import ConfigurationError, UnavailableError

RECORD_LIMIT_BYTES = 4 * 1024 * 1024
"""Largest record on the command topic: 512 KiB of activation data may grow sixfold when written as JSON."""
RECORD_HEAD_BYTES = 1024
"""Room for a record's and its batch's own fields, so that what a producer lets pass the broker takes."""
DEAD_LETTER_LIMIT_BYTES = RECORD_LIMIT_BYTES + 64 * 1024
"""A dead letter is the whole record plus the headers that tell the reason: it must always fit."""
EVENT_LIMIT_BYTES = 1024 * 1024
"""Largest record on `license.events` (deploy/kafka/topics.yaml)."""
BATCH_LIMIT_BYTES = 131_072
PRODUCE_TIMEOUT_SECONDS = 5.0
RETRY_BACKOFF_MS = 50
WARM_UP_SECONDS = 10.0

Headers = Sequence[tuple[str, bytes | None]]


class RecordMetadata(Protocol):
    """Where an acknowledged record stands."""

    @property
    def partition(self) -> int:
        """The partition written."""
        ...

    @property
    def offset(self) -> int:
        """The offset given by the broker."""
        ...


class BatchBuilder(Protocol):
    """A batch of records for one partition (`create_batch`)."""

    def append(
        self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Headers = ...
    ) -> object | None:
        """Add a record (timestamp in ms, None = now). Returns None when the batch is full: start the next one."""
        ...


class RecordProducer(Protocol):
    """What we use of `AIOKafkaProducer`."""

    async def start(self) -> None:
        """Connect. Raises `KafkaError` when no broker answers."""
        ...

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        ...

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
    ) -> asyncio.Future[RecordMetadata]:
        """Put a record into the buffer; the future is done at the acknowledgment. Cancelling this un-sends."""
        ...

    def create_batch(self) -> BatchBuilder:
        """Return an empty batch."""
        ...

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[RecordMetadata]:
        """Put a whole batch into the buffer; the future is done at the acknowledgment."""
        ...

    async def partitions_for(self, topic: str) -> set[int]:
        """Return the partitions of `topic`, asking the broker when they are not known yet."""
        ...


class TopicPartition(Protocol):
    """A partition of a topic, hashable."""

    @property
    def topic(self) -> str:
        """The topic's name."""
        ...

    @property
    def partition(self) -> int:
        """The partition's number."""
        ...


class ConsumedRecord(Protocol):
    """One record as a consumer hands it out, nothing decoded but the header names."""

    @property
    def topic(self) -> str:
        """The topic read."""
        ...

    @property
    def partition(self) -> int:
        """The partition read."""
        ...

    @property
    def offset(self) -> int:
        """The place in the partition."""
        ...

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970, as the topic's timestamp type says."""
        ...

    @property
    def key(self) -> bytes | None:
        """The key, raw."""
        ...

    @property
    def value(self) -> bytes | None:
        """The value, raw."""
        ...

    @property
    def headers(self) -> Headers:
        """The headers, values raw."""
        ...


class RecordConsumer(Protocol):
    """What we use of `AIOKafkaConsumer`. Never wrap `getmany` in a time-out of your own: a cancelled call leaks."""

    async def start(self) -> None:
        """Connect."""
        ...

    async def stop(self) -> None:
        """Leave the group, if any, and disconnect."""
        ...

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read exactly these partitions, without a group."""
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """Return the partitions read now."""
        ...

    def pause(self, *partitions: TopicPartition) -> None:
        """Fetch no more from these."""
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from `offset`."""
        ...

    async def position(self, partition: TopicPartition) -> int:
        """Return the offset read next, resolving it first when needed."""
        ...

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset of the first record that each partition still holds."""
        ...

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset after the last record of each partition."""
        ...

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumedRecord]]:
        """Return what is there by partition, after at most `timeout_ms`."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the group's offsets."""
        ...

    async def topics(self) -> set[str]:
        """Return the topics that the broker knows: the plainest question it answers."""
        ...

    async def committed(self, partition: TopicPartition) -> int | None:
        """Ask the group's coordinator for the committed offset."""
        ...

    def highwater(self, partition: TopicPartition) -> int | None:
        """Return the end of the partition as of the last fetch."""
        ...


def command_producer(bootstrap: str) -> RecordProducer:
    """Return a producer for `license.commands`. Needs a running loop; call `start` and `warm_up` before use."""
    return _producer(bootstrap, "commands", acks="all", record_limit_bytes=RECORD_LIMIT_BYTES)


def reply_producer(bootstrap: str) -> RecordProducer:
    """Return a producer for `license.replies`, its own object so that nothing else delays a reply."""
    return _producer(bootstrap, "replies", acks=1, record_limit_bytes=RECORD_LIMIT_BYTES)


def event_producer(bootstrap: str) -> RecordProducer:
    """Return a producer for public events right after COMMIT; the outbox row is the guarantee."""
    return _producer(bootstrap, "events", acks="all", record_limit_bytes=EVENT_LIMIT_BYTES)


def relay_producer(bootstrap: str) -> RecordProducer:
    """Return the relay's idempotent producer: its own retries never write a batch twice."""
    return _producer(bootstrap, "relay", acks="all", record_limit_bytes=EVENT_LIMIT_BYTES, idempotent=True)


def dead_letter_producer(bootstrap: str) -> RecordProducer:
    """Return a producer for `*.dead`; its acknowledgment is awaited before the origin's offset may move."""
    return _producer(bootstrap, "dead-letters", acks="all", record_limit_bytes=DEAD_LETTER_LIMIT_BYTES)


def _producer(
    bootstrap: str, name: str, *, acks: Literal["all", 1], record_limit_bytes: int, idempotent: bool = False
) -> RecordProducer:
    """Return a producer; the options in which producers do not differ stand here."""
    producer: RecordProducer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=f"keyway-{name}",
        acks=acks,
        max_request_size=record_limit_bytes - RECORD_HEAD_BYTES,
        enable_idempotence=idempotent,
        linger_ms=0,  # a batch forms while the request before it is out
        max_batch_size=BATCH_LIMIT_BYTES,  # a full batch parks every caller: the library's 16 KiB are too few
        request_timeout_ms=int(PRODUCE_TIMEOUT_SECONDS * 1000),
        retry_backoff_ms=RETRY_BACKOFF_MS,
        compression_type=None,
    )
    return producer


def reply_consumer(bootstrap: str) -> RecordConsumer:
    """Return a consumer for one partition of `license.replies`: `assign` it, there is no group and no rebalance."""
    consumer: RecordConsumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="keyway-reply-inbox",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="latest",  # replies to an earlier owner of the slot are nobody's
        fetch_min_bytes=1,
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=1024 * 1024,  # a single larger record is still handed out
        request_timeout_ms=10_000,
        retry_backoff_ms=RETRY_BACKOFF_MS,
        check_crcs=True,
    )
    return consumer


def offset_reader(bootstrap: str) -> RecordConsumer:
    """Return a consumer that only asks where partitions begin and end: its questions never wait behind a fetch.

    The end is that of what is committed: records of transactions under way are not there yet.
    """
    consumer: RecordConsumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="keyway-offset-reader",
        group_id=None,
        isolation_level="read_committed",
        enable_auto_commit=False,
        request_timeout_ms=10_000,
        retry_backoff_ms=RETRY_BACKOFF_MS,
    )
    return consumer


async def warm_up(producer: RecordProducer, topics: Mapping[str, int]) -> None:
    """Fetch the metadata of `topics` (name: partition count), so that the first `send` does not wait for it.

    Raises `ConfigurationError` when a topic has another number of partitions than its writers and readers count on,
    and `UnavailableError` when it does not exist or no broker tells within `WARM_UP_SECONDS`.
    """
    for topic, expected in topics.items():
        found = await _partitions_of(producer, topic)
        if found != expected:
            raise ConfigurationError(
                f"topic {topic} has {found} partitions, not {expected}: partition counts are fixed; "
                "see deploy/kafka/topics.yaml and `keyway topics apply`"
            )


async def _partitions_of(producer: RecordProducer, topic: str) -> int:
    try:
        async with asyncio.timeout(WARM_UP_SECONDS):
            return len(await producer.partitions_for(topic))
    except (KafkaError, TimeoutError) as error:
        raise UnavailableError(
            f"topic {topic} is not known to the broker ({type(error).__name__}): run `keyway topics apply`"
        ) from None


async def start_client(client: RecordProducer | RecordConsumer, bootstrap: str) -> None:
    """Connect `client`. Raises `UnavailableError` naming `bootstrap` when no broker answers; then it is closed."""
    try:
        await client.start()
    except (KafkaError, OSError) as error:
        await client.stop()
        raise UnavailableError(
            f"no Kafka answers at {bootstrap} ({type(error).__name__}): is KEYWAY_KAFKA_BOOTSTRAP right?"
        ) from None


def is_sending(producer: RecordProducer) -> bool:
    """Whether the producer's sender task is alive; once it has died every send fails until the process restarts."""
    sender: object = getattr(producer, "_sender", None)
    task: asyncio.Task[None] | None = getattr(sender, "sender_task", None)
    return task is not None and not task.done()


def require_c_extensions() -> None:
    """Raise `ConfigurationError` unless aiokafka's compiled record code is in use (else it is ten times slower)."""
    module = DefaultRecordBatchBuilder.__module__
    if "_crecords" not in module:
        raise ConfigurationError(
            f"aiokafka runs without its C extension (records from {module}): install a binary wheel of aiokafka"
        )


async def acknowledged(future: Awaitable[RecordMetadata]) -> RecordMetadata:
    """Wait for an acknowledgment. Raises `UnavailableError`: whether the record was written is then unknown."""
    try:
        async with asyncio.timeout(PRODUCE_TIMEOUT_SECONDS * 2 + 1):
            return await future
    except (KafkaError, TimeoutError) as error:
        raise UnavailableError(f"no acknowledgment from Kafka: {type(error).__name__}") from None
