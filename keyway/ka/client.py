"""A Key Administrator: sends requests and keeps each exchange as evidence.

An outcome has three values, because an answer that never came says nothing about the effect: `ok` (2xx), `fail` (4xx:
nothing was done) and `info` (5xx, reset or time-out: anything may have been done; ask again).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from keyway.ka import forms, http
from keyway.ka.forms import Form, Order
from shared.clock import MachineClock, SystemClock

MEDIA_TYPE = "application/x-www-form-urlencoded"
EXPIRY_HEADER = "x-aps-expiration-date"
PATIENCE_SECONDS = 60.0
FIRST_CLIENT_ERROR = 400
FIRST_SERVER_ERROR = 500


class Outcome(StrEnum):
    """What an exchange tells about the effect."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and what came of it."""

    form: Form
    sent_at: float
    """Monotonic seconds; together with `seconds` it orders exchanges of one process."""
    seconds: float
    answer: http.Answer | None
    problem: str = ""
    """Why there is no answer."""

    @property
    def status(self) -> int | None:
        """The HTTP status, None when no answer came."""
        return None if self.answer is None else self.answer.status

    @property
    def body(self) -> bytes:
        """The answer's body, empty when no answer came."""
        return b"" if self.answer is None else self.answer.body

    @property
    def expiry(self) -> str | None:
        """`X-APS-Expiration-Date` of the answer."""
        return None if self.answer is None else self.answer.headers.get(EXPIRY_HEADER)

    @property
    def outcome(self) -> Outcome:
        """What is known about the effect."""
        if self.answer is None or self.answer.status >= FIRST_SERVER_ERROR:
            return Outcome.INFO
        return Outcome.FAIL if self.answer.status >= FIRST_CLIENT_ERROR else Outcome.OK

    @property
    def action(self) -> str:
        """The operation asked for."""
        return forms.action_of(self.form)

    @property
    def number(self) -> str:
        """The license number asked for."""
        return forms.number_of(self.form)

    def __str__(self) -> str:
        told = self.problem if self.answer is None else f"{self.answer.status} {self.answer.body[:120]!r}"
        return f"{self.action} {self.number} -> {told} after {self.seconds:.3f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAdministrator:
    """A KA of one account. Every call opens its own connection and never raises for what the other side does."""

    url: str
    """Address of the ISV endpoint."""
    account: str
    secret: str = field(repr=False)
    patience_seconds: float = PATIENCE_SECONDS
    clock: SystemClock = field(default_factory=MachineClock)

    async def purchase(self, order: Order) -> Exchange:
        """Create a license."""
        return await self.send(forms.operation_form("PURCHASE", order))

    async def renew(self, order: Order) -> Exchange:
        """Prolong a license to `order.expires_on`."""
        return await self.send(forms.operation_form("RENEW", order))

    async def send(self, form: Form) -> Exchange:
        """Send `form` and return the exchange."""
        return await self.send_raw(form, forms.encode(form))

    async def send_raw(self, form: Form, body: bytes, headers: Mapping[str, str] | None = None) -> Exchange:
        """Send `body` as it is, noted as `form`; `headers` replace or add to KA's own."""
        address = http.Address.of(self.url)
        request = http.render(address, {**self.headers(), **(headers or {})}, body)
        sent_at = self.clock.monotonic()
        answer, problem = None, ""
        try:
            answer = await http.exchange(address, request, timeout_seconds=self.patience_seconds)
        except http.NoAnswerError as error:
            problem = str(error)
        seconds = self.clock.monotonic() - sent_at
        return Exchange(form=form, sent_at=sent_at, seconds=seconds, answer=answer, problem=problem)

    def headers(self) -> dict[str, str]:
        """Return the headers of KA's samples: accept anything, form encoding, Basic credentials."""
        credentials = base64.b64encode(f"{self.account}:{self.secret}".encode()).decode("ascii")
        return {"Accept": "*/*", "Authorization": f"Basic {credentials}", "Content-Type": MEDIA_TYPE}
