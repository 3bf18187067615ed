"""License bodies: deterministic, checked by an ordinary JOSE library, every forgery told apart."""

import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.body import Claims
from shared.security.license_body import BodyFault, BodyFaultKind, GenuineBody, JwsSigner, check_body
from shared.security.signing_keys import SigningKey, decode_base64url, encode_base64url

KEY = SigningKey.generate()
OTHER = SigningKey.generate()
KEYS = {KEY.public.kid: KEY.public}
CLAIMS: Claims = {
    "iss": "keyway",
    "sub": "ka:00481516",
    "revision": 2,
    "product": "CloudBackup",
    "test": False,
    "nfr": False,
    "exp": 1_807_790_400,
    "counters": ["storedGigabytes", "protectedServers"],
}


def fault_of(body: bytes) -> BodyFault:
    outcome = check_body(body, KEYS)
    assert isinstance(outcome, BodyFault)
    return outcome


def test_ordinary_library_verifies_a_body_with_nothing_but_the_public_set() -> None:
    body = JwsSigner(KEY).sign(CLAIMS)
    public = jwt.PyJWKSet.from_dict({"keys": [key.jwk for key in (OTHER.public, KEY.public)]})
    kid = jwt.get_unverified_header(body)["kid"]
    claims = jwt.decode(body, public[kid].key, algorithms=["EdDSA"], issuer="keyway", options={"verify_exp": False})
    assert claims == CLAIMS


def test_ordinary_library_refuses_a_body_under_another_key() -> None:
    body = JwsSigner(KEY).sign(CLAIMS)
    public = jwt.PyJWKSet.from_dict({"keys": [key.jwk for key in (OTHER.public,)]})
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(body, public.keys[0].key, algorithms=["EdDSA"], options={"verify_exp": False})


def test_members_are_sorted_and_nothing_else_is_in_header_or_claims() -> None:
    header, claims, signature = JwsSigner(KEY).sign(CLAIMS).split(b".")
    assert decode_base64url(header) == b'{"alg":"EdDSA","kid":"' + KEY.public.kid.encode() + b'"}'
    assert decode_base64url(claims) == json.dumps(dict(CLAIMS), sort_keys=True, separators=(",", ":")).encode()
    assert len(decode_base64url(signature)) == 64


@given(st.permutations(sorted(CLAIMS)))
def test_same_claims_give_the_same_bytes_in_any_order_and_process(order: list[str]) -> None:
    turned = {name: CLAIMS[name] for name in order}
    assert JwsSigner(SigningKey.of(KEY.private)).sign(turned) == JwsSigner(KEY).sign(CLAIMS)


def test_genuine_body_tells_its_claims_and_key() -> None:
    assert check_body(JwsSigner(KEY).sign(CLAIMS), KEYS) == GenuineBody(KEY.public.kid, dict(CLAIMS))


def test_unknown_key_is_told_with_those_known() -> None:
    fault = fault_of(JwsSigner(OTHER).sign(CLAIMS))
    assert fault.kind is BodyFaultKind.UNKNOWN_KEY
    assert OTHER.public.kid in fault.text
    assert KEY.public.kid in fault.text


def test_body_of_a_key_that_took_anothers_name_has_a_bad_signature() -> None:
    outcome = check_body(JwsSigner(OTHER).sign(CLAIMS), {OTHER.public.kid: KEY.public})
    assert isinstance(outcome, BodyFault)
    assert outcome.kind is BodyFaultKind.BAD_SIGNATURE


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_body_with_any_changed_byte_is_never_genuine(position: int, byte: int) -> None:
    body = bytearray(JwsSigner(KEY).sign(CLAIMS))
    at = position % len(body)
    if body[at] == byte:
        return
    body[at] = byte
    fault_of(bytes(body))


def segment(value: object) -> bytes:
    return encode_base64url(json.dumps(value).encode()).encode()


def signed(header: object, claims: bytes) -> bytes:
    text = segment(header) + b"." + claims
    return text + b"." + encode_base64url(KEY.private.sign(text)).encode()


GOOD_HEADER = {"alg": "EdDSA", "kid": KEY.public.kid}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "1 parts between dots"),
        (b"a.b", "2 parts between dots"),
        (b"a.b.c.d", "4 parts between dots"),
        (b"!.b.c", "the header part is not base64url JSON"),
        (b"e30=.b.c", "the header part is not base64url JSON"),
        (segment([1]) + b".b.c", "the header part is a JSON list"),
        (signed({**GOOD_HEADER, "alg": "none"}, segment({})), "signed with 'none'"),
        (signed({**GOOD_HEADER, "alg": "HS256"}, segment({})), "signed with 'HS256'"),
        (signed({**GOOD_HEADER, "crit": ["exp"]}, segment({})), "without critical extensions"),
        (signed(GOOD_HEADER, b"!"), "the claims part is not base64url JSON"),
        (signed(GOOD_HEADER, segment("x")), "the claims part is a JSON str"),
        (segment(GOOD_HEADER) + b"." + segment({}) + b".=", "the signature is not base64url"),
        (b"." * 70_000, "at most 65536"),
    ],
)
def test_malformed_body_is_told_precisely(body: bytes, told: str) -> None:
    fault = fault_of(body)
    assert fault.kind is BodyFaultKind.MALFORMED
    assert told in fault.text


@pytest.mark.parametrize("header", [{"alg": "EdDSA"}, {"alg": "EdDSA", "kid": 5}, {"alg": "EdDSA", "kid": ""}])
def test_body_without_a_usable_kid_is_of_an_unknown_key(header: object) -> None:
    assert fault_of(signed(header, segment({}))).kind is BodyFaultKind.UNKNOWN_KEY


def test_empty_signature_is_a_bad_one() -> None:
    body = JwsSigner(KEY).sign(CLAIMS)
    assert fault_of(body[: body.rindex(b".") + 1]).kind is BodyFaultKind.BAD_SIGNATURE
