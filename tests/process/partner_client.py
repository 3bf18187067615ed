"""A partner as process tests need one: every request over a connection of its own, every answer kept as it is."""

import asyncio
import json
import random
import secrets
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyway.ka.http import Address, exchange, render
from tests.process.whole_stack import ASK_AGAIN_SECONDS, SETTLED_SECONDS

PATIENCE_SECONDS = 20.0
ADMIN = "PLESK-12-WEB-ADMIN-1M"
PRO = "PLESK-12-WEB-PRO-1M"
HOST = "PLESK-12-WEB-HOST-1M"
PACKS = "FT-PLESK-5-LANGUAGE-PACKS-1M"
MONITORING = "360-MON-1M"
SITES = "360-MON-SITE-1M"


@dataclass(frozen=True, slots=True)
class Told:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The JSON in it."""
        assert self.headers["content-type"].startswith("application/json"), self
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, type and details of a refusal; its four members are strings."""
        document = self.document
        assert sorted(document) == ["code", "details", "message", "type"]
        assert all(isinstance(value, str) for value in document.values())
        assert document["code"] == str(self.status)
        return self.status, document["type"], document["details"]


@dataclass(frozen=True, slots=True)
class Key:
    """A key that a test made."""

    id: int
    code: str
    structure: dict[str, Any]

    @property
    def number(self) -> str:
        """The bare number, eight digits."""
        return f"{self.id:08}"

    def full_number(self, version: int = 0) -> str:
        """The full key number."""
        return f"PLSK.{self.number}.{version:04}"


class Partner:
    """Calls the Partner API of a stack."""

    def __init__(self, base: str, user: str, secret: str) -> None:
        self.base = Address.of(base)
        self.user = user
        self.authorization = "Basic " + b64encode(f"{user}:{secret}".encode()).decode()

    @classmethod
    def of(cls, state: Path, gateway: int = 0) -> "Partner":
        """Return the example partner of the stack in `state`."""
        document = json.loads((state / "endpoints.json").read_text())
        return cls(document["gateway"][gateway] + "/30", *document["accounts"]["partner"])

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str | None] | None = None,
        once: bool = False,
    ) -> Told:
        """Send a request; a body that is not bytes is written as JSON. A header that is None is left out.

        Unless it shall be sent `once`, it is repeated as a client does: when nothing was done, and when nobody knows
        and a repeat cannot make a second key.
        """
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines: dict[str, str | None] = {"Authorization": self.authorization}
        if body is not None:
            lines["Content-Type"] = "application/json; charset=UTF-8"
        lines |= headers or {}
        base = self.base
        address = Address(host=base.host, port=base.port, path=base.path + path, encrypted=base.encrypted)
        given = {name: value for name, value in lines.items() if value is not None}
        request = render(address, given, sent, method=method)
        passing = {503} if method == "POST" and "Idempotency-Key" not in given else {503, 504}
        deadline = time.monotonic() + SETTLED_SECONDS
        while True:
            answer = await exchange(address, request, timeout_seconds=PATIENCE_SECONDS)
            if once or answer.status not in passing or time.monotonic() > deadline:
                return Told(answer.status, answer.headers, answer.body)
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def put(self, key: Key | int | str, body: object, query: str = "", *, once: bool = False) -> Told:
        """Modify a key."""
        return await self.call("PUT", f"/keys/{name(key)}{query}", body, once=once)

    async def changed(self, key: Key | int | str, body: object) -> dict[str, Any]:
        """Modify a key and return its structure."""
        told = await self.put(key, body, "?return-key-state=yes")
        assert told.status == 200, told
        document: dict[str, Any] = told.document
        return document

    async def read(self, key: Key | int | str) -> dict[str, Any]:
        """Return the structure of a key."""
        told = await self.call("GET", f"/keys/{name(key)}")
        assert told.status == 200, told
        document: dict[str, Any] = told.document
        return document

    async def make(self, item: str = ADMIN, **members: object) -> Key:
        """Make a key."""
        document = {"items": [{"externalId": "S-1", "item": item}], **members}
        named = {"Idempotency-Key": secrets.token_hex(8)}
        told = await self.call("POST", "/keys?return-key-state=1", document, headers=named)
        assert told.status == 201, told
        structure = told.document
        identifiers = structure["keyIdentifiers"]
        return Key(identifiers["keyId"], identifiers["activationCode"], structure)


def name(key: Key | int | str) -> str:
    """Return how a path names a key."""
    return str(key.id if isinstance(key, Key) else key)


def an_address() -> str:
    """Return an IPv4 address that no other test is likely to use."""
    return f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"
