"""Refusals that several commands share. Each returns the "no", or None when there is nothing to refuse."""

from datetime import date, datetime

from shared.contracts.commands import LicensingModel
from shared.contracts.outcomes import RejectionCode
from shared.domain.catalog import Catalog, Listed
from shared.domain.decision import Rejected
from shared.domain.license import License
from shared.domain.term import is_past


def shown(day: date) -> str:
    """Return `day` as the protocol writes it: `DD/MM/YYYY`."""
    return f"{day.day:02}/{day.month:02}/{day.year:04}"


def unknown(number: str) -> Rejected:
    """No license of that number is known to this account."""
    return Rejected(RejectionCode.LICENSE_UNKNOWN, {"number": number})


def terminated(number: str, action: str) -> Rejected:
    """The license is terminated; `action` completes "cannot be …"."""
    return Rejected(RejectionCode.LICENSE_TERMINATED, {"number": number, "action": action})


def listed_for(catalog: Catalog, product: str, model: LicensingModel) -> Listed | Rejected:
    """Return the product that a request names, or why it cannot be meant (isv-endpoint 5.1)."""
    listed = catalog.find(product)
    if listed is None:
        return Rejected(RejectionCode.PRODUCT_UNKNOWN, {"product": product})
    if listed.product.model is not model:
        return Rejected(RejectionCode.MODEL_MISMATCH, {"product": product, "model": listed.product.model.value})
    return listed


def past_expiry(expires_on: date, now: datetime) -> Rejected | None:
    """The requested last day is before yesterday (isv-endpoint 4.3)."""
    return Rejected(RejectionCode.EXPIRY_PAST, {"expiry": shown(expires_on)}) if is_past(expires_on, now) else None


def earlier_expiry(license: License, expires_on: date) -> Rejected | None:
    """The requested last day is before the one in force (isv-endpoint 8.2 rule 5)."""
    if license.expires_on is None or expires_on >= license.expires_on:
        return None
    return Rejected(RejectionCode.EXPIRY_EARLIER, {"expiry": shown(expires_on), "current": shown(license.expires_on)})


def other_test_flag(license: License, test: bool | None) -> Rejected | None:  # noqa: FBT001 - three-valued wire field
    """The request carries another test flag than the license was bought with (isv-endpoint 6)."""
    if test is None or test == license.test:
        return None
    return Rejected(RejectionCode.TEST_FLAG_MISMATCH, {"number": license.number})
