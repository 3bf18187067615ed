"""JSON Schema 2020-12 of every public type, made from the typed classes: one document per type, whole event."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from shared.contracts.events import EVENT_SOURCE
from shared.contracts.public_types import PUBLIC_TYPES, Direction, PublicType

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def schema_of(kind: PublicType) -> Schema:
    """Return the schema of a whole event of `kind`. Members that it does not name are allowed, now and for ever."""
    ours = kind.direction is Direction.OUT
    attributes: Schema = {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "format": "uuid"} if ours else _attribute(kind),
        "source": {"const": EVENT_SOURCE} if ours else _attribute(kind),
        "type": {"const": kind.name},
        "subject": {"type": "string", "description": "License id where one license is meant, such as `ka:00481516`."},
        "time": {"type": "string", "format": "date-time", "description": "When it happened."},
        "datacontenttype": {"const": "application/json"} if ours else {"type": "string"},
    }
    required = ["specversion", "id", "source", "type", "data"]
    if ours:
        required += ["subject", "time", "datacontenttype"]
    elif kind.timed:
        required.append("time")
    if kind.numbered:
        text = "Counts 1, 2, 3 … per subject without a gap."
        attributes["sequence"] = {"type": "string", "pattern": "^[1-9][0-9]*$", "description": text}
        required.append("sequence")
    return {
        "$schema": DIALECT,
        "$id": f"urn:keyway:schema:{kind.name}",
        "title": kind.name,
        "description": kind.summary,
        "type": "object",
        "required": sorted(required),
        "properties": {**attributes, "data": data_schema(kind)},
    }


def data_schema(kind: PublicType) -> Schema:
    """Return the schema of the member `data`."""
    adapter: TypeAdapter[object] = TypeAdapter(kind.data)
    made = adapter.json_schema(mode="serialization" if kind.direction is Direction.OUT else "validation")
    definitions = made.pop("$defs", {})
    tidied: Schema = _tidy(made, definitions)
    return tidied


def all_schemas() -> Mapping[str, Schema]:
    """Return the schema of every public type, by type."""
    return {kind.name: schema_of(kind) for kind in PUBLIC_TYPES}


def _attribute(kind: PublicType) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": kind.name_length_max}


def _tidy(node: Any, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Return a part of a schema without machine-made titles, references resolved and required members sorted."""
    if isinstance(node, list):
        return [_tidy(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        named = definitions[node["$ref"].rpartition("/")[2]]
        node = {**named, **{name: value for name, value in node.items() if name != "$ref"}}
    tidied = {name: _tidy(value, definitions) for name, value in node.items() if not _is_noise(name, value)}
    if isinstance(tidied.get("required"), list):
        tidied["required"] = sorted(tidied["required"])
    return tidied


def _is_noise(name: str, value: object) -> bool:
    return (name == "title" and isinstance(value, str)) or (name == "default" and value is None)
