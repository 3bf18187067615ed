"""Provider products: an operation begins with orders, goes on with their outcomes, and ends like a local one.

docs/protocols/isplicense.md 9, docs/protocols/isv-endpoint.md 9. Nothing here is sent; the provider role carries
orders out and hands each outcome back as `RecordProviderOutcome`.
"""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import assert_never

from shared.contracts.commands import PurchaseLicense, RecordProviderOutcome, RenewLicense, UpgradeLicense
from shared.contracts.key_commands import ModifyKey
from shared.contracts.outcomes import RejectionCode
from shared.domain.case import Case, Rules
from shared.domain.decision import Decision, Noted, Rejected
from shared.domain.events import ServiceChanged
from shared.domain.key_fulfillment import Fulfilled, finish, undo
from shared.domain.license import License, LicenseStatus
from shared.domain.open_operation import Attention, AttentionKind, OpenOperation, confirmed
from shared.domain.provider_operation import Elid
from shared.domain.provider_outcome import OUR_TROUBLE, Refusal
from shared.domain.provisioning import Step, StepKind, UpstreamService, plan_end, plan_periods, reaches
from shared.domain.purchase import issue
from shared.domain.renew import prolong
from shared.domain.upgrade import switch

REFUSED_VALUES = frozenset({Refusal.INVALID_VALUE, Refusal.DUPLICATE})


def record_outcome(case: Case, command: RecordProviderOutcome, rules: Rules, *, now: datetime) -> Decision:
    """Return what the outcome of a provider order leads to."""
    open_operation = case.open
    if open_operation is None or open_operation.order_id != command.order_id:
        return _released(case, command)
    if command.confirmed:
        return _go_on(case, open_operation, command, rules, now)
    kind = open_operation.step.kind
    if isinstance(open_operation.command, ModifyKey) and kind is not StepKind.PROLONG:
        return _settled(undo(case, open_operation, open_operation.service, refusal_answer(command)), command)
    is_addition = kind in (StepKind.NODES, StepKind.PROLONG)
    if is_addition and open_operation.service is not None and _ordered(open_operation):
        return _settled(_without(case, open_operation, open_operation.service, command, rules, now), command)
    return _give_up(case, open_operation, command, now)


def _without(
    case: Case,
    open_operation: OpenOperation,
    service: UpstreamService,
    command: RecordProviderOutcome,
    rules: Rules,
    now: datetime,
) -> Decision:
    """Go on without what was refused: the new service is there and paid, so the license is issued; people see to it."""
    if open_operation.step.kind is StepKind.PROLONG:
        text = f"order {command.order_id}: a period of service {service.elid} was refused ({command.refusal})"
        finding = Attention(AttentionKind.PERIOD_REFUSED, f"{text}: it ends {service.expires_on}")
        decision = _end(case, open_operation, service, rules, now)
    else:
        text = f"order {command.order_id}: {open_operation.data.nodes} nodes were refused ({command.refusal})"
        finding = Attention(AttentionKind.NODES_REFUSED, text)
        decision = _next(case, open_operation, service, rules, now)
    if open_operation.termination_waits and command.refusal == Refusal.CANCELED:
        return decision  # not refused but not wanted any more: nothing for people to see to
    return replace(decision, attention=(finding, *decision.attention))


def _go_on(
    case: Case, open_operation: OpenOperation, command: RecordProviderOutcome, rules: Rules, now: datetime
) -> Decision:
    assert command.service_id is not None or open_operation.service is not None  # noqa: S101 - confirmed names it
    held = open_operation.service
    read = UpstreamService(
        elid=Elid(command.service_id) if command.service_id is not None else held.elid,  # type: ignore[union-attr]  # the line above
        sku=open_operation.step.product.sku,
        data=open_operation.data,
        expires_on=command.service_expires_on,
        key=command.service_key,
        account=open_operation.step.account,
    )
    service = confirmed(open_operation, read)
    return _settled(_next(case, open_operation, service, rules, now), command)


