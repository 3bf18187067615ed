"""`keyway sandbox`: the stand-in ISPlicense panel as a process of its own."""

from pathlib import Path
from typing import Annotated

import typer

from keyway.cli.refusal import RefusedError

app = typer.Typer(add_completion=False)


@app.command()
def serve(  # noqa: PLR0913 - one parameter per option of the verb
    *,
    state_dir: Annotated[Path, typer.Option(help="Folder that keeps licenses, ledger and journal over restarts.")],
    user: Annotated[str, typer.Option(help="Panel user of the first account.")],
    password_file: Annotated[Path, typer.Option(help="File that holds the password of that user.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for plain HTTP; 0 picks a free one.")] = 8070,
    tls_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for HTTPS with a test CA; 0 picks a free one.")
    ] = None,
    control: Annotated[
        bool, typer.Option("--control", help="Open the control plane /__sandbox/, loopback only.")
    ] = False,
    balance: Annotated[str, typer.Option(help="What every account starts with.")] = "1000000.00",
    further_accounts: Annotated[
        bool,
        typer.Option(
            "--further-accounts",
            help="Open the accounts of KEYWAY_PROVIDER_ISPLICENSE_ACCOUNTS that name no other panel as well.",
        ),
    ] = False,
    seed: Annotated[str, typer.Option(help="License keys, sessions and drawn faults follow from it.")] = "keyway",
) -> None:
    """Serve a stand-in ISPlicense panel until Ctrl-C: faithful, durable, and mischievous when told."""
    import asyncio

    import uvloop

    from keyway.sandbox.app import Addresses, Options, run
    from keyway.sandbox.store import Opening
    from shared.clock import business_clock
    from shared.settings import load_settings

    def announce(addresses: Addresses) -> None:
        print(f"sandbox ready: {addresses.url}", flush=True)
        if addresses.tls_url:
            print(f"sandbox TLS: {addresses.tls_url} (CA {addresses.authority})", flush=True)

    if not user or ":" in user:
        raise RefusedError(f"--user {user!r}: a panel user is not empty and holds no colon")
    settings = load_settings()
    further = {
        account.user: account.password.get_secret_value()
        for account in settings.provider_isplicense_accounts
        if further_accounts and account.url is None
    }
    options = Options(
        host=host,
        port=port,
        tls_port=tls_port,
        state_dir=state_dir,
        control=control,
        opening=Opening(
            seed=seed, user=user, password=_password(password_file), balance=_amount(balance), further=further
        ),
    )
    clock = business_clock(settings.clock_offset_file)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(options, clock, announce))


def _amount(text: str) -> int:
    from keyway.sandbox.catalog import money

    try:
        return money(text)
    except ValueError as error:
        raise RefusedError(f"--balance: {error}") from None


def _password(path: Path) -> str:
    try:
        password = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(f"--password-file {path} cannot be read: {type(error).__name__}") from None
    if not password:
        raise RefusedError(f"--password-file {path} is empty")
    return password
