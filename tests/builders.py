"""Builders with defaults: the license, catalog and commands that most tests start from. Literals stay in the tests."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from shared.contracts.commands import (
    LicenseCommand,
    LicensingModel,
    PurchaseLicense,
    RenewLicense,
    ReportUsage,
    TerminateLicense,
    UpgradeLicense,
)
from shared.contracts.envelope import Envelope, new_id
from shared.contracts.identifiers import CommandId, Fingerprint
from shared.domain.case import Case, PastRevision, Policy, Rules
from shared.domain.catalog import Catalog, Counter, CounterKind, Product, ProductKind, Provider, ProviderOffer
from shared.domain.decide import decide
from shared.domain.decision import Decision
from shared.domain.license import License, LicenseStatus, evolve

NOW = datetime(2027, 2, 5, 9, 30, tzinfo=UTC)
MARCH = date(2027, 3, 15)
APRIL = date(2027, 4, 15)

CATALOG = Catalog(
    version=1,
    products={
        product.sku: product
        for product in (
            Product(sku="Bronze", upgrades_to=("Silver", "Gold")),
            Product(sku="Silver", upgrades_to=("Gold",)),
            Product(sku="Gold"),
            Product(
                sku="CloudBackup",
                model=LicensingModel.REPORTING,
                counters=(
                    Counter(name="storedGigabytes", kind=CounterKind.LEVEL),
                    Counter(name="protectedServers", kind=CounterKind.LEVEL),
                ),
            ),
            Product(
                sku="ISPMGR6-LITE",
                upgrades_to=("ISPMGR6-PRO", "ISPMGR6-BUSINESS"),
                provider=Provider.ISPLICENSE,
                offer=ProviderOffer(order_function="softexternal.order.param", pricelist=546),
            ),
            Product(
                sku="ISPMGR6-PRO",
                provider=Provider.ISPLICENSE,
                offer=ProviderOffer(order_function="softexternal.order.param", pricelist=547),
            ),
            Product(
                sku="ISPMGR6-BUSINESS",
                provider=Provider.ISPLICENSE,
                offer=ProviderOffer(order_function="softexternal.order.param", pricelist=549, node_code=550),
            ),
            Product(
                sku="SOFTACULOUS-ISPMGR5",
                provider=Provider.ISPLICENSE,
                offer=ProviderOffer(order_function="addition.order.param", pricelist=356),
            ),
            Product(sku="360-MON-1M", kind=ProductKind.KEY_ITEM),
        )
    },
)


def rules(**policy: bool) -> Rules:
    """The example rules with switches."""
    return Rules(catalog=CATALOG, policy=Policy(**policy))


def a_purchase(**changes: Any) -> PurchaseLicense:
    """Example 1: Bronze to 15 March 2027."""
    plain = PurchaseLicense(
        account="ka",
        number="00481516",
        product="Bronze",
        model=LicensingModel.STANDARD,
        test=False,
        expires_on=MARCH,
        start_on=date(2027, 2, 5),
        subscription_on=date(2027, 2, 5),
        purchase_on=date(2027, 2, 5),
        reg_name="60321",
    )
    return replace(plain, **changes)


def a_renew(**changes: Any) -> RenewLicense:
    """Example 10: one month on."""
    plain = RenewLicense(
        account="ka",
        number="00481516",
        product="Bronze",
        model=LicensingModel.STANDARD,
        test=False,
        expires_on=APRIL,
        start_on=date(2027, 3, 5),
        purchase_on=date(2027, 3, 5),
        subscription_on=date(2027, 2, 5),
    )
    return replace(plain, **changes)


def an_upgrade(**changes: Any) -> UpgradeLicense:
    """Example 12: Bronze to Gold, dates as they are."""
    plain = UpgradeLicense(
        account="ka", number="00481516", product="Gold", model=LicensingModel.STANDARD, test=False, expires_on=MARCH
    )
    return replace(plain, **changes)


def a_terminate(**changes: Any) -> TerminateLicense:
    """Example 15."""
    return replace(TerminateLicense(account="ka", number="00481516", product="Bronze", test=False), **changes)


def a_usage_question(**changes: Any) -> ReportUsage:
    """Example 19, for the number that the others use."""
    return replace(ReportUsage(account="ka", number="00481516", product="CloudBackup", test=False), **changes)


def a_license(**changes: Any) -> License:
    """The license that Example 1 makes."""
    plain = License(
        account="ka",
        number="00481516",
        product="Bronze",
        model=LicensingModel.STANDARD,
        status=LicenseStatus.ACTIVE,
        subscription_on=date(2027, 2, 5),
        start_on=date(2027, 2, 5),
        purchase_on=date(2027, 2, 5),
        expires_on=MARCH,
        reg_name="60321",
        revision=1,
        sequence=1,
    )
    return replace(plain, **changes)


def decided(
    license: License | None,
    command: LicenseCommand,
    *,
    now: datetime = NOW,
    operations: Mapping[Fingerprint, int] | None = None,
    history: tuple[PastRevision, ...] = (),
    **policy: bool,
) -> Decision:
    """Decide `command` on `license` with the example rules."""
    case = Case(license=license, operations=operations or {}, history=history)
    return decide(case, command, rules(**policy), now=now)


def after(license: License | None, decision: Decision) -> License:
    """The license as the decision's events leave it."""
    for event in decision.events:
        license = evolve(license, event)
    assert license is not None
    return license


def an_envelope(command: LicenseCommand, **changes: Any) -> Envelope:
    """A command on its way, with plenty of time."""
    command_id = CommandId(new_id())
    now = datetime.now(UTC)
    plain = Envelope(
        command_id=command_id,
        correlation_id=command_id,
        causation_id=None,
        command=command,
        deadline_at=now + timedelta(seconds=25),
        occurred_at=now,
    )
    return replace(plain, **changes)
