"""`keyway owner`: resellers and clients of the Partner API, what they may order, and which accounts speak for them."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from keyway.cli.installation import changes_stack, reads_stack, stack_settings
from keyway.cli.refusal import RefusedError
from shared.contracts.identifiers import ACCOUNT_NAME
from shared.domain.key_owners import OwnerKind
from shared.errors import StoreRefusedError

if TYPE_CHECKING:
    from shared.database.owners import PostgresOwners
    from shared.domain.key_owners import OwnerBook

app = typer.Typer(help="Owners of keys.", add_completion=False, no_args_is_help=True)

OWNER_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
CONFIGURATION_MAX = 999_999_999_999_999

BROKEN: Mapping[str, str] = {
    "linked_account_exists": "there is no account of that name: `keyway account list` shows them all",
    "price_list_exists": "there is no price list of that name: `keyway owner list` shows them all",
}
"""Constraints that only the database can judge, in words."""

Outcome = TypeVar("Outcome")


def _owner_id(text: str) -> str:
    if not OWNER_ID.fullmatch(text):
        raise typer.BadParameter(f"{text!r}: an owner id is 1 to 64 letters, digits and dashes")
    return text


def _list_name(text: str) -> str:
    if not ACCOUNT_NAME.fullmatch(text):
        raise typer.BadParameter(f"{text!r}: a name is 1 to 32 small letters, digits and dashes")
    return text


Id = Annotated[str, typer.Argument(metavar="OWNER", help="Letters, digits and -, up to 64.", callback=_owner_id)]
Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="An account of the role partner or ka.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
@changes_stack
def add(
    owner: Id,
    kind: Annotated[OwnerKind, typer.Option(help="client: keys belong to it; reseller: has clients.")],
    reseller: Annotated[str | None, typer.Option(help="The reseller whose client it is.")] = None,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    as_json: Json = False,
) -> None:
    """Add a reseller or a client."""
    if reseller is not None and kind is OwnerKind.RESELLER:
        raise RefusedError("only a client has a reseller: leave --reseller out")

    async def work(owners: "PostgresOwners") -> bool:
        if reseller is not None:
            _require_kind(await owners.all(), reseller, OwnerKind.RESELLER)
        return await owners.add(owner, kind, reseller=reseller, name=name)

    if not _run(work):
        raise RefusedError(f"owner {owner} exists already: `keyway owner list` shows it")
    _done({"owner": owner, "kind": kind.value, "reseller": reseller}, f"{kind.value} {owner} added", as_json=as_json)


@app.command("list")
@reads_stack
def list_(as_json: Json = False) -> None:
    """Print all owners, configurations, price lists and links."""

    async def work(owners: "PostgresOwners") -> "tuple[OwnerBook, dict[str, list[str]]]":
        return await owners.all(), await owners.price_lists()

    book, prices = _run(work)
    shown = [
        {
            "owner": owner.owner_id,
            "kind": owner.kind.value,
            "reseller": owner.reseller,
            "suspended": owner.suspended,
            "configurations": sorted(owner.configurations),
            "default_configuration": owner.default_configuration,
        }
        for owner in book.owners.values()
    ]
    links = [
        {
            "account": link.account,
            "owner": link.owner,
            "default_client": link.default_client,
            "items": None if link.price_list is None else sorted(link.price_list),
        }
        for link in book.accounts.values()
    ]
    if as_json:
        print(orjson.dumps({"owners": shown, "accounts": links, "price_lists": prices}).decode())
        return
    for row in shown:
        state = "suspended" if row["suspended"] else "active"
        of = f"  of {row['reseller']}" if row["reseller"] else ""
        configured = f"  configurations {row['configurations']}, default {row['default_configuration']}"
        print(f"{row['owner']:<16}  {row['kind']:<8}  {state}{of}{configured if row['configurations'] else ''}")
    for link in links:
        client = f", new keys for {link['default_client']}" if link["default_client"] else ""
        print(f"account {link['account']} speaks for {link['owner']}{client}")
    for name, items in prices.items():
        print(f"price list {name}: {', '.join(items)}")


@app.command()
@changes_stack
def suspend(owner: Id, as_json: Json = False) -> None:
    """Show all keys of an owner as suspended, and let nobody move keys to it."""
    _suspend(owner, suspended=True, as_json=as_json)


@app.command()
@changes_stack
def resume(owner: Id, as_json: Json = False) -> None:
    """Undo `suspend`."""
    _suspend(owner, suspended=False, as_json=as_json)


def _suspend(owner: str, *, suspended: bool, as_json: bool) -> None:
    if not _run(lambda owners: owners.suspend(owner, suspended=suspended)):
        raise RefusedError(f"there is no owner {owner}: `keyway owner list` shows them all")
    text = f"owner {owner} is {'suspended' if suspended else 'active'}"
    _done({"owner": owner, "suspended": suspended}, text, as_json=as_json)


@app.command()
@changes_stack
def configuration(
    owner: Id,
    number: Annotated[int, typer.Argument(metavar="CONFIGURATION", min=1, max=CONFIGURATION_MAX)],
    default: Annotated[bool, typer.Option("--default", help="What keys get that name none.")] = False,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    as_json: Json = False,
) -> None:
    """Add a product configuration of an owner."""

    async def work(owners: "PostgresOwners") -> bool:
        _require_kind(await owners.all(), owner, OwnerKind.CLIENT)
        return await owners.add_configuration(number, owner, name=name, default=default)

    if not _run(work):
        raise RefusedError(f"configuration {number} exists already: `keyway owner list` shows whose it is")
    shown = {"configuration": number, "owner": owner, "default": default}
    _done(shown, f"configuration {number} of {owner} added", as_json=as_json)


@app.command("price-list")
@changes_stack
def price_list(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a-z, 0-9 and -, up to 32.", callback=_list_name)],
    items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="Item constants.")],
    as_json: Json = False,
) -> None:
    """Make a price list, or replace what it holds."""
    _run(lambda owners: owners.put_price_list(name, items))
    _done({"price_list": name, "items": items}, f"price list {name} has {len(items)} items", as_json=as_json)


@app.command()
@changes_stack
def link(
    account: Account,
    owner: Id,
    default_client: Annotated[str | None, typer.Option(help="Owner of keys that a reseller creates unnamed.")] = None,
    prices: Annotated[str | None, typer.Option("--price-list", help="What it may order; none: everything.")] = None,
    as_json: Json = False,
) -> None:
    """Let an account speak for an owner. The licenses of an ISV account show in the Partner API from then on."""

    async def work(owners: "PostgresOwners") -> None:
        book = await owners.all()
        _require_owner(book, owner)
        if default_client is not None and not _is_client_of(book, default_client, owner):
            raise RefusedError(f"{default_client} is no client of {owner}: `keyway owner list` shows them all")
        await owners.link(account, owner, default_client=default_client, price_list=prices)

    _run(work)
    shown = {"account": account, "owner": owner, "default_client": default_client, "price_list": prices}
    _done(shown, f"account {account} speaks for {owner}", as_json=as_json)


@app.command()
@changes_stack
def unlink(account: Account, as_json: Json = False) -> None:
    """Let an account speak for nobody any more."""
    if not _run(lambda owners: owners.unlink(account)):
        raise RefusedError(f"account {account} speaks for nobody")
    _done({"account": account}, f"account {account} speaks for nobody any more", as_json=as_json)


def _require_owner(book: "OwnerBook", owner_id: str) -> None:
    if owner_id not in book.owners:
        raise RefusedError(f"there is no owner {owner_id}: `keyway owner list` shows them all")


def _require_kind(book: "OwnerBook", owner_id: str, kind: OwnerKind) -> None:
    _require_owner(book, owner_id)
    if book.owners[owner_id].kind is not kind:
        raise RefusedError(f"owner {owner_id} is no {kind.value}")


def _is_client_of(book: "OwnerBook", client: str, owner: str) -> bool:
    found = book.owners.get(client)
    return found is not None and found.kind is OwnerKind.CLIENT and owner in (found.owner_id, found.reseller)


def _run(work: "Callable[[PostgresOwners], Awaitable[Outcome]]") -> Outcome:
    try:
        return asyncio.run(_with_owners(work))
    except StoreRefusedError as error:
        known = next((text for name, text in BROKEN.items() if name in str(error)), None)
        raise RefusedError(known or f"the database refuses this: {error}") from None


async def _with_owners(work: "Callable[[PostgresOwners], Awaitable[Outcome]]") -> Outcome:
    from shared.database.owners import PostgresOwners
    from shared.database.pool import open_pool

    async with open_pool(stack_settings().require_database_url()) as pool:
        return await work(PostgresOwners(pool))


def _done(shown: Mapping[str, object], text: str, *, as_json: bool) -> None:
    print(orjson.dumps(dict(shown)).decode() if as_json else text)
