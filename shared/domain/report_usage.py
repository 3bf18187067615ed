"""GET-INFO: who may be asked for usage (docs/protocols/isv-endpoint.md 5.5, 7, section 11 rows 16 to 18).

Counters are not kept yet, so a question that could be answered is "temporarily unavailable"; zeros are never invented.
"""

from shared.contracts.commands import ReportUsage
from shared.contracts.outcomes import RejectionCode
from shared.domain.catalog import NFR_PREFIX, Catalog
from shared.domain.decision import Decision, Rejected
from shared.domain.license import License, LicenseStatus
from shared.domain.refusals import other_test_flag, unknown


def report_usage(license: License | None, command: ReportUsage, catalog: Catalog) -> Decision:
    """Return the decision on a GET-INFO."""
    return Decision(answer=_refusal(license, command, catalog) or Rejected(RejectionCode.USAGE_UNAVAILABLE))


def _refusal(license: License | None, command: ReportUsage, catalog: Catalog) -> Rejected | None:
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
    return other_test_flag(license, command.test)
