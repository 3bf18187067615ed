"""The world of the local stack: schema, topics, example catalog, accounts, owners, signing keys, clock.

Made once, then found: every part is looked at first, so that a second start changes nothing and takes a moment. What
the state folder remembers (secrets, keys) wins over the database, because `endpoints.json` promises it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from shared.domain.key_owners import OwnerKind
from shared.errors import ConfigurationError
from shared.security.accounts import Role

if TYPE_CHECKING:
    from shared.database.accounts import PostgresAccounts
    from shared.database.catalogs import PostgresCatalogs
    from shared.database.owners import PostgresOwners
    from shared.database.signing_keys import PostgresSigningKeys
    from shared.settings import Settings

EXAMPLE_CATALOG = Path(__file__).resolve().parents[2] / "deploy" / "catalog" / "example.yaml"
EXAMPLE_ACCOUNTS = (Role.KA, Role.PARTNER, Role.OPERATOR)
"""One account per role, named like it."""
EXAMPLE_RESELLER = "20001"
EXAMPLE_CLIENTS = {"10001": (101, 102), "10002": (201,)}
"""Clients and their configurations. The first client gets keys made without an owner, the first number is default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What processes and people need to know about a prepared stack."""

    accounts: dict[str, tuple[str, str]]
    """Account -> (name, secret)."""
    signing_keys_file: Path
    clock_offset_file: Path
    panel_password_file: Path


async def prepare_world(settings: "Settings", state_dir: Path) -> World:
    """Bring database and broker to what this release needs, and return how to use them. Safe to repeat.

    Raises `UnavailableError` when a server does not answer, `ConfigurationError` when something there contradicts the
    local stack; the text says what.
    """
    from keyway.cli.topics import apply_topics

    await apply_topics(settings)
    return await prepare_database(settings, state_dir)


async def prepare_database(settings: "Settings", state_dir: Path) -> World:
    """Do the part of `prepare_world` that needs no broker."""
    from keyway.cli.world_files import (
        clock_offset_file,
        panel_password_file,
        provider_accounts_file,
        signing_keys_file,
    )
    from shared.database.accounts import PostgresAccounts
    from shared.database.catalogs import PostgresCatalogs
    from shared.database.migrate import migrate
    from shared.database.owners import PostgresOwners
    from shared.database.pool import open_pool
    from shared.database.signing_keys import PostgresSigningKeys

    database_url = settings.require_database_url()
    await migrate(database_url)
    keys_file = settings.signing_keys_file or signing_keys_file(state_dir)
    async with open_pool(database_url, connections_max=1) as pool:
        await _ensure_catalog(PostgresCatalogs(pool), state_dir)
        accounts = await _ensure_accounts(PostgresAccounts(pool), state_dir)
        await _ensure_owners(PostgresOwners(pool))
        await _ensure_keys(PostgresSigningKeys(pool), keys_file)
    _ensure_clock(clock_offset_file(state_dir))
    _ensure_secret(panel_password_file(state_dir))
    _keep_provider_accounts(settings, provider_accounts_file(state_dir))
    return World(
        accounts=accounts,
        signing_keys_file=keys_file,
        clock_offset_file=clock_offset_file(state_dir),
        panel_password_file=panel_password_file(state_dir),
    )


def _keep_provider_accounts(settings: "Settings", file: Path) -> None:
    """Remember the further provider accounts of this run for the verbs that are pointed at the state folder."""
    from shared.security.private_file import write_private_file

    if settings.provider_isplicense_accounts:
        entries = [account.written() for account in settings.provider_isplicense_accounts]
        write_private_file(file, orjson.dumps(entries, default=str))
    else:
        file.unlink(missing_ok=True)


async def _ensure_catalog(catalogs: "PostgresCatalogs", state: Path) -> None:
    """Put the example catalog into force, unless the newest version is the user's own."""
    from keyway.cli.catalog import apply_document, checked_document, says_the_same
    from keyway.cli.world_files import example_catalog_file
    from shared.security.private_file import write_private_file

    mark = example_catalog_file(state)
    loaded = mark.read_text(encoding="ascii").strip() if mark.exists() else ""
    document = checked_document(EXAMPLE_CATALOG)
    newest = await catalogs.newest()
    if newest is not None and str(newest.version) != loaded and not says_the_same(newest.document, document):
        return
    version, _ = await apply_document(catalogs, document)
    if str(version) != loaded:
        write_private_file(mark, f"{version}\n".encode())


