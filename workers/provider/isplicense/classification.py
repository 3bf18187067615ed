"""What became of a send: the table of docs/protocols/isplicense.md 9.2, row by row, the first that fits.

The default is `Unknown`. `NotSent` and `Refused` are promises that nothing was charged; they are given only where the
table gives them.
"""

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import assert_never

from shared.domain.provider_operation import (
    ChangeService,
    Elid,
    EndService,
    OrderModule,
    OrderPlesk,
    OrderSoftware,
    ProviderOperation,
    RenewService,
    SetNodes,
    elid_of,
)
from shared.domain.provider_outcome import (
    Accepted,
    Confirmed,
    Evidence,
    NotSent,
    PaymentRequired,
    Refusal,
    Refused,
    SendOutcome,
    SeveralIds,
    Unknown,
)
from shared.domain.provider_service import is_odd_advance
from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.documents import (
    PanelError,
    error_of,
    id_texts_of,
    is_form_echo,
    ok_of,
    payment_ids_of,
    renewed_until,
)
from workers.provider.isplicense.redaction import Redactor
from workers.provider.isplicense.transport import Broken, Received
from workers.provider.isplicense.xml_reading import Element

REFUSAL_BY_TYPE = {
    "auth": Refusal.AUTH_FAILED,
    "access": Refusal.ACCESS_DENIED,
    "missed": Refusal.NOT_FOUND,
    "value": Refusal.INVALID_VALUE,
    "exists": Refusal.DUPLICATE,
    "extraconfirm": Refusal.TWO_FACTOR_REQUIRED,
    "captcha_verification_failed": Refusal.CAPTCHA,
    "pricelist_min_order": Refusal.TERM_LOCKED,
    "wizard_unavailable": Refusal.INVALID_VALUE,
    "xml": Refusal.UPSTREAM_FAULT,
}
REFUSAL_BY_STATUS: dict[int, Refusal] = {
    HTTPStatus.UNAUTHORIZED: Refusal.ACCESS_DENIED,
    HTTPStatus.FORBIDDEN: Refusal.HELD_OFF,
    HTTPStatus.NOT_FOUND: Refusal.REJECTED,
    HTTPStatus.METHOD_NOT_ALLOWED: Refusal.REJECTED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Refusal.REJECTED,
    HTTPStatus.TOO_MANY_REQUESTS: Refusal.HELD_OFF,
}
PAYMENT_FUNCTIONS = ("func=payment", "func=basket", "func=cart", "func=billorder")
SECOND_FACTOR_FUNCTIONS = ("func=totp", "func=auth")
SUBJECT_CHARACTERS_MAX = 60
ALREADY_GONE_SUBJECTS = frozenset({"", "elid"})


def refused_here(objection: str) -> Refused:
    """Return the outcome of an operation that was not worth sending."""
    return Refused(refusal=Refusal.INVALID_VALUE, evidence=Evidence(row=0, detail=objection))


