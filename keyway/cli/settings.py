"""`keyway settings`: every setting with its meaning, bounds and the value in force, secrets masked."""

import re
from typing import Annotated

import orjson
import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.table import Table

from shared.settings import PREFIX, Settings, load_settings

app = typer.Typer(add_completion=False)
USERINFO = re.compile(r"//[^/@]*@")


@app.command()
def show_settings(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    markdown: Annotated[bool, typer.Option(help="Print the page docs/settings.md.")] = False,
) -> None:
    """Print every setting, its value in force (secrets masked) and what it means."""
    if markdown:
        print(settings_page(), end="")
        return
    settings = load_settings()
    if as_json:
        shown = {PREFIX + name.upper(): value_shown(getattr(settings, name)) for name in Settings.model_fields}
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
        return
    table = Table("Setting", "Value", "Meaning", highlight=False)
    for name, field in Settings.model_fields.items():
        table.add_row(PREFIX + name.upper(), value_shown(getattr(settings, name)), field.description or "")
    Console().print(table)


def value_shown(value: object) -> str:
    """Return a value for people: secrets only tell whether they are set."""
    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return ", ".join(account.name for account in value)
    return "" if value is None else USERINFO.sub("//***@", str(value))


def settings_page() -> str:
    """Return docs/settings.md, made from the settings class so that the two cannot differ."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {default_shown(field)} | {bounds_shown(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    head = (
        "# Settings\n\n"
        "Environment variables of every Keyway process; made by `keyway settings --markdown`, do not edit.\n"
        "`KEYWAY_X_FILE` names a file that holds the value of `KEYWAY_X` (mounted secrets). An unknown `KEYWAY_`\n"
        "variable stops the start.\n\n"
        "| Variable | Default | Bounds | Meaning |\n|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def default_shown(field: FieldInfo) -> str:
    """Return the default as the page shows it."""
    shown = value_shown(field.default)
    return f"`{shown}`" if shown else "-"


def bounds_shown(field: FieldInfo) -> str:
    """Return the bounds of a number, the form of a text, or the choices."""
    limits = {name: getattr(item, name) for item in field.metadata for name in ("ge", "le") if hasattr(item, name)}
    if limits:
        return f"{limits.get('ge', '')} … {limits.get('le', '')}"
    choices = getattr(field.annotation, "__args__", ())
    return ", ".join(choices) if choices and all(isinstance(choice, str) for choice in choices) else ""
