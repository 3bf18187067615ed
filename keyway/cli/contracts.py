"""`keyway contracts`: the published schemas and the AsyncAPI document, kept current and compatible.

`check` is the gate of the build: it refuses files that are not what the code says, and a schema that takes back what
was released. `write` brings the files up to date; `release` makes the present ones the promise of the future.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from keyway.cli.refusal import RefusedError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs"
INDENTED = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE

app = typer.Typer(help="Published schemas and the AsyncAPI document.", add_completion=False, no_args_is_help=True)
app.callback()(lambda: None)

Folder = Annotated[Path, typer.Option(help="Folder of the documents.")]


@app.command()
def check(folder: Folder = FOLDER) -> None:
    """Refuse documents that are not current, and a change that breaks what was released. Exit status 1 then."""
    from shared.contracts.compatibility import breaks
    from shared.contracts.schemas import all_schemas

    stale = [path for path, content in documents(folder).items() if not path.is_file() or path.read_bytes() != content]
    if stale:
        names = ", ".join(str(path.relative_to(folder)) for path in stale)
        raise RefusedError(f"not what the code says: {names}. Run `keyway contracts write` and look at the difference")
    found = breaks(released_schemas(folder), all_schemas())
    if found:
        raise RefusedError("breaks what other systems rely on:\n  " + "\n  ".join(found))
    print(f"{len(all_schemas())} schemas are current and take nothing back")


@app.command()
def write(folder: Folder = FOLDER) -> None:
    """Write the schemas and the AsyncAPI document."""
    for path, content in documents(folder).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(path)


@app.command()
def release(folder: Folder = FOLDER) -> None:
    """Make the present schemas those that later ones are compared with; refused while they take something back."""
    from shared.contracts.compatibility import breaks
    from shared.contracts.schemas import all_schemas

    found = breaks(released_schemas(folder), all_schemas())
    if found:
        raise RefusedError("breaks what other systems rely on:\n  " + "\n  ".join(found))
    target = folder / "schemas" / "released"
    target.mkdir(parents=True, exist_ok=True)
    for name, schema in all_schemas().items():
        (target / f"{name}.json").write_bytes(orjson.dumps(schema, option=INDENTED))
    print(f"{len(all_schemas())} schemas released in {target}")


def documents(folder: Path) -> Mapping[Path, bytes]:
    """Return what the code says the documents are, by file."""
    from shared.contracts.asyncapi import asyncapi_json
    from shared.contracts.schemas import all_schemas

    schemas = {
        folder / "schemas" / f"{name}.json": orjson.dumps(schema, option=INDENTED)
        for name, schema in all_schemas().items()
    }
    return {**schemas, folder / "asyncapi.json": asyncapi_json()}


def released_schemas(folder: Path) -> Mapping[str, dict[str, Any]]:
    """Return the released schemas, by type."""
    return {path.stem: orjson.loads(path.read_bytes()) for path in (folder / "schemas" / "released").glob("*.json")}
