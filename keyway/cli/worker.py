"""`keyway worker ROLE`: one worker process, until SIGTERM or Ctrl-C."""

from typing import Annotated

import typer

app = typer.Typer(help="Run one worker process.", add_completion=False)


@app.command()
def worker(
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="Which work: license, provider, usage, intake, relay, scheduler")
    ],
) -> None:
    """Carry out commands from Kafka. Settings: KEYWAY_… variables, see docs/settings.md."""
    from shared.settings import load_settings
    from workers.app import ROLES, run_worker

    if role not in ROLES:
        raise typer.BadParameter(f"{role!r}: there are {', '.join(ROLES)}", param_hint="ROLE")

    run_worker(role, load_settings())
