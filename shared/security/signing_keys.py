"""Ed25519 keys of license bodies: a JWK set in a private file, and the public half of every key for ever.

Exactly one key of the file carries its private part `d`: the active one. Rotation adds a key and strips the others to
their public halves, which keep old bodies verifiable. A key's `kid` is its RFC 7638 thumbprint, so it follows from the
key and never names two.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ConfigurationError
from shared.security.private_file import read_private_file, write_private_file

KEY_TYPE = "OKP"
CURVE = "Ed25519"
ALGORITHM = "EdDSA"
MAKE_ONE = "make one with `keyway keys rotate`"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The half of a key that everybody may know: the 32 bytes of an Ed25519 public key."""

    raw: bytes

    @property
    def kid(self) -> str:
        """The RFC 7638 thumbprint: SHA-256 of the required members in order, base64url."""
        members = {"crv": CURVE, "kty": KEY_TYPE, "x": encode_base64url(self.raw)}
        return encode_base64url(sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).digest())

    @property
    def jwk(self) -> dict[str, str]:
        """The key as a public JWK."""
        return {
            "alg": ALGORITHM,
            "crv": CURVE,
            "kid": self.kid,
            "kty": KEY_TYPE,
            "use": "sig",
            "x": encode_base64url(self.raw),
        }


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A whole key; the private part shows in no representation."""

    private: Ed25519PrivateKey = field(repr=False)
    public: PublicKey

    @classmethod
    def generate(cls) -> "SigningKey":
        """Return a fresh key."""
        return cls.of(Ed25519PrivateKey.generate())

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> "SigningKey":
        """Return the key around its private part."""
        return cls(private, PublicKey(private.public_key().public_bytes_raw()))


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The content of a key file."""

    active: SigningKey
    retired: tuple[PublicKey, ...] = ()
    """Public halves of former keys, oldest first."""

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """Every key, the active one last."""
        return (*self.retired, self.active.public)


def rotated(ring: KeyRing | None) -> KeyRing:
    """Return a ring with a fresh active key, in which the former one has only its public half."""
    return KeyRing(SigningKey.generate(), () if ring is None else ring.public_keys)


def read_key_file(path: Path) -> KeyRing | None:
    """Return the keys in `path`, None when there is no such file.

    Raises `ConfigurationError` for a file that others can read or that is no key file.
    """
    content = read_private_file(path)
    if content is None:
        return None
    members = [_checked(path, jwk) for jwk in _jwks_members(content, str(path))]
    private = [(key, jwk["d"]) for key, jwk in members if "d" in jwk]
    if len(private) != 1:
        raise ConfigurationError(f"{path} has {len(private)} private keys, needs exactly one, the active: {MAKE_ONE}")
    ((public, encoded),) = private
    active = SigningKey.of(Ed25519PrivateKey.from_private_bytes(_decoded(encoded, f"{path}: member d")))
    if active.public != public:
        raise ConfigurationError(f"{path}: the private part of key {public.kid} belongs to another key: {MAKE_ONE}")
    return KeyRing(active, tuple(key for key, jwk in members if "d" not in jwk))


def require_key_file(path: Path) -> KeyRing:
    """Return the keys in `path`. Raises `ConfigurationError`, also when there is none."""
    ring = read_key_file(path)
    if ring is None:
        raise ConfigurationError(f"{path} does not exist: {MAKE_ONE}")
    return ring


def write_key_file(path: Path, ring: KeyRing) -> None:
    """Replace the key file, mode 0600. Publish the public keys first: nobody may meet a body of an unknown key."""
    private = encode_base64url(ring.active.private.private_bytes_raw())
    members = [*(key.jwk for key in ring.retired), {**ring.active.public.jwk, "d": private}]
    write_private_file(path, orjson.dumps({"keys": members}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def read_jwks(document: bytes, name: str) -> dict[str, PublicKey]:
    """Return the Ed25519 keys in a JWK set by `kid`; keys of other kinds are passed over.

    Raises `ConfigurationError` naming the set, `name`, when it is none. A `kid` of another issuer's liking is kept.
    """
    keys = {}
    for jwk in _jwks_members(document, name):
        if jwk.get("kty") == KEY_TYPE and jwk.get("crv") == CURVE:
            key = public_key_of(jwk, name)
            keys[str(jwk.get("kid") or key.kid)] = key
    return keys


def public_key_of(jwk: Mapping[str, object], name: str) -> PublicKey:
    """Return the key in a JWK found in `name`. Raises `ConfigurationError` when it is no Ed25519 key."""
    if jwk.get("kty") != KEY_TYPE or jwk.get("crv") != CURVE:
        raise ConfigurationError(f"{name} holds a key that is not {KEY_TYPE}/{CURVE}: {MAKE_ONE}")
    raw = _decoded(jwk.get("x"), f"{name}: member x")
    return PublicKey(raw)


def encode_base64url(data: bytes) -> str:
    """Return `data` as base64url without padding (RFC 7515 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str | bytes) -> bytes:
    """Return the bytes of canonical base64url without padding. Raises `ValueError` for everything else."""
    encoded = text.encode("ascii") if isinstance(text, str) else text
    try:
        data = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if encode_base64url(data).encode() != encoded:
        raise ValueError("not the canonical form")
    return data


def _checked(path: Path, jwk: Mapping[str, object]) -> tuple[PublicKey, Mapping[str, object]]:
    key = public_key_of(jwk, str(path))
    if jwk.get("kid") != key.kid:
        raise ConfigurationError(f"{path}: kid {str(jwk.get('kid'))[:80]!r} is not the key's thumbprint {key.kid}")
    return key, jwk


def _jwks_members(document: bytes, name: str) -> list[dict[str, object]]:
    try:
        members = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise ConfigurationError(f'{name} is not JSON: a JWK set looks like {{"keys": […]}}') from None
    keys = members.get("keys") if isinstance(members, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ConfigurationError(f'{name} is no JWK set: it looks like {{"keys": […]}}')
    return keys


def _decoded(value: object, name: str) -> bytes:
    try:
        data = decode_base64url(value) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    if len(data) != 32:  # noqa: PLR2004 - the size of every Ed25519 key
        raise ConfigurationError(f"{name} is not 32 bytes in base64url")
    return data
