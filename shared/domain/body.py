"""Claims of a license body: deterministic, so that the same revision always reads the same.

`iss`, `sub` (license id), `product`, `revision`, `exp` (noon UTC of the day after the last day), `test`, `nfr`,
`counters` for products with reporting, and `items` for keys of the Partner API. No `iat`. The signer writes members in
sorted order (docs/protocols/isv-endpoint.md, section 11 row 28).
"""

from collections.abc import Mapping

from shared.domain.catalog import NFR_PREFIX, Catalog
from shared.domain.license import License
from shared.domain.term import expires_at

Claims = Mapping[str, str | int | bool | list[str]]


def claims_of(license: License, catalog: Catalog, *, issuer: str) -> Claims:
    """Return the claims of the current revision of an issued `license`."""
    claims: dict[str, str | int | bool | list[str]] = {
        "iss": issuer,
        "sub": license.license_id,
        "product": license.product,
        "revision": license.revision,
        "test": license.test,
        "nfr": license.nfr,
    }
    if license.expires_on is not None:
        claims["exp"] = int(expires_at(license.expires_on).timestamp())
    product = catalog.products.get(license.product.removeprefix(NFR_PREFIX))
    if product is not None and product.counters:
        claims["counters"] = [counter.name for counter in product.counters]
    if license.key is not None and not any(item.unmatched for item in license.key.items):
        claims["items"] = [
            item.item if item.quantity == 1 else f"{item.item}*{item.quantity}" for item in license.key.items
        ]
    return claims
