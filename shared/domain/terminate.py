"""TERMINATE: end the license for good; nothing may hinder it (docs/protocols/isv-endpoint.md 5.4, 7, section 11)."""

from datetime import datetime

from shared.contracts.commands import TerminateLicense
from shared.contracts.outcomes import TerminationOutcome
from shared.domain.case import Policy
from shared.domain.decision import Alert, AlertKind, Decision, Termination
from shared.domain.events import LicenseTerminated, TombstoneRecorded
from shared.domain.license import License, LicenseStatus
from shared.domain.refusals import other_test_flag, unknown


def terminate(license: License | None, command: TerminateLicense, policy: Policy, *, now: datetime) -> Decision:
    """Return the decision on a TERMINATE: effective at once, whatever date it names."""
    if license is None:
        return _bury_unknown(command, policy, now)
    if license.status is LicenseStatus.TERMINATED:
        return Decision(answer=Termination(TerminationOutcome.ALREADY_TERMINATED))
    if (refusal := other_test_flag(license, command.test)) is not None:
        return Decision(answer=refusal)
    return Decision(
        answer=Termination(TerminationOutcome.TERMINATED),
        events=(LicenseTerminated(at=now),),
        alerts=_alerts(license, command),
    )


def _bury_unknown(command: TerminateLicense, policy: Policy, now: datetime) -> Decision:
    if policy.terminate_unknown_is_error:
        return Decision(answer=unknown(command.number))
    tombstone = TombstoneRecorded(
        at=now,
        account=command.account,
        number=command.number,
        product=command.product or "",
        test=bool(command.test),
    )
    return Decision(
        answer=Termination(TerminationOutcome.TOMBSTONE_RECORDED),
        events=(tombstone,),
        alerts=(Alert(AlertKind.TOMBSTONE_RECORDED, f"license {command.number} was terminated but never issued here"),),
    )


def _alerts(license: License, command: TerminateLicense) -> tuple[Alert, ...]:
    if command.product is None or command.product == license.product:
        return ()
    text = f"terminated as {command.product}, held as {license.product}"
    return (Alert(AlertKind.PRODUCT_DIFFERS, text),)
