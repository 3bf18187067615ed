"""`keyway account`: who may call. A secret is shown once, when it is made; only its hash is kept."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from keyway.cli.installation import changes_stack, reads_stack, stack_settings
from keyway.cli.refusal import RefusedError
from shared.contracts.identifiers import ACCOUNT_NAME
from shared.security.accounts import Role

if TYPE_CHECKING:
    from shared.database.accounts import PostgresAccounts

app = typer.Typer(help="Callers and their secrets.", add_completion=False, no_args_is_help=True)

Outcome = TypeVar("Outcome")


def _account_name(text: str) -> str:
    if not ACCOUNT_NAME.fullmatch(text):
        raise typer.BadParameter(f"{text!r}: a name is 1 to 32 small letters, digits and dashes")
    return text


Name = Annotated[str, typer.Argument(metavar="NAME", help="a-z, 0-9 and -, up to 32.", callback=_account_name)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
@changes_stack
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="ka: ISV endpoint; partner: Partner API; operator: console.")],
    as_json: Json = False,
) -> None:
    """Make an account and print its secret, this once."""
    from shared.security.account_secrets import hash_secret, new_secret

    secret = new_secret()
    if not _run(lambda accounts: accounts.add(name, role, hash_secret(secret))):
        raise RefusedError(f"account {name} exists already: give it a new secret with `keyway account rotate {name}`")
    shown = {"name": name, "role": role.value, "secret": secret}
    _show_secret(shown, f"account {name} added with role {role}", as_json=as_json)


@app.command("list")
@reads_stack
def list_(as_json: Json = False) -> None:
    """Print all accounts."""
    listed = _run(lambda accounts: accounts.all())
    if as_json:
        rows = [
            {
                "name": account.name,
                "role": account.role,
                "disabled": account.disabled_at is not None,
                "created_at": account.created_at,
                "disabled_at": account.disabled_at,
            }
            for account in listed
        ]
        print(orjson.dumps({"accounts": rows}).decode())
        return
    for account in listed:
        state = "enabled" if account.disabled_at is None else f"disabled since {account.disabled_at:%Y-%m-%d %H:%M} UTC"
        print(f"{account.name:<32}  {account.role:<8}  {state}")


@app.command()
@changes_stack
def rotate(name: Name, as_json: Json = False) -> None:
    """Give an account a new secret and print it, this once; a disabled account stays disabled.

    Running gateways refuse the old one within KEYWAY_CREDENTIAL_CACHE_SECONDS.
    """
    from shared.security.account_secrets import hash_secret, new_secret

    secret = new_secret()
    if not _run(lambda accounts: accounts.rotate(name, hash_secret(secret))):
        raise _unknown(name)
    _show_secret({"name": name, "secret": secret}, f"account {name} has a new secret", as_json=as_json)


@app.command()
@changes_stack
def disable(name: Name, as_json: Json = False) -> None:
    """Refuse an account from now on; running gateways follow within KEYWAY_CREDENTIAL_CACHE_SECONDS."""
    if not _run(lambda accounts: accounts.disable(name)):
        raise _unknown(name)
    if as_json:
        print(orjson.dumps({"name": name, "disabled": True}).decode())
    else:
        print(f"account {name} is disabled")


@app.command()
@changes_stack
def enable(name: Name, as_json: Json = False) -> None:
    """Let a disabled account in again, with the secret it had; rotate it first if that may be known to others."""
    if not _run(lambda accounts: accounts.enable(name)):
        raise _unknown(name)
    if as_json:
        print(orjson.dumps({"name": name, "disabled": False}).decode())
    else:
        print(f"account {name} is enabled")


def _run(work: "Callable[[PostgresAccounts], Awaitable[Outcome]]") -> Outcome:
    return asyncio.run(_with_accounts(work))


async def _with_accounts(work: "Callable[[PostgresAccounts], Awaitable[Outcome]]") -> Outcome:
    from shared.database.accounts import PostgresAccounts
    from shared.database.pool import open_pool

    async with open_pool(stack_settings().require_database_url()) as pool:
        return await work(PostgresAccounts(pool))


def _show_secret(shown: dict[str, str], done: str, *, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(shown).decode())
    else:
        print(f"{done}; this is the only time that its secret is shown:\n{shown['secret']}")


def _unknown(name: str) -> RefusedError:
    return RefusedError(f"there is no account {name}: `keyway account list` shows them all")
