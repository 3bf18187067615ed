"""A canary password is found in no excerpt, whatever spelling an answer uses."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.redaction import EXCERPT_CHARACTERS_MAX, MASK, Redactor

PASSWORD = "c&nary <p@ss> 7ü'+/=%25"
AUTHINFO = f"reseller:{PASSWORD}"
REDACTOR = Redactor((SecretStr(AUTHINFO), SecretStr(PASSWORD)), key_fields=("lickey", "serial"))

SPELLINGS: dict[str, Callable[[str], bytes]] = {
    "raw": lambda text: text.encode(),
    "utf-16": lambda text: text.encode("utf-16-le"),
    "percent": lambda text: quote(text, safe="").encode(),
    "percent, lower case": lambda text: quote(text, safe="").lower().encode(),
    "plus": lambda text: quote_plus(text).encode(),
    "percent twice": lambda text: quote(quote(text, safe=""), safe="").encode(),
    "every byte percent": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()).encode(),
    "xml": lambda text: html.escape(text).encode(),
    "references": lambda text: "".join(f"&#{ord(character)};" for character in text).encode(),
    "hexadecimal references": lambda text: "".join(f"&#x{ord(character):X};" for character in text).encode(),
    "json": lambda text: json.dumps(text).encode(),
    "json escapes": lambda text: "".join(f"\\u{ord(character):04x}" for character in text).encode(),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(text.encode()).rstrip(b"="),
    "base64 after one letter": lambda text: b"x" + base64.b64encode(text.encode()),
    "base64 of the pair": lambda text: base64.b64encode(f"someone:{text}".encode()),
    "hexadecimal": lambda text: text.encode().hex().encode(),
    "base64, then percent": lambda text: quote(base64.b64encode(text.encode()), safe="").encode(),
    "upper case": lambda text: text.upper().encode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("place", ["<msg>bad value '{}'</msg>", "{}", "x=1&authinfo={}&out=xml", '{{"a": "{}"}}'])
def test_password_is_masked_or_the_excerpt_withheld(spelling: Callable[[str], bytes], place: str) -> None:
    before, after = (part.encode() for part in place.replace("{{", "{").replace("}}", "}").split("{}"))
    for secret in (PASSWORD, AUTHINFO):
        spelt = spelling(secret)

        excerpt = REDACTOR.excerpt(before + spelt + after)

        assert PASSWORD.casefold() not in excerpt.casefold()
        assert spelt.replace(b"\0", b"").decode("utf-8", "replace") not in excerpt


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60), st.text(max_size=60))
def test_password_between_any_texts_is_masked(before: str, after: str) -> None:
    assert PASSWORD not in REDACTOR.text(before + PASSWORD + after)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("<doc><lickey>40117-Q7ZK-2M4D</lickey><status>2</status></doc>", "Q7ZK"),
        ("<serial><![CDATA[Q7ZK]]></serial>", "Q7ZK"),
        ("<activation_code a='1'>Q7ZK</activation_code>", "Q7ZK"),
        ("<lickey>40117-Q7ZK-2M", "Q7ZK"),
        ('<auth id="a1b2c3d4" level="16">a1b2c3d4</auth>', "a1b2c3d4"),
        ("func=x&auth=a1b2c3d4&out=xml", "a1b2c3d4"),
        ("authinfo=someone%3Aelse&func=x", "else"),
        ('{"password": "hidden"}', "hidden"),
        ("key = hidden", "hidden"),
        ("Cookie: billmgrses5=a1b2c3d4", "a1b2c3d4"),
        ("<param name='value'>remote_addr: [198.51.100.7]</param>", "198.51.100.7"),
        ("remote_addr 198.51.100.7", "198.51.100.7"),
    ],
)
def test_secrets_of_others_are_known_by_their_field(text: str, secret: str) -> None:
    excerpt = REDACTOR.text(text)

    assert secret not in excerpt
    assert MASK in excerpt


def test_what_is_no_secret_stays_readable() -> None:
    text = "<doc><error type='auth' object='badpassword' code='1'><msg>Invalid username</msg></error></doc>"

    assert REDACTOR.text(text) == text


def test_excerpt_is_short_printable_and_never_ends_in_half_a_secret() -> None:
    for filler in range(4096 - 60, 4096):
        body = b"<lickey>" + b"k" * (filler - 20) + b"</lickey>" + b" " * 3 + PASSWORD.encode() * 3
        excerpt = REDACTOR.excerpt(body)

        assert "c&n" not in excerpt
    excerpt = REDACTOR.excerpt(b"\x1b[31m\r\n" + "abü".encode() * 4000)
    assert "abü" in excerpt
    assert excerpt.isprintable()
    assert len(excerpt) <= EXCERPT_CHARACTERS_MAX


def test_settings_of_an_account_do_not_print_their_secret() -> None:
    account = PanelAccount(base_url="https://panel.example", user="reseller", password=SecretStr(PASSWORD))

    for shown in (repr(account), str(account), repr(account.authinfo), repr(REDACTOR)):
        assert PASSWORD not in shown
