"""License bodies: compact JWS (EdDSA, RFC 8037) of deterministic claims, made and checked.

The same claims under the same key give the same bytes: members are sorted, Ed25519 draws no lots, nothing tells the
time (docs/protocols/isv-endpoint.md 11).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.domain.body import Claims
from shared.security.signing_keys import ALGORITHM, PublicKey, SigningKey, decode_base64url, encode_base64url

BODY_LIMIT_BYTES = 65_536
SEGMENTS = 3


class JwsSigner:
    """Signs with one key."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key.private
        header = orjson.dumps({"alg": ALGORITHM, "kid": key.public.kid}, option=orjson.OPT_SORT_KEYS)
        self._header = encode_base64url(header).encode() + b"."

    def sign(self, claims: Claims) -> bytes:
        """Return the license body for `claims`."""
        payload = orjson.dumps(dict(claims), option=orjson.OPT_SORT_KEYS)
        signed = self._header + encode_base64url(payload).encode()
        return signed + b"." + encode_base64url(self._key.sign(signed)).encode()


class BodyFaultKind(StrEnum):
    """Why a body is not genuine."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"


@dataclass(frozen=True, slots=True)
class BodyFault:
    """A body that must not be trusted, and why."""

    kind: BodyFaultKind
    text: str


@dataclass(frozen=True, slots=True)
class GenuineBody:
    """A body whose signature fits; whether it is still in force is another question."""

    kid: str
    claims: Mapping[str, object]


def check_body(body: bytes, keys: Mapping[str, PublicKey]) -> GenuineBody | BodyFault:
    """Return what `body` claims if a key of `keys` (by `kid`) signed it, else what is wrong."""
    if len(body) > BODY_LIMIT_BYTES:
        return BodyFault(BodyFaultKind.MALFORMED, f"{len(body)} bytes: a license body has at most {BODY_LIMIT_BYTES}")
    segments = body.split(b".")
    if len(segments) != SEGMENTS:
        text = f"{len(segments)} parts between dots, a compact JWS has {SEGMENTS}"
        return BodyFault(BodyFaultKind.MALFORMED, text)
    header = _json_object("header", segments[0])
    if isinstance(header, BodyFault):
        return header
    if header.get("alg") != ALGORITHM or "crit" in header:
        text = f"signed with {str(header.get('alg'))[:40]!r}, ours are {ALGORITHM} without critical extensions"
        return BodyFault(BodyFaultKind.MALFORMED, text)
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if not isinstance(kid, str) or key is None:
        known = ", ".join(sorted(keys)) or "none"
        return BodyFault(BodyFaultKind.UNKNOWN_KEY, f"signed by key {str(kid)[:80]!r}; known keys: {known}")
    return _signed_claims(kid, key, segments)


def _signed_claims(kid: str, key: PublicKey, segments: list[bytes]) -> GenuineBody | BodyFault:
    try:
        signature = decode_base64url(segments[2])
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, segments[0] + b"." + segments[1])
    except ValueError:
        return BodyFault(BodyFaultKind.MALFORMED, "the signature is not base64url")
    except InvalidSignature:
        text = f"the signature does not fit key {kid}: the body was changed, or another key has taken this name"
        return BodyFault(BodyFaultKind.BAD_SIGNATURE, text)
    claims = _json_object("claims", segments[1])
    return claims if isinstance(claims, BodyFault) else GenuineBody(kid, claims)


def _json_object(name: str, segment: bytes) -> Mapping[str, object] | BodyFault:
    try:
        value = orjson.loads(decode_base64url(segment))
    except ValueError:
        return BodyFault(BodyFaultKind.MALFORMED, f"the {name} part is not base64url JSON")
    if not isinstance(value, dict):
        return BodyFault(BodyFaultKind.MALFORMED, f"the {name} part is a JSON {type(value).__name__}, not an object")
    return value
