"""Reads: one document at a time, and whole lists page by page with an account of what may be missing from them."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import assert_never

from shared.domain.provider_order import Pause
from shared.domain.provider_outcome import Refusal
from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.calls import Document, PanelCalls, Unreadable
from workers.provider.isplicense.classification import refusal_of
from workers.provider.isplicense.documents import count_of, error_of
from workers.provider.isplicense.forms import Parameters, list_parameters
from workers.provider.isplicense.pacing import CallPacer
from workers.provider.isplicense.redaction import Redactor
from workers.provider.isplicense.transport import Broken, Received
from workers.provider.isplicense.xml_reading import Element
from workers.provider.ports import ProviderReadError

PAGES_MAX = 200
BUSY = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
PAUSE_BY_REFUSAL = {Refusal.AUTH_FAILED: Pause.BREAKER, Refusal.CAPTCHA: Pause.BACK_OFF}


class PanelMissedError(ProviderReadError):
    """The panel knows no such function or element."""

    def __init__(self, detail: str, *, function_missing: bool) -> None:
        super().__init__(detail, refusal=Refusal.NOT_FOUND)
        self.function_missing = function_missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Elements:
    """The rows of one list."""

    rows: tuple[Element, ...]
    doubts: tuple[str, ...] = ()
    failed: bool = False
    """A call failed; otherwise the panel answered, only not completely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelReads:
    """Reads for one account."""

    calls: PanelCalls
    pacer: CallPacer
    account: PanelAccount
    redactor: Redactor

    async def document(self, parameters: Parameters) -> Element:
        """Return the document of a read. Raises `ProviderReadError`."""
        await self.pacer.turn()
        answer = await self.calls.call(parameters, timeout_seconds=self.account.read_timeout_seconds)
        match answer:
            case Broken():
                raise ProviderReadError(f"no answer: {answer.detail}")
            case Received():
                held_off = answer.status in BUSY
                raise ProviderReadError(
                    f"HTTP {answer.status}",
                    refusal=Refusal.HELD_OFF if held_off else None,
                    pause=Pause.BACK_OFF if held_off else Pause.NONE,
                )
            case Unreadable():
                raise ProviderReadError(f"bad answer: {answer.reason}")
            case Document():
                self._raise_for_error(answer.root)
                return answer.root
            case _:
                assert_never(answer)

    async def elements(self, function: str) -> Elements:
        """Return all rows of a list or ledger, with doubts where they may not be all.

        Raises `ProviderReadError` when the account must pause.
        """
        rows: dict[str, Element] = {}
        doubts: list[str] = []
        promised: int | None = None
        for page in range(1, PAGES_MAX + 1):
            try:
                root = await self.document(list_parameters(function, page=page, rows=self.account.page_rows))
            except ProviderReadError as error:
                if error.pause is not Pause.NONE:
                    raise
                return Elements(rows=tuple(rows.values()), doubts=(*doubts, f"{function}: {error}"), failed=True)
            on_page = root.all("elem")
            promised_before, promised = promised, count_of(root, "p_elems")
            if page > 1 and promised != promised_before:
                doubts.append(f"{function}: p_elems changed while reading")
            fresh = {_name_of(element, len(rows) + place): element for place, element in enumerate(on_page)}
            if len(fresh) < len(on_page) or fresh.keys() & rows.keys():
                doubts.append(f"{function}: a row stands on it twice")
            known = len(rows)
            rows.update(fresh)
            whole = len(rows) >= promised if promised is not None else len(on_page) < self.account.page_rows
            if whole or len(rows) == known:
                break
        else:
            doubts.append(f"{function}: more than {PAGES_MAX} pages")
        if promised is not None and len(rows) != promised:
            doubts.append(f"{function}: {len(rows)} rows of {promised}")
        return Elements(rows=tuple(rows.values()), doubts=tuple(doubts))

    def _raise_for_error(self, root: Element) -> None:
        error = error_of(root)
        if error is None:
            return
        subject = self.redactor.text(error.subject)[:60]
        detail = f"error type={self.redactor.text(error.type)[:60]!r} object={subject!r}"
        if error.type == "missed":
            raise PanelMissedError(detail, function_missing=error.subject == "func")
        refusal = refusal_of(error, self.account)
        raise ProviderReadError(detail, refusal=refusal, pause=PAUSE_BY_REFUSAL.get(refusal, Pause.NONE))


def _name_of(element: Element, place: int) -> str:
    """Return what tells a row from the others: its id, or its place where it has none."""
    return element.value("id") or f"row {place}"
