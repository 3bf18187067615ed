"""The AsyncAPI 3.0 document of the public topics, made from `public_types`: channels, keys, headers, examples."""

from functools import cache
from typing import Any

import orjson

from shared.contracts.cloud_event import CONTENT_TYPE
from shared.contracts.public_types import PUBLIC_TYPES, Direction, PublicType
from shared.contracts.schemas import schema_of
from shared.contracts.topics import (
    LICENSE_EVENTS,
    LICENSE_EVENTS_PARTITIONS,
    LICENSE_INTAKE,
    LICENSE_INTAKE_PARTITIONS,
    USAGE_REPORTED,
    USAGE_REPORTED_PARTITIONS,
)

VERSION = "1.0.0"
"""Of the contract: raised with every release of `docs/schemas/released`."""
KAFKA_BINDING = "0.5.0"

_CHANNELS = {
    LICENSE_EVENTS: (
        LICENSE_EVENTS_PARTITIONS,
        "Everything that happens to licenses. At least once; first occurrences of a license stand in `sequence`.",
    ),
    LICENSE_INTAKE: (
        LICENSE_INTAKE_PARTITIONS,
        "Requests about licenses. Each (`source`, `id`) is carried out once and answered on `license.events`.",
    ),
    USAGE_REPORTED: (
        USAGE_REPORTED_PARTITIONS,
        "What reporting licenses used. Each (`source`, `id`) is counted once.",
    ),
}


@cache
def asyncapi_json() -> bytes:
    """Return the document as indented JSON."""
    return orjson.dumps(asyncapi_document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def asyncapi_document() -> dict[str, Any]:
    """Return the document."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:keyway:events",
        "info": {
            "title": "Keyway events",
            "version": VERSION,
            "description": "License events that other systems build on, and what they may ask. See docs/events.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "Each installation's own; its prefix stands before every topic, when it has one.",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092"}},
            }
        },
        "channels": {topic: _channel(topic) for topic in _CHANNELS},
        "operations": {
            f"{_action(topic)}.{topic}": {
                "action": _action(topic),
                "channel": {"$ref": f"#/channels/{topic}"},
                "summary": _CHANNELS[topic][1],
                "messages": [{"$ref": f"#/channels/{topic}/messages/{kind.name}"} for kind in _types(topic)],
            }
            for topic in _CHANNELS
        },
        "components": {
            "messages": {kind.name: _message(kind) for kind in PUBLIC_TYPES},
            "schemas": {kind.name: _component(kind) for kind in PUBLIC_TYPES},
        },
    }


def _types(topic: str) -> list[PublicType]:
    return [kind for kind in PUBLIC_TYPES if kind.topic == topic]


def _action(topic: str) -> str:
    """Return what we do with a topic."""
    return "send" if _types(topic)[0].direction is Direction.OUT else "receive"


def _channel(topic: str) -> dict[str, Any]:
    partitions, text = _CHANNELS[topic]
    return {
        "address": topic,
        "description": text,
        "messages": {kind.name: {"$ref": f"#/components/messages/{kind.name}"} for kind in _types(topic)},
        "bindings": {"kafka": {"topic": topic, "partitions": partitions, "bindingVersion": KAFKA_BINDING}},
    }


def _message(kind: PublicType) -> dict[str, Any]:
    key = {
        "type": "string",
        "description": "License id: `<account>:<license number>`, the unit of order."
        if kind.direction is Direction.OUT
        else "License id, so that requests keep their order; not trusted, `data` decides.",
        "examples": [kind.example["subject"]],
    }
    header = {"type": "string", "examples": [CONTENT_TYPE]}
    return {
        "name": kind.name,
        "title": kind.name,
        "summary": kind.summary,
        "contentType": CONTENT_TYPE,
        "headers": {
            "type": "object",
            "properties": {"content-type": header},
            "required": ["content-type"] if kind.direction is Direction.OUT else [],
        },
        "payload": {"$ref": f"#/components/schemas/{kind.name}"},
        "bindings": {"kafka": {"key": key, "bindingVersion": KAFKA_BINDING}},
        "examples": [
            {
                "name": kind.name.replace(".", "-"),
                "headers": {"content-type": CONTENT_TYPE},
                "payload": dict(kind.example),
            }
        ],
    }


def _component(kind: PublicType) -> dict[str, Any]:
    schema = schema_of(kind)
    return {name: value for name, value in schema.items() if name not in {"$schema", "$id"}}
