"""HTTP Basic credentials (RFC 7617), parsed strictly (docs/protocols/isv-endpoint.md 2.1)."""

import base64
import binascii
from dataclasses import dataclass, field

HEADER_CHARACTERS_MAX = 4096
SCHEME = "basic"


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    """A user name and a password as the caller wrote them; the password shows in no representation."""

    user: str
    password: str = field(repr=False)


def parse_basic(authorization: str | None) -> BasicCredentials | None:
    """Return the credentials in an `Authorization` header, None when there is no header or it is garbled.

    Base64 must be canonical, its content UTF-8; the first colon parts user and password.
    """
    if authorization is None or len(authorization) > HEADER_CHARACTERS_MAX:
        return None
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != SCHEME:
        return None
    try:
        encoded = token.strip(" ").encode("ascii")
        decoded = base64.b64decode(encoded, validate=True)
        if base64.b64encode(decoded) != encoded:
            return None
        user, colon, password = decoded.decode("utf-8").partition(":")
    except (UnicodeError, binascii.Error):
        return None
    return BasicCredentials(user, password) if colon else None


def basic_header(user: str, password: str) -> str:
    """Return the `Authorization` header for a user and a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
