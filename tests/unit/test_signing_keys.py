"""Signing keys: the private file, rotation, and what a running worker makes of a changed file."""

import base64
import hashlib
import json
import os
from pathlib import Path

import jwt
import pytest

from shared.errors import ConfigurationError, UnavailableError
from shared.security.private_file import read_private_file, write_private_file
from shared.security.signing_keys import (
    KeyRing,
    SigningKey,
    decode_base64url,
    encode_base64url,
    public_key_of,
    read_jwks,
    read_key_file,
    require_key_file,
    rotated,
    write_key_file,
)
from shared.security.watched_keys import KNOWN_EVERYWHERE_SECONDS, LOOK_SECONDS, WatchedSigner, load_signer
from tests.fakes.clocks import ManualSystemClock, TimeEndedError
from tests.fakes.installation import InMemoryPublicKeys

RFC_8037_KEY = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC_8037_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "signing-keys.json"


@pytest.fixture
def registry() -> InMemoryPublicKeys:
    return InMemoryPublicKeys()


def signed_by(signer: WatchedSigner) -> object:
    return jwt.get_unverified_header(signer.sign({"sub": "ka:1"}))["kid"]


def rotate(file: Path) -> KeyRing:
    ring = rotated(read_key_file(file))
    write_key_file(file, ring)
    return ring


def test_kid_is_the_published_thumbprint_of_the_published_example() -> None:
    key = public_key_of({"kty": "OKP", "crv": "Ed25519", "x": RFC_8037_KEY}, "RFC 8037 A.2")
    assert key.kid == RFC_8037_THUMBPRINT


def test_kid_is_the_thumbprint_by_hand() -> None:
    key = SigningKey.generate().public
    text = '{"crv":"Ed25519","kty":"OKP","x":"' + key.jwk["x"] + '"}'
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
    assert key.kid == digest.decode()


def test_first_rotation_makes_a_file_that_only_its_owner_reads(file: Path) -> None:
    assert read_key_file(file) is None
    ring = rotate(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    read = require_key_file(file)
    assert read.active.public == ring.active.public
    assert read.active.private.private_bytes_raw() == ring.active.private.private_bytes_raw()
    assert read.retired == ()


def test_rotation_keeps_every_public_key_and_one_private_one(file: Path) -> None:
    rings = [rotate(file) for _ in range(4)]
    last = require_key_file(file)
    assert list(last.public_keys) == [ring.active.public for ring in rings]
    members = json.loads(file.read_bytes())["keys"]
    assert [member["kid"] for member in members if "d" in member] == [rings[-1].active.public.kid]


def test_jwk_set_holds_public_halves_that_any_jose_library_reads(file: Path) -> None:
    rotate(file)
    ring = rotate(file)
    document = json.dumps({"keys": [key.jwk for key in ring.public_keys]}).encode()
    assert b'"d"' not in document
    keys = jwt.PyJWKSet.from_json(document.decode())
    assert [key.key_id for key in keys.keys] == [key.kid for key in ring.public_keys]
    assert list(read_jwks(document, "set").values()) == list(ring.public_keys)


def test_private_key_shows_in_no_representation() -> None:
    key = SigningKey.generate()
    assert encode_base64url(key.private.private_bytes_raw()) not in repr(KeyRing(key))
    assert repr(key.private.private_bytes_raw()) not in repr(KeyRing(key))
    assert "private" not in repr(KeyRing(key))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602, 0o660])
def test_key_file_that_others_can_get_at_is_refused(file: Path, mode: int) -> None:
    rotate(file)
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*chmod 600"):
        read_key_file(file)


@pytest.mark.parametrize("mode", [0o440, 0o640])
def test_file_of_another_owner_may_be_readable_for_our_group(
    file: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = rotate(file)
    file.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert require_key_file(file).active.public == ring.active.public


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o604])
def test_file_of_another_owner_that_everybody_reads_or_the_group_writes_is_refused(
    file: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate(file)
    file.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match=f"mode {mode:04o}"):
        read_key_file(file)


