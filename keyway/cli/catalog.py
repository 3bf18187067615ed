"""`keyway catalog`: judge a catalog document, tell what it would change, put it into force as a new version."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from keyway.cli.installation import changes_stack, reads_stack, stack_settings
from keyway.cli.refusal import RefusedError
from shared.domain.catalog import Catalog
from shared.domain.catalog_document import Fault

if TYPE_CHECKING:
    from shared.database.catalogs import PostgresCatalogs
    from shared.domain.catalog_change import ProductChange
    from shared.settings import Settings

app = typer.Typer(
    help="Products and upgrades: check, compare, put into force.", add_completion=False, no_args_is_help=True
)

SHOWN_LICENSES_MAX = 5

File = Annotated[Path, typer.Argument(metavar="FILE", help="Catalog document, YAML.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class FaultyCatalogError(RefusedError):
    """A catalog document that must not come into force; the text has every fault, one a line."""

    code = "faulty_catalog"

    def __init__(self, file: Path, faults: Sequence[Fault]) -> None:
        count = f"{len(faults)} fault{'' if len(faults) == 1 else 's'}"
        super().__init__("\n  ".join((f"{file} has {count}", *map(str, faults))))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class _Stranded:
    """Live licenses of one product, its NFR twin included."""

    count: int
    first: Sequence[str]
    """Ids of a few of them."""


@app.command()
def check(file: File, as_json: Json = False) -> None:
    """Judge FILE; needs no database. Exit status 1 and every fault, with where and how to mend it, when it is wrong."""
    try:
        _, catalog = _read(file)
    except FaultyCatalogError as error:
        if as_json:
            faults = [{"where": fault.where, "text": fault.text} for fault in error.faults]
            _print_json({"valid": False, "products": 0, "faults": faults})
        raise
    if as_json:
        _print_json({"valid": True, "products": len(catalog.products), "faults": []})
    else:
        print(f"{file}: {len(catalog.products)} products, no faults")


@app.command()
@changes_stack
def apply(file: File, as_json: Json = False) -> None:
    """Put FILE into force as a new version; nothing happens when the newest version says the same."""

    version, applied = asyncio.run(_apply(stack_settings(), checked_document(file)))
    if as_json:
        _print_json({"version": version, "applied": applied})
    else:
        print(f"catalog version {version} {'is in force now' if applied else 'says the same already'}")


@app.command()
@reads_stack
def diff(file: File, as_json: Json = False) -> None:
    """Tell what FILE would change, and which live licenses it would strand."""

    base, changes, stranded = asyncio.run(_compare(stack_settings(), _read(file)[1]))
    if as_json:
        _print_json({"base_version": base, "changes": [_change_json(change, stranded) for change in changes]})
        return
    print(f"compared with {f'catalog version {base}' if base else 'no catalog'}: {len(changes) or 'no'} changes")
    for change in changes:
        _tell_change(change, stranded)


async def apply_document(catalogs: "PostgresCatalogs", document: object) -> tuple[int, bool]:
    """Put a checked `document` into force; return the version in force and whether it is new.

    Raises `ConflictError` when another version came in at the same moment.
    """
    newest = await catalogs.newest()
    if newest is not None and says_the_same(newest.document, document):
        return newest.version, False
    version = 1 if newest is None else newest.version + 1
    await catalogs.add(document, version=version)
    return version, True


def says_the_same(stored: object, document: object) -> bool:
    """Whether a stored document has the same products as a checked one; one that we cannot read has not."""
    from shared.domain.catalog_check import check_catalog

    return check_catalog(stored, version=0) == check_catalog(document, version=0)


def checked_document(file: Path) -> object:
    """Return the plain values in `file`. Raises `FaultyCatalogError` unless they are a catalog."""
    return _read(file)[0]


def _read(file: Path) -> tuple[object, Catalog]:
    from shared.catalog_file import read_catalog_file
    from shared.domain.catalog_check import check_catalog

    document = read_catalog_file(file)
    outcome = (document,) if isinstance(document, Fault) else check_catalog(document, version=0)
    if isinstance(outcome, Catalog):
        return document, outcome
    raise FaultyCatalogError(file, outcome)


async def _apply(settings: "Settings", document: object) -> tuple[int, bool]:
    async with _catalogs(settings) as catalogs:
        return await apply_document(catalogs, document)


async def _compare(
    settings: "Settings", catalog: Catalog
) -> tuple[int, Sequence["ProductChange"], Mapping[str, "_Stranded"]]:
    from shared.domain.catalog import NFR_PREFIX
    from shared.domain.catalog_change import changes_between

    async with _catalogs(settings) as catalogs:
        newest = await catalogs.newer_than(0)
        changes = changes_between(newest, catalog)
        stranding = [change.sku for change in changes if change.strands]
        held = await catalogs.held_products() if stranding else {}
        stranded = {}
        for sku in stranding:
            twins = (sku, NFR_PREFIX + sku)
            count = sum(held.get(product, 0) for product in twins)
            if count:
                stranded[sku] = _Stranded(count, await catalogs.holders(twins, limit=SHOWN_LICENSES_MAX))
    return 0 if newest is None else newest.version, changes, stranded


@asynccontextmanager
async def _catalogs(settings: "Settings") -> AsyncIterator["PostgresCatalogs"]:
    from shared.database.catalogs import PostgresCatalogs
    from shared.database.pool import open_pool

    async with open_pool(settings.require_database_url()) as pool:
        yield PostgresCatalogs(pool)


def _tell_change(change: "ProductChange", stranded: Mapping[str, "_Stranded"]) -> None:
    print(f"{change.kind:<8} {change.sku}")
    for detail in change.details:
        print(f"         {detail}")
    live = stranded.get(change.sku)
    for reason in change.strands if live else ():
        print(f"         strands {_counted(live)}: {reason}")


def _counted(live: "_Stranded | None") -> str:
    if live is None:
        return "no live license"
    more = ", …" if live.count > len(live.first) else ""
    return f"{live.count} live license{'' if live.count == 1 else 's'} ({', '.join(live.first)}{more})"


def _change_json(change: "ProductChange", stranded: Mapping[str, "_Stranded"]) -> dict[str, object]:
    live = stranded.get(change.sku)
    return {
        "sku": change.sku,
        "change": change.kind,
        "details": change.details,
        "strands": change.strands if live else (),
        "stranded_count": live.count if live else 0,
        "stranded_first": live.first if live else (),
    }


def _print_json(document: Mapping[str, object]) -> None:
    print(orjson.dumps(document).decode())
