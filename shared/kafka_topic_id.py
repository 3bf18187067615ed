"""Which topic bears a name: the id that Kafka gives to a topic when it is made, and never to another one.

A topic that was deleted and made anew has the same name and counts its offsets from 0 again, so offsets remembered for
the old one mean nothing. The library asks for metadata without ids (version 5); the newer question is written down here
with the library's own building blocks, and asked over its connection.
"""

import asyncio
from typing import Any
from uuid import UUID

from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from shared.errors import UnavailableError
from shared.kafka import RecordConsumer

ASK_SECONDS = 1.0
METADATA_KEY = 3
VERSION = 12
"""Brokers answer it since Kafka 3.1."""
ID_BYTES = 16
NO_ID = UUID(int=0)


class RawId:
    """An id on the wire: sixteen bytes without a length."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        """Return the bytes to be sent."""
        return value

    @classmethod
    def decode(cls, data: Any) -> bytes:  # noqa: ANN401 - the library's buffer
        """Read an id."""
        found: bytes = data.read(ID_BYTES)
        return found

    @classmethod
    def repr(cls, value: bytes) -> str:
        """Return how the library logs it."""
        return value.hex()


class TopicsAnswer(Response):  # type: ignore[misc] # the library is untyped
    """Metadata response, version 12."""

    API_KEY = METADATA_KEY
    API_VERSION = VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", RawId),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class TopicsQuestionV12(RequestStruct):  # type: ignore[misc] # the library is untyped
    """Metadata request, version 12."""

    API_KEY = METADATA_KEY
    API_VERSION = VERSION
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TopicsAnswer
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", RawId), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicsQuestion(Request[TopicsQuestionV12]):  # type: ignore[misc] # the library is untyped
    """Which topic bears this name; asking never makes one."""

    API_KEY = METADATA_KEY

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[TopicsQuestionV12]) -> TopicsQuestionV12:
        """Return the request."""
        return request_struct_class([(NO_ID.bytes, self._topic, {})], False, False, {})  # noqa: FBT003 - wire order


async def topic_id_of(consumer: RecordConsumer, topic: str) -> UUID:
    """Return the id of the topic that bears the name now, over the connection of the started `consumer`.

    Raises `UnavailableError` when there is no such topic, or no broker tells within a second.
    """
    client: Any = getattr(consumer, "_client")  # noqa: B009 - the library's own client, which it does not show
    try:
        async with asyncio.timeout(ASK_SECONDS):
            answer = await client.send(client.get_random_node(), TopicsQuestion(topic))
    except (KafkaError, NotImplementedError, TimeoutError) as error:
        raise UnavailableError(f"the id of topic {topic} is not told: {type(error).__name__}") from None
    for error_code, name, topic_id, *_ in answer.topics:
        if name == topic and error_code == 0 and UUID(bytes=topic_id) != NO_ID:
            return UUID(bytes=topic_id)
    raise UnavailableError(f"topic {topic} does not exist: run `keyway topics apply`")
