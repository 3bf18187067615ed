"""`keyway migrate`: bring the database to the schema of this program, once, whoever asks how often at once."""

import asyncio
from typing import Annotated

import orjson
import typer

from keyway.cli.installation import changes_stack, stack_settings
from keyway.cli.waiting import waiting

app = typer.Typer(add_completion=False)


@app.command()
@changes_stack
def migrate(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Apply the missing migrations to the database of KEYWAY_DATABASE_URL and name them.

    Exit status 1 when the database does not answer or a migration fails; those before it stay applied.
    """
    from shared.database.migrate import migrate as apply_migrations

    database_url = stack_settings().require_database_url()
    with waiting("applying migrations"):
        applied = asyncio.run(apply_migrations(database_url))
    if as_json:
        print(orjson.dumps({"applied": applied}).decode())
    elif applied:
        print("\n".join(f"applied {name}" for name in applied))
    else:
        print("nothing to apply: the schema is up to date")
