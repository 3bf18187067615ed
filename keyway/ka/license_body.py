"""How an application checks a license body: an ordinary JOSE library and the vendor's public keys, nothing of ours.

The body is a compact JWS (EdDSA) with `kid`; the keys are the JWK set at `/.well-known/jwks.json`
(docs/protocols/isv-endpoint.md, section 11 row 28).
"""

from collections.abc import Mapping

import jwt

ALGORITHM = "EdDSA"


class BodyRefusedError(Exception):
    """The body is not genuine or not for this application; the text says why."""


def read_claims(body: bytes, jwks: Mapping[str, object], *, issuer: str = "keyway") -> dict[str, object]:
    """Return the claims of `body` once its signature fits a key of `jwks`. Raises `BodyRefusedError`.

    The last day is not judged: the trade's clock may be moved (see `shared.clock`), and a lapsed body is still genuine.
    """
    try:
        keys = jwt.PyJWKSet.from_dict(dict(jwks))
        key_id = jwt.get_unverified_header(body).get("kid", "")
        claims = jwt.decode(
            body,
            keys[key_id].key,
            algorithms=[ALGORITHM],
            issuer=issuer,
            options={"require": ["iss", "sub", "exp"], "verify_exp": False, "verify_aud": False},
        )
    except (jwt.PyJWTError, KeyError, ValueError) as error:
        raise BodyRefusedError(f"{type(error).__name__}: {error}") from None
    return dict(claims)