def test_missing_key_file_says_how_to_make_one(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist: make one with `keyway keys rotate`"):
        require_key_file(file)


def test_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read|is not a file"):
        read_key_file(tmp_path)


def key_file_with(file: Path, *members: object) -> None:
    write_private_file(file, json.dumps({"keys": members}).encode())


def whole_jwk(key: SigningKey) -> dict[str, str]:
    return {**key.public.jwk, "d": encode_base64url(key.private.private_bytes_raw())}


def test_faulty_key_files_are_told(file: Path) -> None:
    one, other = SigningKey.generate(), SigningKey.generate()
    cases: list[tuple[bytes, str]] = [
        (b"", "is not JSON"),
        (b"[]", "is no JWK set"),
        (b'{"keys": {}}', "is no JWK set"),
        (b'{"keys": [1]}', "is no JWK set"),
        (json.dumps({"keys": []}).encode(), "has 0 private keys"),
        (json.dumps({"keys": [one.public.jwk]}).encode(), "has 0 private keys"),
        (json.dumps({"keys": [whole_jwk(one), whole_jwk(other)]}).encode(), "has 2 private keys"),
        (json.dumps({"keys": [{**whole_jwk(one), "d": whole_jwk(other)["d"]}]}).encode(), "belongs to another key"),
        (json.dumps({"keys": [{**whole_jwk(one), "d": 5}]}).encode(), "member d is not 32 bytes"),
        (json.dumps({"keys": [{**whole_jwk(one), "x": "AAAA"}]}).encode(), "member x is not 32 bytes"),
        (json.dumps({"keys": [{**whole_jwk(one), "kid": "mine"}]}).encode(), "is not the key's thumbprint"),
        (json.dumps({"keys": [{**whole_jwk(one), "crv": "X25519"}]}).encode(), "is not OKP/Ed25519"),
        (b" " * 1_048_577, "larger than 1048576 bytes"),
    ]
    for content, told in cases:
        write_private_file(file, content)
        with pytest.raises(ConfigurationError, match=told) as caught:
            read_key_file(file)
        assert whole_jwk(one)["d"] not in str(caught.value)


def test_jwk_set_of_others_is_read_by_their_kid_and_foreign_kinds_are_passed_over() -> None:
    key = SigningKey.generate().public
    document = json.dumps({"keys": [{"kty": "RSA", "n": "x"}, {**key.jwk, "kid": "2027"}, key.jwk | {"kid": ""}]})
    assert read_jwks(document.encode(), "set") == {"2027": key, key.kid: key}


@pytest.mark.parametrize("text", ["a", "YQ==", "YR", "Y Q", "Y+8", "größe", "YQ\n"])
def test_base64url_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_base64url(text)


def test_private_file_is_replaced_whole_and_through_its_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    write_private_file(real, b"one")
    link.symlink_to(real)
    write_private_file(link, b"two")
    assert (real.read_bytes(), link.is_symlink()) == (b"two", True)
    assert read_private_file(link) == b"two"


def test_private_file_in_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
        write_private_file(tmp_path / "absent" / "file", b"x")


@pytest.mark.asyncio
async def test_signer_publishes_every_key_before_it_signs(file: Path, registry: InMemoryPublicKeys) -> None:
    rotate(file)
    ring = rotate(file)
    signer = await load_signer(file, registry, ManualSystemClock())
    assert registry.published == list(ring.public_keys)
    assert signed_by(signer) == ring.active.public.kid


@pytest.mark.asyncio
async def test_signer_without_usable_file_or_registry_does_not_start(file: Path, registry: InMemoryPublicKeys) -> None:
    with pytest.raises(ConfigurationError):
        await load_signer(file, registry, ManualSystemClock())
    rotate(file)
    registry.down = True
    with pytest.raises(UnavailableError):
        await load_signer(file, registry, ManualSystemClock())


@pytest.mark.asyncio
async def test_running_signer_takes_a_rotated_key_at_its_next_look(file: Path, registry: InMemoryPublicKeys) -> None:
    rotate(file)
    signer = await load_signer(file, registry, ManualSystemClock())
    ring = rotate(file)
    assert signed_by(signer) != ring.active.public.kid
    await signer.look()
    assert signed_by(signer) == ring.active.public.kid
    assert registry.published == list(ring.public_keys)


@pytest.mark.asyncio
async def test_running_signer_leaves_an_unchanged_file_alone(file: Path, registry: InMemoryPublicKeys) -> None:
    rotate(file)
    signer = await load_signer(file, registry, ManualSystemClock())
    for _ in range(3):
        await signer.look()
    assert registry.publications == 1


@pytest.mark.asyncio
async def test_running_signer_keeps_its_key_until_the_new_one_is_published(
    file: Path, registry: InMemoryPublicKeys
) -> None:
    former = rotate(file)
    signer = await load_signer(file, registry, ManualSystemClock())
    ring = rotate(file)
    registry.down = True
    await signer.look()
    assert signed_by(signer) == former.active.public.kid
    registry.down = False
    await signer.look()
    assert signed_by(signer) == ring.active.public.kid


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text("{"), lambda file: file.chmod(0o644)])
@pytest.mark.asyncio
async def test_running_signer_survives_a_spoiled_file_and_recovers(
    spoil: object, file: Path, registry: InMemoryPublicKeys
) -> None:
    former = rotate(file)
    signer = await load_signer(file, registry, ManualSystemClock())
    assert callable(spoil)
    spoil(file)
    await signer.look()
    assert signed_by(signer) == former.active.public.kid
    ring = rotated(former)
    write_key_file(file, ring)
    await signer.look()
    assert signed_by(signer) == ring.active.public.kid


@pytest.mark.asyncio
async def test_watch_looks_at_a_bounded_pace_and_lets_a_new_key_become_known(
    file: Path, registry: InMemoryPublicKeys
) -> None:
    rotate(file)
    clock = ManualSystemClock(sleeps_max=4)
    signer = await load_signer(file, registry, clock)
    ring = rotate(file)
    with pytest.raises(TimeEndedError):
        await signer.watch()
    assert clock.slept == [LOOK_SECONDS, KNOWN_EVERYWHERE_SECONDS, LOOK_SECONDS, LOOK_SECONDS]
    assert signed_by(signer) == ring.active.public.kid
