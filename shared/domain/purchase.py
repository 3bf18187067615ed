"""PURCHASE: create a license, or recognize that it was created already (docs/protocols/isv-endpoint.md 5.1, 8.2)."""

from datetime import UTC, datetime

from shared.contracts.commands import PurchaseLicense
from shared.contracts.outcomes import RejectionCode
from shared.domain.begin import begin, parent_service, server_data
from shared.domain.case import Case, Rules
from shared.domain.catalog import Product, Provider
from shared.domain.decision import CurrentBody, Decision, Rejected
from shared.domain.events import LicenseIssued
from shared.domain.fingerprint import fingerprint_of
from shared.domain.license import License, LicenseStatus
from shared.domain.provisioning import UpstreamService, plan_order
from shared.domain.refusals import listed_for, past_expiry, terminated
from shared.domain.term import ALIKE_EXPIRY_DAYS


def purchase(case: Case, command: PurchaseLicense, rules: Rules, *, now: datetime) -> Decision:
    """Return the decision on a PURCHASE whose fingerprint is not known."""
    license = case.license
    if license is not None and license.status is LicenseStatus.TERMINATED:
        return Decision(answer=terminated(command.number, "purchased again"))
    listed = listed_for(rules.catalog, command.product, command.model)
    if isinstance(listed, Rejected):
        return Decision(answer=listed)
    if (past := past_expiry(command.expires_on, now)) is not None:
        return Decision(answer=past)
    if license is not None:
        return _held(license, command)
    if listed.product.provider is Provider.LOCAL:
        return issue(command, now=now, service=None)
    return _order(case, command, listed.product, rules)


def _order(case: Case, command: PurchaseLicense, product: Product, rules: Rules) -> Decision:
    data = server_data(case, command, product, held=None)
    if isinstance(data, Rejected):
        return Decision(answer=data)
    parent = parent_service(case, product, data)
    if isinstance(parent, Rejected):
        return Decision(answer=parent)
    return begin(case, command, data, plan_order(product, data, parent, test=bool(command.test)), rules)


def _held(license: License, command: PurchaseLicense) -> Decision:
    if _is_alike(license, command):
        return Decision(answer=CurrentBody(fingerprint_of(command)))
    return Decision(answer=Rejected(RejectionCode.LICENSE_EXISTS, {"number": command.number}))


def _is_alike(license: License, command: PurchaseLicense) -> bool:
    return (
        license.product == command.product
        and license.model is command.model
        and license.test == bool(command.test)
        and license.activation_data == command.activation_data
        and license.expires_on is not None
        and abs((command.expires_on - license.expires_on).days) <= ALIKE_EXPIRY_DAYS
    )


def issue(command: PurchaseLicense, *, now: datetime, service: UpstreamService | None) -> Decision:
    """Return the decision that creates the license; `service` is what was ordered upstream for it."""
    today = now.astimezone(UTC).date()
    start_on = command.start_on or today
    issued = LicenseIssued(
        at=now,
        account=command.account,
        number=command.number,
        product=command.product,
        model=command.model,
        test=bool(command.test),
        subscription_on=command.subscription_on or start_on,
        start_on=start_on,
        purchase_on=command.purchase_on or today,
        expires_on=command.expires_on,
        activation_data=command.activation_data,
        reg_name=command.reg_name,
        service=service,
    )
    return Decision(answer=CurrentBody(fingerprint_of(command)), events=(issued,))
