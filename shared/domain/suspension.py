"""SUSPEND, RESUME and a sighting in use, as other systems ask for them on `license.intake`.

`suspended` is a flag beside the status: setting it twice is done once, and a terminated license has none to set. What
`/isv` answers about a suspended license stands in the table of docs/protocols/isv-endpoint.md 7.
"""

from datetime import datetime

from shared.contracts.commands import RecordActivation, RequestedCommand, ResumeLicense, SuspendLicense
from shared.contracts.requests import RequestOutcome
from shared.domain.decision import Decision, Done, Rejected
from shared.domain.events import LicenseResumed, LicenseSuspended
from shared.domain.license import License, LicenseStatus
from shared.domain.refusals import terminated, unknown


def suspend(license: License | None, command: SuspendLicense, *, now: datetime) -> Decision:
    """Return the decision to switch the license off for now."""
    if license is None or license.status is LicenseStatus.TERMINATED:
        return Decision(answer=_refusal(license, command, "suspended"))
    if license.suspended:
        return Decision(answer=Done(RequestOutcome.ALREADY_SUSPENDED))
    return Decision(answer=Done(RequestOutcome.SUSPENDED), events=(LicenseSuspended(at=now),))


def resume(license: License | None, command: ResumeLicense, *, now: datetime) -> Decision:
    """Return the decision to switch the license on again."""
    if license is None or license.status is LicenseStatus.TERMINATED:
        return Decision(answer=_refusal(license, command, "resumed"))
    if not license.suspended:
        return Decision(answer=Done(RequestOutcome.NOT_SUSPENDED))
    return Decision(answer=Done(RequestOutcome.RESUMED), events=(LicenseResumed(at=now),))


def record_activation(license: License | None, command: RecordActivation) -> Decision:
    """Return the decision on a sighting in use: it changes nothing and stands in the audit, accepted or not.

    One of a terminated license is refused, so that its sender learns that the license is over.
    """
    if license is None or license.status is LicenseStatus.TERMINATED:
        return Decision(answer=_refusal(license, command, "activated"))
    return Decision(answer=Done(RequestOutcome.ACTIVATION_RECORDED))


def _refusal(license: License | None, command: RequestedCommand, action: str) -> Rejected:
    return unknown(command.number) if license is None else terminated(command.number, action)
