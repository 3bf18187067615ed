"""One call to the panel: its exchange, the long pages behind it, its document.

A slow request may be answered by a page that names a relative address matching `long…billmgr`; the answer is fetched
there by GET, as often as it takes within limits (docs/protocols/isplicense.md 1, 9.2 row 5). Nothing is posted again.
"""

import re
from dataclasses import dataclass, replace
from http import HTTPStatus

from yarl import URL

from shared.clock import SystemClock
from workers.provider.isplicense.endpoint import Endpoint
from workers.provider.isplicense.forms import Parameters, function_of
from workers.provider.isplicense.transport import Broken, Received, Transport, always_open
from workers.provider.isplicense.xml_reading import Element, UnreadableAnswerError, read_document
from workers.provider.ports import Fence, ProviderObserver

LONG_PAGE_WAITS_SECONDS = (0.0, 1.0, 1.0, 2.0, 4.0, 8.0, 15.0, 20.0, 25.0, 30.0)
"""Before each hop; there are no more hops than these."""
LONG_PAGES_SECONDS_MAX = 120.0
HOP_SECONDS_MAX = 30.0
TOKEN_ENDS = re.compile(r"""[\s"'<>=;,()]+""")
LONG_ADDRESS = re.compile(r"(?:[.]/|/|/?manager/)?(long/[A-Za-z0-9_-]{1,128}/billmgr)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A readable document whose root is `doc`."""

    root: Element
    received: Received


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Status 200, but no document for us. `row` is that of docs/protocols/isplicense.md 9.2."""

    reason: str
    received: Received
    row: int = 6
    final: bool = False
    """No long address is looked for in it."""


class ElsewhereError(Exception):
    """A page names a long address that we do not go to."""


Answer = Document | Unreadable | Received | Broken
"""`Received` is any status but 200."""


class PanelCalls:
    """Calls to one endpoint. Holds no state between calls."""

    def __init__(
        self, endpoint: Endpoint, transport: Transport, *, clock: SystemClock, observer: ProviderObserver
    ) -> None:
        self._base = endpoint.url
        self._transport = transport
        self._clock = clock
        self._observer = observer

    async def call(self, parameters: Parameters, *, timeout_seconds: float, fence: Fence = always_open) -> Answer:
        """Send one form and return what is known afterwards; raises only when canceled."""
        started = self._clock.monotonic()
        function = function_of(parameters)
        answer = await self._opened(
            function, await self._transport.post(parameters, timeout_seconds=timeout_seconds, fence=fence)
        )
        answer = await self._followed(function, answer)
        self._observer.call_done(function, _result_of(answer), self._clock.monotonic() - started)
        return answer

    async def _followed(self, function: str, answer: Answer) -> Answer:
        """Return the answer behind the long pages, or `answer` itself when it is none."""
        deadline = self._clock.monotonic() + LONG_PAGES_SECONDS_MAX
        for wait_seconds in LONG_PAGE_WAITS_SECONDS:
            if not isinstance(answer, Unreadable) or answer.final:
                return answer
            try:
                url = long_address_in(answer.received.body, self._base)
            except ElsewhereError:
                return replace(answer, reason="a long page that leads elsewhere", row=5)
            if url is None:
                return answer
            if self._clock.monotonic() + wait_seconds >= deadline:
                break
            await self._clock.sleep(wait_seconds)
            answer = await self._hop(function, url, min(HOP_SECONDS_MAX, deadline - self._clock.monotonic()))
        return replace(answer, reason="long pages without end", row=5) if isinstance(answer, Unreadable) else answer

    async def _hop(self, function: str, url: URL, timeout_seconds: float) -> Answer:
        """Return the answer behind one long address. The POST before it went out, whatever becomes of this GET."""
        received = await self._transport.get(url, timeout_seconds=timeout_seconds)
        if isinstance(received, Broken):
            return Broken(detail=f"{received.detail}, on a long page", maybe_sent=True)
        if received.status != HTTPStatus.OK:  # says nothing of the order, unlike the same status of the POST
            return Unreadable(reason=f"HTTP {received.status} on a long page", received=received, row=5, final=True)
        return await self._opened(function, received)

    async def _opened(self, function: str, exchanged: Received | Broken) -> Answer:
        if isinstance(exchanged, Broken) or exchanged.status != HTTPStatus.OK:
            return exchanged
        if exchanged.problem:
            self._observer.hostile_answer(function, exchanged.problem)
            return Unreadable(reason=exchanged.problem, received=exchanged, final=True)
        try:
            root = await read_document(exchanged.body)
        except UnreadableAnswerError as error:
            if error.hostile:
                self._observer.hostile_answer(function, error.reason)
            return Unreadable(reason=error.reason, received=exchanged, final=error.hostile)
        if root.name != "doc":
            return Unreadable(reason="the root is not doc", received=exchanged)
        return Document(root=root, received=exchanged)


def long_address_in(body: bytes, base: URL) -> URL | None:
    """Return the long address that a page names, None without one. Raises `ElsewhereError` for one that leads away.

    Only a relative address below the panel's own folder counts, always taken from the panel's address, also on a page
    that was itself fetched from a long address.
    """
    text = body.decode("utf-8", errors="replace")
    tokens = {token for token in TOKEN_ENDS.split(text) if "long" in token and token.endswith("billmgr")}
    if not tokens:
        return None
    found = {match.group(1) for token in tokens if (match := LONG_ADDRESS.fullmatch(token)) is not None}
    if len(found) != 1 or any(LONG_ADDRESS.fullmatch(token) is None for token in tokens):
        raise ElsewhereError
    return base.with_path(base.raw_path.rpartition("/")[0] + "/" + found.pop(), encoded=True)


def _result_of(answer: Answer) -> str:
    match answer:
        case Document():
            return "document"
        case Unreadable():
            return "unreadable"
        case Received():
            return str(answer.status)
        case Broken():
            return "broken" if answer.maybe_sent else "not_sent"
