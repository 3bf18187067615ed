"""Masks secrets in what is kept of an answer: first mask, then prove that nothing is left, else keep nothing.

Panels echo parameters, so an answer may hold our own password, in any spelling. Names of fields tell the secrets of
others (license keys, sessions); our own is also searched for by value, in every encoding that an answer may use.
"""

import base64
import binascii
import codecs
import contextlib
import html
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote_plus

from pydantic import SecretStr

MASK = "***"
WITHHELD = "(withheld: it may hold a secret)"
UNDECODABLE = "(withheld: not UTF-8)"
"""In another encoding a secret would not be recognized."""
WINDOW_BYTES = 4096
EXCERPT_CHARACTERS_MAX = 600
UNFOLDINGS_MAX = 3
VIEWS_MAX = 200
ESCAPE_CHARACTERS_MAX = 12
"""The longest that one character gets in any spelling: a surrogate pair, both escaped."""

PAIR_NAMES = "authinfo|auth|password|passwd|lickey|licensekey|license_key|activation_code|licnum|key|billmgrses5"
FIELD_NAMES = f"{PAIR_NAMES}|code"
"""`code` as an element may hold a key; as an attribute it is the number of an error."""
SECRET_ELEMENT = re.compile(rf"<({FIELD_NAMES})\b[^>]*>.*?(?=</\1|$)", re.IGNORECASE | re.DOTALL)
SECRET_PAIR = re.compile(
    rf"""(?<![A-Za-z0-9])({PAIR_NAMES})(["']?\s{{0,8}}[:=]\s{{0,8}}["']?)[^&\s"'<>]+""", re.IGNORECASE
)
REMOTE_ADDRESS = re.compile(r"remote_addr[^\]<\n]*\]?", re.IGNORECASE)
ENCODED_RUN = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
ESCAPED_CHARACTER = re.compile(r"\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})")


class Redactor:
    """Masks for one account."""

    def __init__(self, secrets: Iterable[SecretStr], *, key_fields: Iterable[str] = ()) -> None:
        self._secrets = tuple(secret.get_secret_value() for secret in secrets)
        fields = "|".join(re.escape(name) for name in key_fields)
        self._key_element = (
            re.compile(rf"<({fields})\b[^>]*>.*?(?=</\1|$)", re.IGNORECASE | re.DOTALL) if fields else None
        )

    def excerpt(self, body: bytes) -> str:
        """Return the beginning of an answer, at most `EXCERPT_CHARACTERS_MAX` characters, without a secret."""
        cut = len(body) > WINDOW_BYTES
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(body[:WINDOW_BYTES], final=not cut)
        except UnicodeDecodeError:
            return UNDECODABLE
        return UNDECODABLE if "\0" in text else self.text(text, cut=cut)

    def text(self, text: str, *, cut: bool = False) -> str:
        """Return `text` masked, cut and printable, or a note that it is withheld. `cut`: it goes on elsewhere."""
        masked = SECRET_ELEMENT.sub(rf"<\1>{MASK}", text)
        if self._key_element is not None:
            masked = self._key_element.sub(rf"<\1>{MASK}", masked)
        masked = SECRET_PAIR.sub(rf"\1\2{MASK}", masked)
        masked = REMOTE_ADDRESS.sub(f"remote_addr {MASK}", masked)
        for secret in self._secrets:
            for spelling in _spellings(secret):
                masked = re.sub(re.escape(spelling), MASK, masked, flags=re.IGNORECASE)
        if any(self._shows_secret(view) for view in _views(masked)):
            return WITHHELD
        if cut:  # the last characters may be the first half of a secret
            masked = masked[: -ESCAPE_CHARACTERS_MAX * max(map(len, self._secrets), default=1)]
        printable = "".join(character if character.isprintable() else " " for character in masked)
        return printable[:EXCERPT_CHARACTERS_MAX]

    def _shows_secret(self, view: str) -> bool:
        folded = view.casefold()
        return any(secret.casefold() in folded for secret in self._secrets)


def _spellings(secret: str) -> tuple[str, ...]:
    spellings = {secret, quote(secret, safe=""), quote_plus(secret), html.escape(secret), json.dumps(secret)[1:-1]}
    return tuple(sorted(spellings, key=len, reverse=True))


def _views(text: str) -> Iterator[str]:
    """Yield `text` and what a reader could unfold from it, a bounded number of times."""
    seen: set[str] = set()
    fresh = [text]
    for _ in range(UNFOLDINGS_MAX):
        unfolded: list[str] = []
        for view in fresh:
            if view in seen or len(seen) >= VIEWS_MAX:
                continue
            seen.add(view)
            yield view
            unfolded += _unfold(view)
        fresh = unfolded
    yield from fresh[:VIEWS_MAX]


def _unfold(view: str) -> list[str]:
    unfolded = [unquote_plus(view), html.unescape(view), ESCAPED_CHARACTER.sub(_character, view)]
    runs = [run.group() for run in ENCODED_RUN.finditer(view)]
    decoded = [part for run in runs for part in _decoded_run(run)]
    unfolded.append("\n".join(decoded))
    return [each for each in unfolded if each and each != view]


def _decoded_run(run: str) -> Iterator[str]:
    """Yield what a run of letters says as hexadecimal, or as base64 beginning at each of four places."""
    if len(run) % 2 == 0:
        with contextlib.suppress(ValueError):
            yield bytes.fromhex(run).replace(b"\0", b"").decode("utf-8", errors="replace")
    plain = run.rstrip("=").replace("-", "+").replace("_", "/")
    for start in range(4):
        part = plain[start:]
        part = part[: len(part) - 1] if len(part) % 4 == 1 else part
        try:
            octets = base64.b64decode(part + "=" * (-len(part) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        yield octets.replace(b"\0", b"").decode("utf-8", errors="replace")


def _character(match: re.Match[str]) -> str:
    return chr(int(match.group(1) or match.group(2), 16))
