"""What every case of a batch is decided with, and the bodies made there."""

from dataclasses import dataclass
from datetime import datetime

from shared.domain.body import claims_of
from shared.domain.case import Rules
from shared.domain.catalog import NFR_PREFIX, BodySource
from shared.domain.license import License
from workers.license.ports import BodySigner


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every case of a batch is decided with."""

    rules: Rules
    signer: BodySigner
    issuer: str
    business_now: datetime
    system_now: datetime


def body_of(license: License, desk: Desk) -> bytes:
    """Return the license body: our own, or the provider's key where the catalog says so."""
    product = desk.rules.catalog.products.get(license.product.removeprefix(NFR_PREFIX))
    if product is not None and product.body is BodySource.PROVIDER_KEY and license.service is not None:
        return (license.service.key or "").encode()
    return desk.signer.sign(claims_of(license, desk.rules.catalog, issuer=desk.issuer))