async def _ensure_accounts(accounts: "PostgresAccounts", state: Path) -> dict[str, tuple[str, str]]:
    from keyway.cli.world_files import secrets_file
    from shared.security.account_secrets import new_secret
    from shared.security.private_file import write_private_file

    file = secrets_file(state)
    kept = _kept_secrets(file)
    missing = {role.value: new_secret() for role in EXAMPLE_ACCOUNTS if role.value not in kept}
    if missing:
        kept |= missing
        write_private_file(file, orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    for role in EXAMPLE_ACCOUNTS:
        await _ensure_account(accounts, role, kept[role.value])
    return {role.value: (role.value, kept[role.value]) for role in EXAMPLE_ACCOUNTS}


def _kept_secrets(file: Path) -> dict[str, str]:
    from shared.security.private_file import read_private_file

    content = read_private_file(file)
    if content is None:
        return {}
    try:
        kept = orjson.loads(content)
    except orjson.JSONDecodeError:
        kept = None
    if not isinstance(kept, dict) or not all(isinstance(secret, str) and secret for secret in kept.values()):
        raise ConfigurationError(f"{file} is not a JSON object of secrets: remove it, and new ones are made")
    return kept


async def _ensure_account(accounts: "PostgresAccounts", role: Role, secret: str) -> None:
    from shared.security.account_secrets import hash_secret, secret_matches

    name = role.value
    found = await accounts.find(name)
    if found is None:
        await accounts.add(name, role, hash_secret(secret))
        return
    if found.role is not role:
        raise ConfigurationError(
            f"account {name} has the role {found.role} in this database, the local stack needs {role}: name another "
            "database in KEYWAY_DATABASE_URL"
        )
    if not secret_matches(found.secret_hash, secret):
        await accounts.rotate(name, hash_secret(secret))


async def _ensure_owners(owners: "PostgresOwners") -> None:
    """Make the reseller, clients and configurations of the examples; what is there already stays as it is."""
    book = await owners.all()
    if EXAMPLE_RESELLER not in book.owners:
        await owners.add(EXAMPLE_RESELLER, OwnerKind.RESELLER, name="Example reseller")
    for client, configurations in EXAMPLE_CLIENTS.items():
        if client not in book.owners:
            await owners.add(client, OwnerKind.CLIENT, reseller=EXAMPLE_RESELLER, name=f"Example client {client}")
            for number in configurations:
                await owners.add_configuration(number, client, default=number == configurations[0])
    if Role.PARTNER.value not in book.accounts:
        await owners.link(Role.PARTNER.value, EXAMPLE_RESELLER, default_client=next(iter(EXAMPLE_CLIENTS)))


async def _ensure_keys(signing_keys: "PostgresSigningKeys", file: Path) -> None:
    from shared.security.signing_keys import read_key_file, rotated, write_key_file

    ring = read_key_file(file)
    if ring is None:
        fresh = rotated(None)
        await signing_keys.publish(fresh.public_keys)
        write_key_file(file, fresh)
    else:
        await signing_keys.publish(ring.public_keys)


def _ensure_secret(file: Path) -> None:
    """Make a secret once: the sandbox remembers what it was opened with."""
    from shared.security.account_secrets import new_secret
    from shared.security.private_file import write_private_file

    if not file.exists():
        write_private_file(file, new_secret().encode("ascii"))


def _ensure_clock(file: Path) -> None:
    from shared.security.private_file import write_private_file

    if not file.exists():
        write_private_file(file, b"0\n")
