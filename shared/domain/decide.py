"""The decider: `(case, command, rules, now)` -> `Decision`. The branches are here, the leaves one file per command.

Order of questions for every request (docs/protocols/isv-endpoint.md 7 and 8.2):
1. a license that is due lapses first, whoever asks;
2. a known fingerprint is answered with the current body, but never for a terminated license: termination is final;
   while an operation is open upstream, its own repeat joins it and every other command waits in line;
3. the state: unknown, lapsed, suspended, terminated;
4. everything that makes the request itself impossible: product, model, date, edge, test flag;
5. a PURCHASE of a number that is held: a repeat when alike, else a conflict.
"""

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from shared.contracts.commands import (
    CallersCommand,
    CloseUpstream,
    LapseLicense,
    LicenseCommand,
    Operation,
    PurchaseLicense,
    RecordActivation,
    RecordProviderOutcome,
    RenewLicense,
    ReportUsage,
    RequestedCommand,
    ResumeLicense,
    SuspendLicense,
    TerminateLicense,
    UpgradeLicense,
)
from shared.contracts.key_commands import (
    ConvertToEdition,
    CreateKey,
    KeyCommand,
    ModifyKey,
    PlanKey,
    ReinstateSus,
    RenewKey,
    RenewSus,
    SetRemainingActivations,
    TerminateKey,
)
from shared.contracts.outcomes import RejectionCode
from shared.domain.case import Case, Rules
from shared.domain.decision import Answer, CurrentBody, Decision, Noted, Pending, Rejected, Waiting
from shared.domain.events import LicenseLapsed, LicenseTerminated
from shared.domain.fingerprint import fingerprint_of
from shared.domain.fulfillment import close_upstream, record_outcome
from shared.domain.key_forecast import forecast
from shared.domain.key_requests import decide_key, named_before
from shared.domain.license import License, LicenseStatus, evolve
from shared.domain.open_operation import OpenOperation
from shared.domain.purchase import purchase
from shared.domain.renew import renew
from shared.domain.report_usage import report_usage
from shared.domain.suspension import record_activation, resume, suspend
from shared.domain.term import is_due
from shared.domain.terminate import terminate
from shared.domain.upgrade import upgrade

LINE_MAX = 32
"""So many commands may wait behind one open operation; terminations always may."""


def decide(case: Case, command: LicenseCommand, rules: Rules, *, now: datetime) -> Decision:
    """Return what becomes of `command`. `now` is the business clock, aware UTC. Never raises."""
    license = case.license
    if license is None or not is_lapse_due(license, now):
        return _decide(case, command, rules, now)
    lapsed = LicenseLapsed(at=now)
    decision = _decide(replace(case, license=evolve(license, lapsed)), command, rules, now)
    return replace(decision, events=(lapsed, *decision.events))


def is_lapse_due(license: License, now: datetime) -> bool:
    """Whether the license still counts as active although its last day is over."""
    return license.status is LicenseStatus.ACTIVE and license.expires_on is not None and is_due(license.expires_on, now)


def _decide(  # noqa: PLR0911 - one per kind of command
    case: Case, command: LicenseCommand, rules: Rules, now: datetime
) -> Decision:
    match command:
        case RecordProviderOutcome():
            return record_outcome(case, command, rules, now=now)
        case LapseLicense():
            return Decision(answer=Noted(), open=case.open)
        case CloseUpstream():
            return close_upstream(case, rules, now=now)
        case PurchaseLicense() | RenewLicense() | UpgradeLicense() | TerminateLicense() | ReportUsage():
            return _answered_at_once(case, command, rules, now) or _asked(case, command, rules, now)
        case SuspendLicense() | ResumeLicense() | RecordActivation():
            return _answered_at_once(case, command, rules, now) or _requested(case.license, command, now)
        case (
            CreateKey()
            | ModifyKey()
            | TerminateKey()
            | RenewKey()
            | RenewSus()
            | ReinstateSus()
            | ConvertToEdition()
            | SetRemainingActivations()
        ):
            return (
                named_before(case, command)
                or _behind(case, command, rules, now)
                or decide_key(case, command, rules, now=now)
            )
        case PlanKey():
            # Judged as if its turn had come: what stands in line before it is not foreseen.
            imagined = _decide(replace(case, open=None, known_request=None), command.as_modification(), rules, now)
            return forecast(case, command, imagined)
        case _:
            assert_never(command)


def _asked(case: Case, command: CallersCommand, rules: Rules, now: datetime) -> Decision:
    match command:
        case PurchaseLicense():
            return purchase(case, command, rules, now=now)
        case RenewLicense():
            return renew(case, command, rules, now=now)
        case UpgradeLicense():
            return upgrade(case, command, rules, now=now)
        case TerminateLicense():
            return terminate(case.license, command, rules.policy, now=now)
        case ReportUsage():
            return report_usage(case, command, rules.catalog, now=now)
        case _:
            assert_never(command)


def _requested(license: License | None, command: RequestedCommand, now: datetime) -> Decision:
    match command:
        case SuspendLicense():
            return suspend(license, command, now=now)
        case ResumeLicense():
            return resume(license, command, now=now)
        case RecordActivation():
            return record_activation(license, command)
        case _:
            assert_never(command)


def _answered_at_once(
    case: Case, command: CallersCommand | RequestedCommand, rules: Rules, now: datetime
) -> Decision | None:
    """Answer a repeat with the current body, join the repeat of what is under way, put all others in line behind it."""
    fingerprint = fingerprint_of(command) if isinstance(command, Operation) else None
    if fingerprint is not None and fingerprint in case.operations and not _is_terminated(case.license):
        return Decision(answer=CurrentBody(fingerprint), open=case.open)
    return _behind(case, command, rules, now)


def _behind(
    case: Case, command: CallersCommand | RequestedCommand | KeyCommand, rules: Rules, now: datetime
) -> Decision | None:
    """Join a command to the operation under way or put it in line behind, None when there is none."""
    if case.open is None:
        return None
    answer, opened = _place(case, case.open, command), case.open
    if isinstance(answer, Waiting) and _would_end(case, opened, command, rules, now):
        opened = replace(opened, termination_waits=True)
    return Decision(answer=answer, open=opened)


def _would_end(
    case: Case,
    open_operation: OpenOperation,
    command: CallersCommand | RequestedCommand | KeyCommand,
    rules: Rules,
    now: datetime,
) -> bool:
    """Whether a command that goes to the line is a termination that will not be refused, as far as is known now.

    One that will be (of another test flag, or by somebody who may not see the key) must hinder nothing.
    """
    if not isinstance(command, TerminateLicense | TerminateKey):
        return False
    if case.license is None:
        bought = open_operation.command
        if not isinstance(bought, PurchaseLicense) or not isinstance(command, TerminateLicense):
            return False
        return command.test in (None, bool(bought.test))
    imagined = _decide(replace(case, open=None), command, rules, now)
    return any(isinstance(event, LicenseTerminated) for event in imagined.events)


def _place(
    case: Case, open_operation: OpenOperation, command: CallersCommand | RequestedCommand | KeyCommand
) -> Answer:
    if open_operation.is_repeated_by(command):
        return Pending()
    if case.in_line >= LINE_MAX and not isinstance(command, TerminateLicense | TerminateKey):
        return Rejected(RejectionCode.LICENSE_BUSY, {"number": command.number})
    return Waiting()


def _is_terminated(license: License | None) -> bool:
    return license is None or license.status is LicenseStatus.TERMINATED
