"""`keyway gateway`: one gateway process, until SIGTERM or Ctrl-C; a second signal ends it at once."""

import typer

app = typer.Typer(help="Serve the public port.", add_completion=False)


@app.command()
def gateway() -> None:
    """Answer license requests over HTTP. Settings: KEYWAY_… variables, see docs/settings.md."""
    from gateway.app import main
    from shared.settings import load_settings

    raise typer.Exit(main(load_settings()))
