"""The signer of baseline B until the system's own stands in `shared.security`."""

from base64 import urlsafe_b64encode

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.domain.body import Claims


class BenchSigner:
    """Signs with a key of its own."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._head = _base64(b'{"alg":"EdDSA","kid":"2026-11-22-abcdef"}')

    def sign(self, claims: Claims) -> bytes:
        """Return a compact JWS of `claims`."""
        text = self._head + b"." + _base64(orjson.dumps(dict(claims), option=orjson.OPT_SORT_KEYS))
        return text + b"." + _base64(self._key.sign(text))


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
