"""`keyway keys`: the keys that sign license bodies. Old bodies stay verifiable: a public half is never dropped."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from keyway.cli.installation import changes_stack, reads_stack, stack_settings

if TYPE_CHECKING:
    from shared.database.signing_keys import PostgresSigningKeys
    from shared.security.signing_keys import KeyRing, PublicKey
    from shared.settings import Settings

app = typer.Typer(help="Signing keys of license bodies.", add_completion=False, no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
@reads_stack
def list_(as_json: Json = False) -> None:
    """Print the keys of KEYWAY_SIGNING_KEYS_FILE and, where a database is set, those published."""
    from shared.security.signing_keys import read_key_file

    settings = stack_settings()
    ring = None if settings.signing_keys_file is None else read_key_file(settings.signing_keys_file)
    if ring is None and not settings.database_url.get_secret_value():
        settings.require_signing_keys_file()
    published = asyncio.run(_published(settings)) if settings.database_url.get_secret_value() else None
    rows = _rows(ring, published)
    if as_json:
        print(orjson.dumps({"keys": rows}).decode())
        return
    if not rows:
        print("no signing key: `keyway keys rotate` makes one")
    for row in rows:
        known = {True: "published", False: "not published", None: "publication unknown: no database set"}
        print(f"{row.kid}  {row.state:<9}  {known[row.published]}")


@app.command()
@changes_stack
def rotate(as_json: Json = False) -> None:
    """Add a fresh key to KEYWAY_SIGNING_KEYS_FILE and make it the active one; the file is made when missing.

    The public half is published first, where a database is set. Running workers take the key within seconds.
    """
    from shared.security.signing_keys import read_key_file, rotated, write_key_file

    settings = stack_settings()
    file = settings.require_signing_keys_file()
    ring = rotated(read_key_file(file))
    publishes = bool(settings.database_url.get_secret_value())
    if publishes:
        asyncio.run(_publish(settings, ring.public_keys))
    write_key_file(file, ring)
    kid = ring.active.public.kid
    if as_json:
        print(orjson.dumps({"kid": kid, "published": publishes, "file": str(file)}).decode())
    else:
        told = "published" if publishes else "not published yet (no database set): the worker does it at its start"
        print(f"key {kid} is active now in {file}; {told}")


async def _publish(settings: "Settings", keys: Sequence["PublicKey"]) -> None:
    async with _signing_keys(settings) as signing_keys:
        await signing_keys.publish(keys)


async def _published(settings: "Settings") -> Sequence["PublicKey"]:
    from shared.security.signing_keys import public_key_of

    async with _signing_keys(settings) as signing_keys:
        return [public_key_of(jwk, "table signing_key") for jwk in await signing_keys.all()]


@asynccontextmanager
async def _signing_keys(settings: "Settings") -> AsyncIterator["PostgresSigningKeys"]:
    from shared.database.pool import open_pool
    from shared.database.signing_keys import PostgresSigningKeys

    async with open_pool(settings.require_database_url()) as pool:
        yield PostgresSigningKeys(pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    kid: str
    state: str
    """`active` or `retired` in our file, `elsewhere` when only published."""
    published: bool | None
    """None when no database is set."""


def _rows(ring: "KeyRing | None", published: Sequence["PublicKey"] | None) -> list[_Row]:
    in_file = () if ring is None else ring.public_keys
    active = None if ring is None else ring.active.public
    return [
        _Row(
            kid=key.kid,
            state="active" if key == active else "retired" if key in in_file else "elsewhere",
            published=None if published is None else key in published,
        )
        for key in dict.fromkeys((*(published or ()), *in_file))
    ]