def _next(case: Case, open_operation: OpenOperation, service: UpstreamService, rules: Rules, now: datetime) -> Decision:
    """Return the next step of the plan, and of the periods that the service turns out to lack; else the end."""
    following = open_operation.position + 1
    until = _paid_until(case, open_operation)
    steps = _still_to_do(open_operation.steps, following, service, until)
    if following == len(steps) and not open_operation.termination_waits:
        steps = (*steps, *_lacking(open_operation, service, until))
    if following == len(steps):
        decision = _end(case, open_operation, service, rules, now)
        return replace(decision, attention=(*_shortfall(open_operation, service, until), *decision.attention))
    if open_operation.termination_waits:
        return _cut_short(case, open_operation, service, rules, now)
    moved = replace(open_operation, steps=steps, position=following, service=service, order_id=None)
    return Decision(answer=Noted(), open=moved, order=moved.step)


def _shortfall(open_operation: OpenOperation, service: UpstreamService, until: date | None) -> tuple[Attention, ...]:
    """Return the finding that the license outlasts its service although all that was asked for is paid.

    More periods than are paid at once, or a panel that gives less than it was asked for: the next RENEW may be far.
    """
    reached = service.expires_on
    if open_operation.termination_waits or reached is None or until is None or reaches(reached, until):
        return ()
    text = f"service {service.elid} ends {reached}, its license lasts until {until}: periods are missing"
    return (Attention(AttentionKind.SERVICE_DIFFERS, text),)


def _cut_short(
    case: Case, open_operation: OpenOperation, service: UpstreamService, rules: Rules, now: datetime
) -> Decision:
    """End before the plan does: a termination waits, and nobody will need what is not ordered yet.

    A new service goes to the license, so that it is released with it. What was only renewed or changed is recorded.
    """
    if _ordered(open_operation):
        return _end(case, open_operation, service, rules, now)
    answer = Rejected(RejectionCode.PROVIDER_UNAVAILABLE, {"number": open_operation.command.number})
    return _without_effect(case, service, answer, now)


def _still_to_do(
    steps: tuple[Step, ...], following: int, service: UpstreamService, until: date | None
) -> tuple[Step, ...]:
    """Return the plan without the periods that the service does not lack any more, as it was read last.

    The plan reckoned with calendar months; the panel may count otherwise (a suspended service is renewed from today).
    A period is paid only while the service's last day is before the renewal day (isplicense 9.5), never on a guess.
    """
    reached = service.expires_on
    if reached is None or until is None or following == len(steps) or steps[following].kind is not StepKind.PROLONG:
        return steps
    if reaches(reached, until):
        left = tuple(step for step in steps[following:] if step.kind is not StepKind.PROLONG)
        return (*steps[:following], *left)
    return (*steps[:following], replace(steps[following], expires_before=reached), *steps[following + 1 :])


def _lacking(open_operation: OpenOperation, service: UpstreamService, until: date | None) -> tuple[Step, ...]:
    """Return the periods that the service ordered by an upgrade lacks until the license's last day, decided once.

    The order paid one period from today; the license is paid until its last day. Until the next RENEW, which would
    find the gap by the same rule, nobody else could close it.
    """
    command = open_operation.command
    if until is None or not isinstance(command, UpgradeLicense | ModifyKey) or not _ordered(open_operation):
        return ()
    if any(step.kind is StepKind.PROLONG for step in open_operation.steps):
        return ()
    return plan_periods(open_operation.step.product, service, open_operation.data, until)


def _paid_until(case: Case, open_operation: OpenOperation) -> date | None:
    """Return the last day until which the operation pays: the one asked for, else the license's; None for a new one."""
    command = open_operation.command
    match command:
        case PurchaseLicense():
            return None
        case RenewLicense():
            return command.expires_on
        case UpgradeLicense() | ModifyKey():
            asked_until = command.expires_on if isinstance(command, UpgradeLicense) else None
            assert case.license is not None  # noqa: S101 - nothing ends a license while an operation is open
            return asked_until or case.license.expires_on
        case _:
            assert_never(command)


