"""`keyway verify` and `keyway keys`, without a database: what an offline machine can tell of a body."""

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.domain.body import Claims
from shared.security.license_body import JwsSigner
from shared.security.signing_keys import KeyRing, PublicKey, SigningKey, require_key_file, write_key_file
from tests.command_line import Shell, shell

__all__ = ["shell"]

KEY = SigningKey.generate()
YEAR_2100, YEAR_2020 = 4_102_488_000, 1_577_880_000
CLAIMS: Claims = {"iss": "keyway", "sub": "ka:1", "product": "Gold", "revision": 1, "exp": YEAR_2100, "test": False}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    return written(tmp_path / "jwks.json", key_set([SigningKey.generate().public, KEY.public]))


def key_set(keys: Sequence[PublicKey]) -> bytes:
    return json.dumps({"keys": [key.jwk for key in keys]}).encode()


def body_file(tmp_path: Path, claims: Claims = CLAIMS, key: SigningKey = KEY) -> Path:
    return written(tmp_path / "body", JwsSigner(key).sign(claims))


def test_genuine_body_in_force_is_status_0_with_its_claims(shell: Shell, tmp_path: Path, jwks: Path) -> None:
    ran = shell.keyway("verify", body_file(tmp_path), "--jwks", jwks)
    assert (ran.status, ran.err) == (0, "")
    assert f"genuine, signed by key {KEY.public.kid}" in ran.out
    assert "  product   Gold\n" in ran.out
    assert "2100-01-01T12:00:00+00:00" in ran.out


def test_json_tells_outcome_key_and_claims(shell: Shell, tmp_path: Path, jwks: Path) -> None:
    ran = shell.keyway("verify", body_file(tmp_path), "--jwks", jwks, "--json")
    assert ran.document == {"outcome": "valid", "kid": KEY.public.kid, "claims": dict(CLAIMS)}


def test_line_end_around_a_body_does_not_matter(shell: Shell, tmp_path: Path, jwks: Path) -> None:
    file = body_file(tmp_path)
    file.write_bytes(b"\n" + file.read_bytes() + b"\r\n")
    assert shell.keyway("verify", file, "--jwks", jwks).status == 0


def test_expired_body_is_status_1_but_said_to_be_genuine(shell: Shell, tmp_path: Path, jwks: Path) -> None:
    file = body_file(tmp_path, {**CLAIMS, "exp": YEAR_2020})
    ran = shell.keyway("verify", file, "--jwks", jwks, "--json")
    assert ran.status == 1
    assert ran.document["outcome"] == "expired"
    assert ran.document["claims"]["product"] == "Gold"
    assert ran.err == "expired: the signature is good, but the license ended at 2020-01-01T12:00:00+00:00\n"


def test_moved_business_clock_decides_what_is_expired(shell: Shell, tmp_path: Path, jwks: Path) -> None:
    file = body_file(tmp_path)
    shell.export(clock_offset_file=written(tmp_path / "clock-offset", b"3000000000"))
    assert shell.keyway("verify", file, "--jwks", jwks).status == 1


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda body: body[:-4] + b"AAAA", "bad_signature"),
        (lambda body: body.replace(b".", b"!", 1), "malformed"),
        (lambda _: b"", "malformed"),
        (lambda _: JwsSigner(SigningKey.generate()).sign(CLAIMS), "unknown_key"),
    ],
)
def test_body_that_is_not_genuine_is_status_1_with_the_reason(
    shell: Shell, tmp_path: Path, jwks: Path, spoil: object, kind: str
) -> None:
    assert callable(spoil)
    file = body_file(tmp_path)
    file.write_bytes(spoil(file.read_bytes()))
    ran = shell.keyway("verify", file, "--jwks", jwks, "--json")
    assert (ran.status, ran.document["outcome"]) == (1, kind)
    assert ran.err == f"not genuine ({kind}): {ran.document['reason']}\n"
    assert "Gold" not in ran.out


def test_body_is_read_from_standard_input(shell: Shell, jwks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = JwsSigner(KEY).sign(CLAIMS)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(body)))
    assert shell.keyway("verify", "-", "--jwks", jwks).status == 0


def test_own_key_file_serves_without_a_set(shell: Shell, tmp_path: Path) -> None:
    write_key_file(tmp_path / "keys.json", KeyRing(SigningKey.generate(), (KEY.public,)))
    shell.export(signing_keys_file=tmp_path / "keys.json")
    assert shell.keyway("verify", body_file(tmp_path)).status == 0


def test_verify_without_any_keys_is_wrong_usage(shell: Shell, tmp_path: Path) -> None:
    ran = shell.keyway("verify", body_file(tmp_path))
    assert ran.status == 2
    assert "--jwks" in ran.err


def test_unreadable_files_are_told(shell: Shell, tmp_path: Path, jwks: Path) -> None:
    absent = shell.keyway("verify", tmp_path / "absent", "--jwks", jwks)
    assert (absent.status, "absent cannot be read" in absent.err) == (1, True)
    no_set = shell.keyway("verify", body_file(tmp_path), "--jwks", written(tmp_path / "set", b"x"))
    assert (no_set.status, "set is not JSON" in no_set.err) == (1, True)


def test_keys_rotate_makes_and_then_extends_the_file(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    shell.export(signing_keys_file=file)
    kids = []
    for _ in range(3):
        ran = shell.keyway("keys", "rotate", "--json")
        assert (ran.status, ran.document["published"]) == (0, False)
        kids.append(ran.document["kid"])
    assert [key.kid for key in require_key_file(file).public_keys] == kids
    listed = shell.keyway("keys", "list", "--json").document["keys"]
    assert [(row["kid"], row["state"], row["published"]) for row in listed] == [
        (kids[0], "retired", None),
        (kids[1], "retired", None),
        (kids[2], "active", None),
    ]
    private = json.loads(file.read_bytes())["keys"][2]["d"]
    assert private not in shell.keyway("keys", "list").out
    assert private not in shell.keyway("keys", "rotate").out


def test_keys_rotate_refuses_a_file_that_others_read_and_leaves_it(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    shell.export(signing_keys_file=file)
    shell.keyway("keys", "rotate")
    file.chmod(0o644)
    before = file.read_bytes()
    ran = shell.keyway("keys", "rotate")
    assert (ran.status, "chmod 600" in ran.err) == (1, True)
    assert file.read_bytes() == before


def test_keys_rotate_without_a_file_named_is_refused(shell: Shell) -> None:
    ran = shell.keyway("keys", "rotate")
    assert (ran.status, "KEYWAY_SIGNING_KEYS_FILE" in ran.err) == (1, True)