def refusal_of(error: PanelError, account: PanelAccount) -> Refusal:
    """Return the class of an error document (3.2)."""
    if error.type in account.money_error_types:
        return Refusal.PAYMENT_REQUIRED
    return REFUSAL_BY_TYPE.get(error.type, Refusal.REJECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """Judges answers for one account."""

    account: PanelAccount
    redactor: Redactor

    def broken(self, broken: Broken) -> SendOutcome:
        """Rows 1 and 2: no answer."""
        if broken.maybe_sent:
            return Unknown(evidence=Evidence(row=2, detail=broken.detail))
        return NotSent(evidence=Evidence(row=1, detail=broken.detail))

    def status(self, received: Received) -> SendOutcome:
        """Rows 3 and 4: any status but 200."""
        refusal = REFUSAL_BY_STATUS.get(received.status)
        evidence = self._evidence(received, row=4 if refusal is None else 3, detail=f"HTTP {received.status}")
        if refusal is None or self.account.front_refusals_unknown:
            return Unknown(evidence=evidence)
        return Refused(refusal=refusal, evidence=evidence)

    def unreadable(self, received: Received, reason: str, *, row: int) -> SendOutcome:
        """Rows 5 and 6: the answer is elsewhere and we do not go there, or it is no document."""
        return Unknown(evidence=self._evidence(received, row=row, detail=reason))

    def document(self, operation: ProviderOperation, root: Element, received: Received) -> SendOutcome:
        """Rows 7 to 15: a document whose root is `doc`."""
        evidence = self._evidence(received, row=15, detail="unforeseen answer")
        error = error_of(root)
        if error is not None:
            return self._error(operation, error, evidence)
        ok = ok_of(root)
        return self._stopped_short(root, ok, evidence) or _answer(operation, root, evidence, accepted=ok is not None)

    def _stopped_short(self, root: Element, ok: str | None, evidence: Evidence) -> SendOutcome | None:
        """Rows 9 and 10: something was begun that goes no further."""
        if root.all("billorder") or root.all("payment_id") or (ok is not None and _names_payment(ok)):
            ids = tuple(self.redactor.text(each)[:SUBJECT_CHARACTERS_MAX] for each in payment_ids_of(root))
            return PaymentRequired(evidence=replace(evidence, row=9, detail="awaits payment"), ids=ids)
        if ok is not None and ok.startswith(SECOND_FACTOR_FUNCTIONS):
            factor = replace(evidence, row=10, detail="wants a second factor")
            return Refused(refusal=Refusal.TWO_FACTOR_REQUIRED, evidence=factor)
        return None

    def _error(self, operation: ProviderOperation, error: PanelError, evidence: Evidence) -> SendOutcome:
        """Rows 7 and 8."""
        subject = self.redactor.text(error.subject)[:SUBJECT_CHARACTERS_MAX]
        words = f"error type={self.redactor.text(error.type)[:SUBJECT_CHARACTERS_MAX]!r} object={subject!r}"
        if error.type in self.account.ambiguous_error_types:
            return Unknown(evidence=replace(evidence, row=8, detail=words))
        definite = replace(evidence, row=7, detail=words)
        refusal = refusal_of(error, self.account)
        if isinstance(operation, EndService) and _is_gone(error):
            return Confirmed(elid=operation.elid, evidence=replace(definite, notes=("it was gone already",)))
        if refusal is Refusal.PAYMENT_REQUIRED:
            return PaymentRequired(evidence=definite)
        return Refused(refusal=refusal, evidence=definite, subject=subject)

    def _evidence(self, received: Received, *, row: int, detail: str) -> Evidence:
        return Evidence(
            row=row,
            detail=detail,
            http_status=received.status,
            body_sha256=received.sha256,
            excerpt=self.redactor.excerpt(received.body),
        )


def _answer(operation: ProviderOperation, root: Element, evidence: Evidence, *, accepted: bool) -> SendOutcome:
    """Rows 11 to 15, by the kind of operation."""
    match operation:
        case OrderSoftware() | OrderPlesk() | OrderModule():
            return _order_answer(root, evidence, accepted=accepted)
        case RenewService():
            return _renewal_answer(operation, root, evidence, accepted=accepted)
        case SetNodes() | ChangeService() | EndService():
            return _known_service_answer(operation.elid, root, evidence, accepted=accepted)
        case _:
            assert_never(operation)


def _names_payment(ok: str) -> bool:
    """Whether `<ok>` leads to a payment, basket or cart: as a function, or as an address that calls one."""
    if ok.startswith(PAYMENT_FUNCTIONS):
        return True
    is_address = ok.startswith(("http://", "https://", "/", "?"))
    return is_address and any(part.startswith(PAYMENT_FUNCTIONS) for part in ok.replace("?", "&").split("&"))


def _is_gone(error: PanelError) -> bool:
    """Whether the error says that the service, and not the function, is missing (9.5)."""
    return error.type == "missed" and error.subject in ALREADY_GONE_SUBJECTS


def _order_answer(root: Element, evidence: Evidence, *, accepted: bool) -> SendOutcome:
    """Rows 11 to 15 for O1-O3."""
    texts = id_texts_of(root)
    if len(texts) > 1:
        elids = tuple(elid for text in texts if (elid := elid_of(text)) is not None)
        return SeveralIds(elids=elids, evidence=replace(evidence, row=12, detail=f"{len(texts)} distinct ids"))
    if texts:
        elid = elid_of(texts[0])
        if elid is not None:
            return Confirmed(elid=elid, evidence=replace(evidence, row=11, detail="one id"))
        unusable = replace(evidence, detail="the id is no positive number")
        return Accepted(evidence=unusable) if accepted else Unknown(evidence=unusable)
    return _without_id(root, evidence, accepted=accepted)


def _renewal_answer(operation: RenewService, root: Element, evidence: Evidence, *, accepted: bool) -> SendOutcome:
    """Rows 13 to 15 for O6: done when the answer names a later last day, else accepted and to be read back (9.5)."""
    until, text = renewed_until(root)
    if not accepted or until is None or until <= operation.expires_before:
        odd = ("newexpiredate is no later day",) if text else ()
        return _without_id(root, replace(evidence, notes=odd), accepted=accepted)
    is_odd = is_odd_advance(operation.expires_before, until, operation.period_months)
    notes = ("the last day moved by something else than the period",) if is_odd else ()
    return Confirmed(
        elid=operation.elid, evidence=replace(evidence, row=11, detail="renewed", notes=notes), expires_on=until
    )


def _known_service_answer(elid: Elid, root: Element, evidence: Evidence, *, accepted: bool) -> SendOutcome:
    """Rows 11 to 15 for O4, O5, O7: `ok` is enough, unless the answer speaks of another service."""
    texts = id_texts_of(root)
    if accepted and set(texts) <= {str(elid)}:
        return Confirmed(elid=elid, evidence=replace(evidence, row=11, detail="accepted for a known service"))
    if accepted:
        return Accepted(evidence=replace(evidence, detail="accepted, but for another id"))
    return _without_id(root, evidence, accepted=False)


def _without_id(root: Element, evidence: Evidence, *, accepted: bool) -> SendOutcome:
    """Rows 13 to 15."""
    if accepted:
        return Accepted(evidence=replace(evidence, row=13, detail="ok without an id"))
    if is_form_echo(root):
        return Refused(refusal=Refusal.PROTOCOL, evidence=replace(evidence, row=14, detail="the form came back"))
    return Unknown(evidence=evidence)