def _end(case: Case, open_operation: OpenOperation, service: UpstreamService, rules: Rules, now: datetime) -> Decision:
    """Return the decision of the command that began the operation, now that everything upstream is done."""
    command = open_operation.command
    releases: tuple[Step, ...] = ()
    match command:
        case PurchaseLicense():
            done = issue(command, now=now, service=service)
        case RenewLicense():
            assert case.license is not None  # noqa: S101 - nothing ends a license while an operation is open
            done = prolong(case.license, command, now=now, service=service)
        case UpgradeLicense():
            assert case.license is not None  # noqa: S101 - as above
            done = switch(case.license, command, now=now, service=service)
            releases = _superseded(case.license, service, rules)
        case ModifyKey():
            assert case.license is not None  # noqa: S101 - as above
            superseded = _superseded(case.license, service, rules)
            return finish(case, open_operation, command, Fulfilled(service, superseded), rules, now=now)
        case _:
            assert_never(command)
    return replace(done, answer=Noted(), settled_answer=done.answer, releases=releases)


def _superseded(license: License, service: UpstreamService, rules: Rules) -> tuple[Step, ...]:
    old = license.service
    if old is None or (old.account, old.elid) == (service.account, service.elid):
        return ()
    product = rules.catalog.products.get(old.sku)
    return () if product is None else (plan_end(product, old),)


def _ordered(open_operation: OpenOperation) -> bool:
    return open_operation.steps[0].kind is StepKind.ORDER


def _give_up(case: Case, open_operation: OpenOperation, command: RecordProviderOutcome, now: datetime) -> Decision:
    """End without the effect; what earlier steps changed upstream stays recorded, so that nothing is paid twice."""
    return _settled(_without_effect(case, open_operation.service, refusal_answer(command), now), command)


def _without_effect(case: Case, service: UpstreamService | None, answer: Rejected, now: datetime) -> Decision:
    """Return the decision that ends an operation with a refusal and keeps on record what became of its service."""
    is_changed = case.license is not None and service not in (None, case.license.service)
    events = (ServiceChanged(at=now, service=service),) if is_changed else ()
    return Decision(answer=Noted(), events=events, settled_answer=answer)


def _released(case: Case, command: RecordProviderOutcome) -> Decision:
    """Take in the outcome of an order that nobody waits for: a service that was to be released."""
    decision = Decision(answer=Noted(), open=case.open)
    license = case.license
    if not command.confirmed:
        text = f"order {command.order_id}: service {command.service_id} is not released ({command.refusal})"
        return _settled(replace(decision, attention=(Attention(AttentionKind.CLOSE_REFUSED, text),)), command)
    if _holds(license, command) and license is not None and license.status is LicenseStatus.TERMINATED:
        at = license.terminated_at
        assert at is not None  # noqa: S101 - a terminated license has its moment
        decision = replace(decision, events=(ServiceChanged(at=at, service=None),))
    return _settled(decision, command)


def _holds(license: License | None, command: RecordProviderOutcome) -> bool:
    held = None if license is None else license.service
    return held is not None and (held.account, held.elid) == (command.provider_account, command.service_id)


def _settled(decision: Decision, command: RecordProviderOutcome) -> Decision:
    return replace(decision, settled_order=command.order_id)


def refusal_answer(command: RecordProviderOutcome) -> Rejected:
    """Return what callers are told of a refusal (docs/protocols/isplicense.md 11)."""
    number = {"number": command.number}
    if command.refusal in REFUSED_VALUES:
        return Rejected(RejectionCode.PROVIDER_VALUE_REFUSED, number)
    if command.refusal in OUR_TROUBLE or command.refusal == Refusal.CANCELED:
        return Rejected(RejectionCode.PROVIDER_UNAVAILABLE, number)
    return Rejected(RejectionCode.PROVIDER_REFUSED, number)


def close_upstream(case: Case, rules: Rules, *, now: datetime) -> Decision:
    """Return the decision that releases the service of a terminated license whose wind-down is over."""
    license = case.license
    if license is None or license.service is None or license.terminated_at is None:
        return Decision(answer=Noted(), open=case.open)
    product = rules.catalog.products.get(license.service.sku)
    if product is None or now < license.terminated_at + timedelta(days=product.wind_down_days):
        return Decision(answer=Noted(), open=case.open)
    return Decision(answer=Noted(), open=case.open, releases=(plan_end(product, license.service),))
