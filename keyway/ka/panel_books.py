"""The sandbox panel's own books, read through its control plane: what stands there and what it charged.

Rules: docs/protocols/isplicense.md 13.5. Only a sandbox has a control plane; a provider's panel has none.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from keyway.ka import http
from shared.errors import UnavailableError

DELETED = 4
"""The panel's status code of an ended service."""
PATIENCE_SECONDS = 10.0
OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelService:
    """A service upstream."""

    number: int
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelCharge:
    """Money taken for a service."""

    reason: str
    """`order` or `prolong`, among others."""
    amount: str
    """As the panel writes it, in its own currency."""


@dataclass(frozen=True, slots=True)
class PanelBooks:
    """The books of the panel at `address` (the one that `endpoints.json` tells)."""

    address: str

    async def service_at(self, server: str) -> PanelService | None:
        """Return the latest service for the server with that IP address; None when there never was one."""
        mine = [service for service in (await self._read("state"))["licenses"] if service["ip"] == server]
        latest = max(mine, key=lambda service: int(service["id"]), default=None)
        if latest is None:
            return None
        return PanelService(number=latest["id"], ended=latest["status"] == DELETED)

    async def charges_for(self, service: PanelService) -> list[PanelCharge]:
        """Return what was charged for `service`, in order."""
        charges = (await self._read("ledger"))["charges"]
        mine = [charge for charge in charges if charge["license"] == service.number]
        return [PanelCharge(reason=charge["reason"], amount=charge["amount"]) for charge in mine]

    async def _read(self, page: str) -> dict[str, Any]:
        root = urlsplit(self.address)
        address = http.Address.of(f"{root.scheme}://{root.netloc}/__sandbox/{page}")
        try:
            request = http.render(address, {}, b"", method="GET")
            answer = await http.exchange(address, request, timeout_seconds=PATIENCE_SECONDS)
        except http.NoAnswerError as error:
            raise UnavailableError(f"the sandbox at {root.netloc} does not answer: {error}") from None
        if answer.status != OK:
            raise UnavailableError(f"the sandbox at {root.netloc} shows no {page}: {answer.status}")
        document: dict[str, Any] = orjson.loads(answer.body)
        return document
