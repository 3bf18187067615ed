"""GET-INFO: the figures of a license, or why there are none (docs/protocols/isv-endpoint.md 5.5, 7, section 11 row 16).

A test license and one not for resale are told their real numbers; a terminated one reports none. What the account
may not know, or what no product reports, is refused before any figure is looked at.
"""

from datetime import datetime

from shared.contracts.commands import ReportUsage
from shared.contracts.outcomes import RejectionCode
from shared.domain.case import Case
from shared.domain.catalog import NFR_PREFIX, Catalog, Counter
from shared.domain.decision import Decision, Rejected
from shared.domain.license import License, LicenseStatus
from shared.domain.refusals import other_test_flag, unknown
from shared.domain.usage import told


def report_usage(case: Case, command: ReportUsage, catalog: Catalog, *, now: datetime) -> Decision:
    """Return the decision on a GET-INFO."""
    counters = _counters(case.license, command, catalog)
    if isinstance(counters, Rejected):
        return Decision(answer=counters)
    figures = told(counters, case.usage, command.usage_ends, now=now)
    return Decision(answer=Rejected(RejectionCode.USAGE_UNAVAILABLE) if figures is None else figures)


def _counters(license: License | None, command: ReportUsage, catalog: Catalog) -> tuple[Counter, ...] | Rejected:
    if license is None:
        return unknown(command.number)
    if license.status is LicenseStatus.TERMINATED:
        return Rejected(RejectionCode.USAGE_ENDED, {"number": command.number})
    listed = catalog.find(command.product)
    if listed is None:
        return Rejected(RejectionCode.PRODUCT_UNKNOWN, {"product": command.product})
    if not listed.product.counters:
        return Rejected(RejectionCode.USAGE_NOT_REPORTED, {"product": command.product})
    if command.product.removeprefix(NFR_PREFIX) != license.product.removeprefix(NFR_PREFIX):
        return Rejected(
            RejectionCode.PRODUCT_MISMATCH,
            {"number": command.number, "held": license.product, "product": command.product},
        )
    return other_test_flag(license, command.test) or listed.product.counters
