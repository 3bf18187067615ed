"""Requests made from the OpenAPI document, good ones and spoiled ones, and the judge of their answers.

Everything is drawn from one seeded source of chance, so that a case that fails can be made again from its number.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import jsonschema

from gateway.routes.contract import load_document

DOCUMENT = load_document()
METHODS = ("get", "put", "post", "delete")
OTHER_METHODS = ("PATCH", "HEAD", "OPTIONS", "PUT", "POST", "DELETE", "GET")
SHAPE_TYPES = frozenset({"30001", "30003", "30004"})
"""What a request that the document allows is never refused with."""
SAMPLES: Mapping[str, Sequence[str]] = {
    "^([Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|1|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|0)$": ("yes", "TRUE", "1", "no", "False", "0"),
    "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$": ("true", "False", "TRUE", "fAlSe"),
    "^[0-9]{1,15}$": ("0", "101", "102", "000201", "999999999999999"),
    "^[1-9][0-9]{0,5}$": ("1", "5", "999999"),
    "^[0-9]{1,10}$": ("1", "00481516", "4294967295"),
    "^(0[1-9]|1[0-9]|2[0-8])/(0[1-9]|1[0-2])/20[2-9][0-9]$": ("05/02/2027", "28/12/2099", "01/01/2020"),
}
"""Texts for every pattern of the document that requests are made from."""
TEXTS = ("", "a", "shop-eu-1", "naïve\u202e\n", "x" * 255, "S-1", "10001", "10002", "20001", "💡", "null", "%00")
ITEMS = (
    "PLESK-12-WEB-ADMIN-1M",
    "PLESK-12-WEB-PRO-1M",
    "PLESK-12-WEB-HOST-1M",
    "PLESK-12-VPS-WEB-PRO-1M",
    "FT-PLESK-5-LANGUAGE-PACKS-1M",
    "360-MON-1M",
    "360-MON-SITE-1M",
    "Bronze",
    "NOBODY-SELLS-THIS",
)
JUNK: Sequence[Any] = (
    None,
    True,
    -1,
    1.5,
    "",
    "x" * 256,
    "\0",
    [],
    {},
    [None],
    {"item": {}},
    10**20,
    "-0",
    {"keyId": None},
    {"activated": "perhaps"},
)
BODIES = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"{",
    b'{"a":1,"a":2}',
    b"\xff\xfe",
    b'{"nickname":"\\ud800"}',
    b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"productConfigurationId":1e400}',
    b'{"ownerId":NaN}',
    b"\xef\xbb\xbf{}",
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the document, references followed."""

    path: str
    method: str
    parameters: Sequence[Mapping[str, Any]]
    body: Mapping[str, Any] | None
    media_type: str
    responses: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.method.upper()} {self.path}"


@dataclass(slots=True)
class Case:
    """One request; `sound` while nothing in it breaks the document."""

    operation: Operation
    method: str
    path: str = ""
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    sound: bool = True
    pair: str = "partner"
    """Whose credentials: `partner`, `ka`, `wrong` or `none`."""

    @property
    def target(self) -> str:
        """Path and query string."""
        return self.path + (f"?{urlencode(self.query)}" if self.query else "")

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.headers} as {self.pair}: {self.body[:300]!r}"


def operations() -> list[Operation]:
    """Return all operations of the document that take credentials."""
    return [
        Operation(
            path,
            method,
            [resolved(each) for each in (*item.get("parameters", ()), *item[method].get("parameters", ()))],
            *_body(item[method]),
            {status: resolved(response) for status, response in item[method]["responses"].items()},
        )
        for path, item in DOCUMENT["paths"].items()
        for method in METHODS
        if method in item and item[method].get("security") != []
    ]


