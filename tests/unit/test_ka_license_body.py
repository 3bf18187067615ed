"""A body is believed only with a signature of a published key."""

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyway.ka.license_body import BodyRefusedError, read_claims

KEY = Ed25519PrivateKey.generate()
CLAIMS: dict[str, object] = {"iss": "keyway", "sub": "ka:1", "exp": 1, "revision": 1}


def jwks(key: Ed25519PrivateKey, key_id: str) -> dict[str, object]:
    public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
    return {"keys": [{**public, "kid": key_id, "alg": "EdDSA", "use": "sig"}]}


def body(claims: dict[str, object], key_id: str = "k1") -> bytes:
    return jwt.encode(claims, KEY, "EdDSA", headers={"kid": key_id}).encode()


def test_a_genuine_body_yields_its_claims_even_when_lapsed() -> None:
    assert read_claims(body(CLAIMS), jwks(KEY, "k1")) == CLAIMS


@pytest.mark.parametrize(
    ("forged", "published"),
    [
        (body(CLAIMS), jwks(Ed25519PrivateKey.generate(), "k1")),
        (body(CLAIMS, "k2"), jwks(KEY, "k1")),
        (body({**CLAIMS, "iss": "somebody"}), jwks(KEY, "k1")),
        (body({"iss": "keyway"}), jwks(KEY, "k1")),
        (b"not a token", jwks(KEY, "k1")),
        (body(CLAIMS)[:-4] + b"AAAA", jwks(KEY, "k1")),
    ],
    ids=["other key", "unknown key id", "other issuer", "claims missing", "no token", "signature altered"],
)
def test_a_body_that_is_not_ours_is_refused(forged: bytes, published: dict[str, object]) -> None:
    with pytest.raises(BodyRefusedError):
        read_claims(forged, published)
