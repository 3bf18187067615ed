"""RENEW: set a later last day (docs/protocols/isv-endpoint.md 5.2, 8.2 rules 5 and 6).

The requested expiry is an absolute day: it is set, never added, and that is why repeats are harmless.
"""

from datetime import UTC, datetime

from shared.contracts.commands import RenewLicense
from shared.contracts.outcomes import RejectionCode
from shared.domain.begin import begin, server_data
from shared.domain.case import Case, PastRevision, RevisionCause, Rules
from shared.domain.catalog import Catalog
from shared.domain.decision import Alert, AlertKind, CurrentBody, Decision, Rejected
from shared.domain.events import LicenseRenewed
from shared.domain.fingerprint import fingerprint_of
from shared.domain.license import License, LicenseStatus
from shared.domain.open_operation import Attention, AttentionKind
from shared.domain.provisioning import UpstreamService, plan_renewal
from shared.domain.refusals import earlier_expiry, listed_for, other_test_flag, past_expiry, terminated, unknown
from shared.domain.term import is_due


def renew(case: Case, command: RenewLicense, rules: Rules, *, now: datetime) -> Decision:
    """Return the decision on a RENEW whose fingerprint is not known."""
    license = case.license
    if license is None or license.status is LicenseStatus.TERMINATED:
        answer = unknown(command.number) if license is None else terminated(command.number, "renewed")
        return Decision(answer=answer)
    lost_upgrade = _lost_upgrade(case, command)
    if lost_upgrade is not None and license.service is not None:
        return _lost_upstream(license, command)
    refusal = _refusal(license, command, rules.catalog, now, lost_upgrade=lost_upgrade)
    if refusal is not None:
        return Decision(answer=refusal)
    if license.service is not None:
        return _renew_upstream(case, command, license, license.service, rules, now)
    if lost_upgrade is None and command.expires_on == license.expires_on:
        alerts = _alerts(license, command, lost_upgrade)
        return Decision(answer=CurrentBody(fingerprint_of(command)), alerts=alerts)
    return prolong(license, command, now=now, service=None, lost_upgrade=lost_upgrade)


def prolong(
    license: License,
    command: RenewLicense,
    *,
    now: datetime,
    service: UpstreamService | None,
    lost_upgrade: PastRevision | None = None,
) -> Decision:
    """Return the decision that sets the day and issues a body; `service` is what is held upstream from now on."""
    today = now.astimezone(UTC).date()
    renewed = LicenseRenewed(
        at=now,
        product=command.product,
        active=not is_due(command.expires_on, now),
        expires_on=command.expires_on,
        start_on=command.start_on or today,
        purchase_on=command.purchase_on or today,
        activation_data=command.activation_data or license.activation_data,
        reg_name=command.reg_name or license.reg_name,
        service=service,
    )
    return Decision(
        answer=CurrentBody(fingerprint_of(command)),
        events=(renewed,),
        alerts=_alerts(license, command, lost_upgrade),
        forget_operations_after=None if lost_upgrade is None else lost_upgrade.revision,
    )


def _renew_upstream(
    case: Case, command: RenewLicense, license: License, service: UpstreamService, rules: Rules, now: datetime
) -> Decision:
    """Renew a provider product: prolong and change upstream what has to be, then as any other (isplicense 9.5)."""
    listed = rules.catalog.find(license.product)
    if listed is None:
        return Decision(answer=Rejected(RejectionCode.PRODUCT_UNKNOWN, {"product": license.product}))
    data = server_data(case, command, listed.product, held=service)
    if isinstance(data, Rejected):
        return Decision(answer=data)
    steps = plan_renewal(listed.product, service, data, command.expires_on)
    if steps:
        return begin(case, command, data, steps, rules)
    if command.expires_on == license.expires_on:
        alerts = _alerts(license, command, None)
        return Decision(answer=CurrentBody(fingerprint_of(command)), alerts=alerts)
    return prolong(license, command, now=now, service=service)


def _refusal(
    license: License, command: RenewLicense, catalog: Catalog, now: datetime, *, lost_upgrade: PastRevision | None
) -> Rejected | None:
    listed = listed_for(catalog, command.product, command.model)
    if isinstance(listed, Rejected):
        return listed
    if command.product != license.product and lost_upgrade is None:
        return Rejected(
            RejectionCode.PRODUCT_MISMATCH,
            {"number": command.number, "held": license.product, "product": command.product},
        )
    return (
        past_expiry(command.expires_on, now)
        or earlier_expiry(license, command.expires_on)
        or other_test_flag(license, command.test)
    )


def _lost_upgrade(case: Case, command: RenewLicense) -> PastRevision | None:
    """Return the revision that KA still holds when every change after it was an upgrade that it never received."""
    if case.license is None or command.product == case.license.product or command.previous_body is None:
        return None
    for past in reversed(case.history):
        if past.body == command.previous_body and past.product == command.product:
            return past
        if past.cause is not RevisionCause.UPGRADED:
            return None
    return None


def _lost_upstream(license: License, command: RenewLicense) -> Decision:
    """Refuse to go back to a product whose service upstream is released already; people see to it."""
    text = f"upgrade to {license.product} never reached the caller, who renews {command.product}"
    details = {"number": command.number, "held": license.product, "product": command.product}
    return Decision(
        answer=Rejected(RejectionCode.UPGRADE_LOST_UPSTREAM, details),
        attention=(Attention(AttentionKind.UPGRADE_LOST, text),),
    )


def _alerts(license: License, command: RenewLicense, lost_upgrade: PastRevision | None) -> tuple[Alert, ...]:
    alerts = []
    if lost_upgrade is not None:
        text = f"upgrade to {license.product} never reached the caller: back to {command.product}"
        alerts.append(Alert(AlertKind.UPGRADE_REVERSED, text))
    if command.subscription_on is not None and command.subscription_on != license.subscription_on:
        text = f"subscription date stays {license.subscription_on}, the request says {command.subscription_on}"
        alerts.append(Alert(AlertKind.SUBSCRIPTION_DATE_DIFFERS, text))
    return tuple(alerts)