def _body(operation: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        return content["schema"], media_type
    return None, ""


def resolved(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow the reference that `part` may be."""
    found: Any = part
    while "$ref" in found:
        steps = found["$ref"].removeprefix("#/").split("/")
        found = DOCUMENT
        for step in steps:
            found = found[step]
    return found  # type: ignore[no-any-return]  # the document is data of any shape


class Maker:
    """Makes cases; `keys` are names of keys that exist."""

    def __init__(self, seed: int, keys: Sequence[str]) -> None:
        self.chance = random.Random(seed)
        self.keys = keys
        self.operations = operations()
        self.names = 0

    def case(self) -> Case:
        """Return the next case: a sound request, spoiled in one or two places more often than not."""
        chance = self.chance
        operation = chance.choice(self.operations)
        case = Case(operation, operation.method.upper())
        case.pair = "ka" if operation.path == "/isv" else "partner"
        self._parameters(case)
        if operation.body is not None:
            self._body(case, operation.body)
        for _ in range(chance.choice((0, 0, 1, 1, 2))):
            self._spoil(case)
        return case

    def _parameters(self, case: Case) -> None:
        case.path = case.operation.path
        for parameter in case.operation.parameters:
            name, place = parameter["name"], parameter["in"]
            if place == "path":
                case.path = case.path.replace("{key}", quote(self.chance.choice(self.keys), safe=""))
            elif parameter.get("required") or self.chance.random() < 0.3:
                value = self._parameter(name, parameter["schema"])
                if place == "header":
                    case.headers[name] = value
                else:
                    case.query.append((name, value))

    def _parameter(self, name: str, schema: Mapping[str, Any]) -> str:
        if name == "Idempotency-Key":
            self.names += 1
            return f"case-{self.names}"
        if name == "ip-address-binding":
            return self._address()
        return str(self.value(schema, name))

    def _address(self) -> str:
        return self.chance.choice(
            (
                f"10.66.{self.chance.randrange(9)}.{self.chance.randrange(256)}",
                f"2001:db8::{self.chance.randrange(99):x}",
            )
        )

    def value(self, schema: Mapping[str, Any], name: str = "") -> Any:  # noqa: PLR0911 - one per form
        """Return a value that the schema allows."""
        schema, chance = resolved(schema), self.chance
        if "anyOf" in schema:
            return self.value(chance.choice(schema["anyOf"]), name)
        if "enum" in schema:
            return chance.choice(schema["enum"])
        if "pattern" in schema:
            return chance.choice(SAMPLES[schema["pattern"]])
        kind = schema["type"]
        if isinstance(kind, list):
            kind = chance.choice(kind)
        match kind:
            case "object":
                return {
                    member: self.value(inner, member)
                    for member, inner in schema["properties"].items()
                    if member in schema.get("required", ()) or chance.random() < 0.25
                } or {"nickname": "n"}
            case "array":
                least = schema.get("minItems", 0)
                return [self.value(schema["items"], name) for _ in range(max(least, chance.choice((0, 1, 1, 2, 3))))]
            case "integer":
                return chance.choice((0, 1, 5, 101, 102, 201, 999))
            case "boolean":
                return chance.random() < 0.5
            case "null":
                return None
            case _:
                return self._text(schema, name)

    def _text(self, schema: Mapping[str, Any], name: str) -> str:
        if schema.get("format") in {"ipv4", "ipv6"}:
            return self._address()
        if name == "item":
            return self.chance.choice(ITEMS)
        if name == "PRODUCT_ID":
            return self.chance.choice(("Bronze", "Gold", "CloudBackup", "Nobody"))
        text = self.chance.choice(TEXTS)
        return text if len(text) >= schema.get("minLength", 0) else "z"

    def _body(self, case: Case, schema: Mapping[str, Any]) -> None:
        document = self.value(schema)
        for reference in ("keyIdentifiers", "parentKeyIdentifiers"):
            if document.get(reference) == {} or set(document.get(reference) or ()) == {"nickname"}:
                document[reference] = {"keyId": 7}
        if case.operation.path == "/30/keys" and self.chance.random() < 0.7:  # most random sets make no key
            document = {
                "items": [{"item": self.chance.choice((ITEMS[0], ITEMS[5]))}],
                **{name: document[name] for name in ("nickname", "autoRenew", "restrictIPBinding") if name in document},
            }
        case.headers["Content-Type"] = case.operation.media_type
        if case.operation.media_type == "application/json":
            for item in document.get("items") or ():
                if item.get("quantity") == 0:
                    item["quantity"] = 1
            case.body = json.dumps(document, ensure_ascii=self.chance.random() < 0.5).encode()
        else:
            case.body = urlencode(document).encode()

    def _spoil(self, case: Case) -> None:
        case.sound = False
        spoil = self.chance.choice((self._spoil_body, self._spoil_member, self._spoil_query, self._spoil_rest))
        spoil(case)

    def _spoil_body(self, case: Case) -> None:
        choice = self.chance.choice((*BODIES, b" " * 600_000))
        if case.operation.body is not None:
            case.body = choice

    def _spoil_member(self, case: Case) -> None:
        try:
            document = json.loads(case.body)
        except (ValueError, RecursionError):  # spoiled before
            return
        if isinstance(document, dict) and document:
            document[self.chance.choice(sorted(document))] = self.chance.choice(JUNK)
            case.body = json.dumps(document).encode()

    def _spoil_query(self, case: Case) -> None:
        names = [each["name"] for each in case.operation.parameters if each["in"] == "query"] or ["x"]
        name = self.chance.choice(names)
        case.query += [(name, self.chance.choice(("", "maybe", "-1", "\0", "9" * 40, "y" * 300)))]

    def _spoil_rest(self, case: Case) -> None:
        match self.chance.randrange(6):
            case 0:
                case.pair = self.chance.choice(("ka", "partner", "none", "wrong"))
            case 1:
                case.headers["Accept"] = self.chance.choice(("text/html", "application/json;q=0", "*/*", "nonsense"))
            case 2:
                case.headers["Content-Type"] = self.chance.choice(
                    ("text/plain", "application/json; charset=latin1", "")
                )
            case 3:
                case.headers["Idempotency-Key"] = self.chance.choice(("", "a b", "x" * 256, "case-1"))
            case 4:
                other = self.chance.choice(("99999999", "0", "-1", "..", "%2F", "PLSK.1.0000", "x" * 500, "٣", ""))
                case.path = re.sub(r"/keys/[^/]+", lambda _: f"/keys/{quote(other, safe='%')}", case.path)
            case _:
                case.method = self.chance.choice(OTHER_METHODS)


def faults(case: Case, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    """Yield what is wrong with an answer: nothing when it is as the document says."""
    if status >= 500:
        yield f"status {status}"
    if case.method != case.operation.method.upper() or ("/keys/" in case.path and not _is_one_segment(case)):
        yield from _undescribed(case, status, headers, body)
        return
    response = case.operation.responses.get(str(status))
    if response is None:
        yield f"status {status} is not described"
        return
    for name, header in response.get("headers", {}).items():
        value = headers.get(name.lower())
        if value is None and header.get("required"):
            yield f"header {name} is missing"
        if value is not None:
            yield from _against(value, header["schema"], f"header {name}")
    yield from _body_faults(response, headers, body)
    if case.sound and status == 400 and case.operation.path != "/isv" and json.loads(body)["type"] in SHAPE_TYPES:
        yield f"a request that the document allows is refused: {body!r}"


def _is_one_segment(case: Case) -> bool:
    return re.fullmatch(r"/30/keys/[^/]+(/[a-z-]+)?", case.path) is not None


def _undescribed(case: Case, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    """Judge the answer to a method or path that the document does not have, or has as another operation."""
    if status == 405 and "allow" not in headers:
        yield "405 without Allow"
    if body and case.path.startswith("/30") and status >= 400:
        yield from _against(json.loads(body), {"$ref": "#/components/schemas/Error"}, "body")


def _body_faults(response: Mapping[str, Any], headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    content = response.get("content", {})
    if not body:
        return
    media_type = headers.get("content-type", "").partition(";")[0]
    if media_type not in content:
        yield f"a body of {media_type!r} is not described"
    elif media_type == "application/json":
        yield from _against(json.loads(body), content[media_type]["schema"], "body")
    elif media_type == "text/plain":
        yield from _against(body.decode(), content[media_type]["schema"], "body")


def _against(value: Any, schema: Mapping[str, Any], what: str) -> Iterator[str]:
    whole = {**schema, "components": DOCUMENT["components"]}
    for error in jsonschema.Draft202012Validator(whole).iter_errors(value):
        yield f"{what} at {error.json_path}: {error.message[:200]}"
