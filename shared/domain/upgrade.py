"""UPGRADE: switch to a higher product; the dates stay (docs/protocols/isv-endpoint.md 5.3, section 11 rows 9 to 11)."""

from datetime import UTC, datetime

from shared.contracts.commands import UpgradeLicense
from shared.contracts.outcomes import RejectionCode
from shared.domain.begin import begin, parent_service, server_data
from shared.domain.case import Case, Rules
from shared.domain.catalog import Listed
from shared.domain.decision import Alert, AlertKind, CurrentBody, Decision, Rejected
from shared.domain.events import LicenseUpgraded
from shared.domain.fingerprint import fingerprint_of
from shared.domain.license import License, LicenseStatus
from shared.domain.provisioning import UpstreamService, plan_change, plan_order
from shared.domain.refusals import (
    earlier_expiry,
    listed_for,
    other_test_flag,
    past_expiry,
    terminated,
    unknown,
)


def upgrade(case: Case, command: UpgradeLicense, rules: Rules, *, now: datetime) -> Decision:
    """Return the decision on an UPGRADE whose fingerprint is not known."""
    license = case.license
    if license is None or license.expires_on is None:
        return Decision(answer=_state_refusal(license, command) or unknown(command.number))
    refusal = _state_refusal(license, command) or _request_refusal(license, command, rules, now)
    if refusal is not None:
        return Decision(answer=refusal)
    if license.service is not None:
        return _upgrade_upstream(case, command, license, license.service, rules, now)
    if command.product == license.product:
        return Decision(answer=CurrentBody(fingerprint_of(command)))
    return switch(license, command, now=now, service=None)


def switch(license: License, command: UpgradeLicense, *, now: datetime, service: UpstreamService | None) -> Decision:
    """Return the decision that makes the license the new product; `service` is what is held upstream from now on."""
    expires_on = command.expires_on or license.expires_on
    assert expires_on is not None  # noqa: S101 - only a tombstone has none, and it is never upgraded
    upgraded = LicenseUpgraded(
        at=now,
        product=command.product,
        expires_on=expires_on,
        purchase_on=command.purchase_on or now.astimezone(UTC).date(),
        activation_data=command.activation_data or license.activation_data,
        service=service,
    )
    moved = (
        (
            Alert(
                AlertKind.UPGRADE_MOVED_EXPIRY, f"upgrade moved the last day from {license.expires_on} to {expires_on}"
            ),
        )
        if expires_on != license.expires_on
        else ()
    )
    return Decision(answer=CurrentBody(fingerprint_of(command)), events=(upgraded,), alerts=moved)


def _upgrade_upstream(
    case: Case, command: UpgradeLicense, license: License, service: UpstreamService, rules: Rules, now: datetime
) -> Decision:
    """Upgrade a provider product: order the new one, and only when it is confirmed release the old one.

    The other order would leave the customer without a service when the new one is refused.
    """
    target = rules.catalog.find(command.product)
    if target is None:
        return Decision(answer=Rejected(RejectionCode.PRODUCT_UNKNOWN, {"product": command.product}))
    data = server_data(case, command, target.product, held=service)
    if isinstance(data, Rejected):
        return Decision(answer=data)
    if target.product.sku == service.sku:
        steps = plan_change(target.product, service, data)
    else:
        parent = parent_service(case, target.product, data)
        if isinstance(parent, Rejected):
            return Decision(answer=parent)
        steps = plan_order(target.product, data, parent, test=license.test)
    if steps:
        return begin(case, command, data, steps, rules)
    if command.product == license.product:
        return Decision(answer=CurrentBody(fingerprint_of(command)))
    return switch(license, command, now=now, service=service)


def _state_refusal(license: License | None, command: UpgradeLicense) -> Rejected | None:
    if license is None:
        return unknown(command.number)
    if license.status is LicenseStatus.TERMINATED:
        return terminated(command.number, "upgraded")
    if license.status is LicenseStatus.LAPSED:
        return Rejected(RejectionCode.LICENSE_LAPSED, {"number": command.number})
    if license.suspended:
        return Rejected(RejectionCode.LICENSE_SUSPENDED, {"number": command.number})
    return None


def _request_refusal(license: License, command: UpgradeLicense, rules: Rules, now: datetime) -> Rejected | None:
    target = listed_for(rules.catalog, command.product, command.model)
    if isinstance(target, Rejected):
        return target
    dates = None
    if command.expires_on is not None:
        dates = past_expiry(command.expires_on, now) or earlier_expiry(license, command.expires_on)
    return dates or _edge_refusal(license, target, rules) or other_test_flag(license, command.test)


def _edge_refusal(license: License, target: Listed, rules: Rules) -> Rejected | None:
    wanted = target.product_id
    if wanted == license.product:
        return None
    current = rules.catalog.find(license.product)
    allowed = current is not None and rules.catalog.can_upgrade(
        current, target, nfr_to_regular_allowed=rules.policy.nfr_to_regular_allowed
    )
    return None if allowed else Rejected(RejectionCode.UPGRADE_NOT_OFFERED, {"from": license.product, "to": wanted})
