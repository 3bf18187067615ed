"""`keyway verify`: judge a license body offline, with nothing but a file of public keys."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from keyway.cli.installation import reads_stack, stack_settings
from keyway.cli.refusal import RefusedError

if TYPE_CHECKING:
    from shared.security.signing_keys import PublicKey

app = typer.Typer(add_completion=False)

FAILED = 1
STANDARD_INPUT = Path("-")
READ_LIMIT_BYTES = 1_048_576


@app.command()
@reads_stack
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The license body; - reads standard input.")],
    jwks: Annotated[
        Path | None,
        typer.Option(help="Public keys, as served at /.well-known/jwks.json. Without it KEYWAY_SIGNING_KEYS_FILE."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check the signature of a license body and print its claims. Needs no network and no stack.

    Exit status 0: genuine and in force. 1: not genuine (malformed, unknown key, bad signature), or genuine but expired;
    the text, and `outcome` of --json, say which.
    """
    from shared.security.license_body import BodyFault, check_body

    outcome = check_body(_read(file).strip(), _keys(jwks))
    if isinstance(outcome, BodyFault):
        if as_json:
            _print_json({"outcome": outcome.kind.value, "reason": outcome.text})
        print(f"not genuine ({outcome.kind.value}): {outcome.text}", file=sys.stderr)
        raise typer.Exit(FAILED)
    expired_at = _expired_at(outcome.claims)
    if as_json:
        verdict = "valid" if expired_at is None else "expired"
        _print_json({"outcome": verdict, "kid": outcome.kid, "claims": dict(outcome.claims)})
    else:
        print(f"genuine, signed by key {outcome.kid}")
        for name, value in sorted(outcome.claims.items()):
            print(f"  {name:<10}{_shown(name, value)}")
    if expired_at is not None:
        print(f"expired: the signature is good, but the license ended at {expired_at}", file=sys.stderr)
        raise typer.Exit(FAILED)


def _keys(jwks: Path | None) -> Mapping[str, "PublicKey"]:
    from shared.security.signing_keys import read_jwks, require_key_file

    if jwks is not None:
        return read_jwks(_read(jwks), str(jwks))
    own = stack_settings().signing_keys_file
    if own is None:
        raise typer.BadParameter(
            "name the public keys with --jwks, a file of private keys in KEYWAY_SIGNING_KEYS_FILE,"
            " or a local stack with --state-dir"
        )
    return {key.kid: key for key in require_key_file(own).public_keys}


def _read(file: Path) -> bytes:
    try:
        if file == STANDARD_INPUT:
            return sys.stdin.buffer.read(READ_LIMIT_BYTES)
        with file.open("rb") as opened:
            return opened.read(READ_LIMIT_BYTES)
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}") from None


def _expired_at(claims: Mapping[str, object]) -> str | None:
    from shared.clock import business_clock

    expiry = claims.get("exp")
    now = business_clock(stack_settings().clock_offset_file).now()
    if isinstance(expiry, bool) or not isinstance(expiry, int) or now.timestamp() < expiry:
        return None
    return _moment(expiry)


def _shown(name: str, value: object) -> str:
    if name == "exp" and isinstance(value, int) and not isinstance(value, bool):
        return f"{value} ({_moment(value)})"
    return orjson.dumps(value).decode() if not isinstance(value, str) else value


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return "outside the calendar"


def _print_json(document: Mapping[str, object]) -> None:
    print(orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode())
