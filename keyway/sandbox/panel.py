"""The panel itself: authenticate, find the function, run it, commit its rows, wrap what it says into a document.

`answer` is synchronous on purpose: nothing comes between reading the state and writing the changes.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import date, timedelta

from keyway.sandbox.auth import authenticate, confirm_second_factor, log_in
from keyway.sandbox.call import Call, Draft, PanelError, listed_kind
from keyway.sandbox.catalog import PRODUCTS, months_later
from keyway.sandbox.document import Element
from keyway.sandbox.functions.office import export_prices
from keyway.sandbox.functions.table import LIST_FUNCTIONS, panel_functions
from keyway.sandbox.housekeeping import overdue_rows
from keyway.sandbox.rows import Row, SavedFilter, Service
from keyway.sandbox.state import State
from keyway.sandbox.store import Store
from keyway.sandbox.texts import Text

PANEL_PATH = "/manager/billmgr"
_NAMESAKE_AGE = timedelta(days=400)
_NAMESAKE_DELETED = timedelta(hours=2)
_NOBODY = "no license is called that"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """What became of a call: the document, the words for its effects, the money it took, and `ok` or the error."""

    document: Element
    effects: tuple[str, ...] = ()
    charged: int = 0
    outcome: str = "ok"


class Panel:
    """Answers calls on the store's state."""

    def __init__(self, store: Store) -> None:
        """Work on `store`."""
        self._store = store
        self._functions = panel_functions()
        self._swept: tuple[int, date] | None = None

    def answer(self, call: Call) -> Handled:
        """Carry the call out and return its document, for business errors too. Raises `OSError`: nothing happened."""
        self._sweep(call)
        handled = self._once(call)
        if call.mischief.double_effect:
            again = self._once(replace(call, mischief=replace(call.mischief, namesake=False)))
            handled = replace(handled, effects=handled.effects + again.effects, charged=handled.charged + again.charged)
        return replace(handled, document=_with_noise(handled.document, call)) if self._is_noisy else handled

    @property
    def _is_noisy(self) -> bool:
        return self._store.state.profile.noise

    def _once(self, call: Call) -> Handled:
        draft = Draft(self._store.state)
        try:
            elements = self._perform(call, draft)
        except PanelError as error:
            self._store.commit(error.rows)
            outcome = f"error {error.kind}/{error.about}"
            return Handled(document=error_document(error, call), outcome=outcome)
        self._store.commit(_as_listed(draft.rows(), self._store.state, call))
        return Handled(document=document(call, elements), effects=tuple(draft.effects), charged=draft.charged)

    def _perform(self, call: Call, draft: Draft) -> tuple[Element, ...]:
        if call.func == "auth":
            return log_in(call, draft)
        if call.func == "pricelist.export":
            return export_prices(call, draft)
        account, wants_second_factor = authenticate(call, draft)
        call = replace(call, user=account.user)
        if call.func == "totp.confirm":
            return confirm_second_factor(call, draft, account)
        if wants_second_factor:
            return (Element("ok", "func=totp.confirm"),)
        function = self._functions.get(call.func)
        if not call.func or function is None or call.func in draft.state.profile.missing_functions:
            raise PanelError("missed", "func", Text.NO_FUNCTION, value=call.func)
        self._store.commit(_planted(call, draft.state))
        return function(call, draft)

    def _sweep(self, call: Call) -> None:
        """Let days pass: once per day of the sandbox and again after each reset."""
        now = (self._store.epoch, call.today)
        if self._swept != now:
            self._swept = now
            self._store.commit(overdue_rows(self._store.state, call.now))


def document(call: Call, elements: tuple[Element, ...]) -> Element:
    """Return the answer around `elements`, with the attributes and the noise that every answer has."""
    echoed = [Element("func", call.func), Element("out", call.value("out") or "xml")]
    if call.func == "auth":
        echoed.append(Element("username", call.value("username")))
    return Element(
        "doc",
        attributes=(("lang", call.lang), ("func", call.func), ("binary", PANEL_PATH)),
        children=(*elements, Element("tparams", children=tuple(echoed)), Element("saved_filters")),
    )


def error_document(error: PanelError, call: Call) -> Element:
    """Return the answer that refuses."""
    return Element("doc", children=(error.element(lang=call.lang, func=call.func),))


def _planted(call: Call, state: State) -> list[Row]:
    """Return what mischief puts in place before the call: a saved filter, an old deleted namesake."""
    rows: list[Row] = []
    mischief = call.mischief
    if mischief.sticky_filter is not None:
        family = call.func.partition(".")[0]
        list_func = mischief.sticky_list or (family if family in LIST_FUNCTIONS else LIST_FUNCTIONS[0])
        fields = mischief.sticky_filter or {"licname": _NOBODY}
        rows.append(SavedFilter(user=call.user, list_func=list_func, fields=fields))
    if mischief.namesake:
        rows += _namesake(call, state)
    return rows


def _namesake(call: Call, state: State) -> list[Row]:
    kind = listed_kind(call.func)
    code = call.value("pricelist")
    if kind is None or not code.isdigit() or int(code) not in PRODUCTS:
        return []
    created_at = call.now - _NAMESAKE_AGE
    return [
        Service(
            id=min((*state.services, state.world.next_service_id)) - 1,
            user=call.user,
            kind=kind,
            pricelist=int(code),
            period=1,
            created_at=created_at,
            licname=call.value("licname"),
            remoteid=call.value("remoteid"),
            ip=call.value("ip") or call.value("pa_ip"),
            expires_on=months_later(created_at.date(), 1),
            active_at=created_at,
            deleted_at=call.now - _NAMESAKE_DELETED,
        )
    ]


def _as_listed(rows: list[Row], state: State, call: Call) -> list[Row]:
    """Return `rows` with the visibility that mischief sets: new services late or never, new dates late or never."""
    mischief = call.mischief
    if mischief.listed_after_ms is None and not mischief.unlisted:
        return rows
    listed_at = None if mischief.unlisted else call.now + timedelta(milliseconds=mischief.listed_after_ms or 0)
    changed: list[Row] = []
    for row in rows:
        known = state.services.get(row.id) if isinstance(row, Service) else None
        if not isinstance(row, Service) or (known is not None and known.expires_on == row.expires_on):
            changed.append(row)
        else:
            shown = known.expires_on if known is not None else None
            changed.append(replace(row, listed_at=listed_at, unlisted=mischief.unlisted, shown_expires_on=shown))
    return changed


def _with_noise(answer: Element, call: Call) -> Element:
    """Return the answer with harmless extras and another order of elements, the same ones for the same request."""
    digest = hashlib.sha256(f"{call.request_number}:noise".encode()).digest()
    turn = digest[0] % len(answer.children)
    extras = (
        Element("banner", "Try our new products & services", (("id", str(digest[1])),)),
        Element("metadata", attributes=(("name", call.func), ("type", "form"))),
        Element("stack", children=(Element("action", call.func, (("level", "30"), ("user", call.user))),)),
    )
    attributes = (("host", "https://panel.example"), ("themename", "dragon"), ("features", digest.hex()[:32]))
    return answer._replace(
        attributes=(*answer.attributes, *attributes),
        children=(*answer.children[turn:], *extras[digest[2] % 3 :], *answer.children[:turn]),
    )
