"""`keyway demo`: a KA's month against a real stack, every exchange printed and the public events that followed.

Uses the local stack that runs in the state folder, or starts one of its own and removes it afterwards. The month passes
in seconds, because the demo moves the stack's business clock; at the end it is put back.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keyway.cli.demo_clock import moved_clock
from keyway.cli.installation import state_folder
from keyway.ka.local_stack import Stack, StackUnavailableError, own_stack
from shared.errors import KeywayError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class DemoFailedError(KeywayError):
    """The endpoint did not answer, or the events did not follow, as they should."""

    code = "demo"


@app.command()
def demo(
    state_dir: Annotated[
        Path | None, typer.Option(help="State folder of a running local stack; without one the demo starts its own")
    ] = None,
) -> None:
    """Play a KA's month: purchase, lost reply, renewal, upgrade, NFR mark, usage, termination, a provider product."""
    from rich.console import Console

    from keyway.cli.demo_performance import perform

    console = Console(highlight=False, soft_wrap=True)
    with running_stack(state_dir, console) as stack, moved_clock(stack) as clock:
        found = asyncio.run(perform(stack, clock, console))
    if found:
        raise DemoFailedError(f"{len(found)} things were not as they should be: {'; '.join(found)}")
    console.print("\n[green]Every answer, event and charge was as it should be.[/green]")


@contextmanager
def running_stack(state_dir: Path | None, console: "Console") -> Iterator[Stack]:
    """Give the stack that runs in `state_dir` (the default one when None), else one of our own for the block.

    Raises `StackUnavailableError` when a folder was named and nothing runs there.
    """
    try:
        stack = Stack.read(state_folder(state_dir))
    except StackUnavailableError:
        if state_dir is not None:
            raise
        console.print("No local stack is running: starting one for the demo. (`make up` keeps one.)")
        own = Path(tempfile.mkdtemp(prefix="keyway-demo-", dir="/var/tmp"))
        own.chmod(0o711)  # the uid that runs PostgreSQL for root must get through
        try:
            with own_stack(own) as started:
                yield started
        finally:
            shutil.rmtree(own, ignore_errors=True)
    else:
        yield stack
