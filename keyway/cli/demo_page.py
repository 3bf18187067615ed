"""What `keyway demo` shows on the terminal.

`->` is asked or reported, `<-` answered, `=>` a public event that followed, `$$` a look into the provider's books,
`!!` what was not as it should be.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from keyway.ka.client import Exchange
from keyway.ka.forms import ALIKE_FIELDS
from keyway.ka.month import EVENT_PREFIX, Step
from keyway.ka.panel_books import PanelCharge, PanelService
from keyway.ka.public_topics import Event, Story

if TYPE_CHECKING:
    from rich.console import Console

SHOWN_BODY_BYTES = 40
SHOWN_VALUE_LETTERS = 16


class Page:
    """The demo's page, written from top to bottom."""

    def __init__(self, console: "Console") -> None:
        self._console = console

    def act(self, title: str, license: str) -> None:
        """Head the story of one license."""
        self._console.print()
        self._console.rule(f"[bold]{title}[/bold]  {license}", align="left", style="dim")

    def left_out(self, title: str, reason: str) -> None:
        """Say why an act is not played."""
        self._console.print(f"\n[bold]{title}[/bold] is left out: {reason}")

    def step(self, number: int, step: Step, day: date) -> None:
        """Head one step."""
        self._console.print(f"\n[bold]{number}. {step.title}[/bold]  [dim]{day:%d %B %Y}[/dim]")

    def reported(self, topic: str, said: Sequence[tuple[str, str]]) -> None:
        """Show usage events as they were published: id and content."""
        for event_id, content in said:
            self._line(f"  -> {topic}  {content}  id={event_id}")

    def asked(self, exchange: Exchange) -> None:
        """Show the request."""
        fields = [f"{name}={_short(value)}" for name, value in exchange.form if name not in ALIKE_FIELDS]
        self._line(f"  -> {exchange.action}  {' '.join(fields)}")

    def answered(self, exchange: Exchange, claims: Mapping[str, object] | None) -> None:
        """Show what came back; `claims` are those of a genuine license body."""
        if exchange.answer is None:
            self._line(f"  <- nothing: {exchange.problem}")
            return
        expiry = f"  X-APS-Expiration-Date: {exchange.expiry}" if exchange.expiry else ""
        self._line(f"  <- {exchange.status} in {exchange.seconds * 1000:.0f} ms{expiry}")
        if claims is not None:
            shown = exchange.body[:SHOWN_BODY_BYTES].decode()
            told = f"{claims['product']}, revision {claims['revision']}"
            self._line(f"     {shown}... ({len(exchange.body)} bytes; signature good: {told})")
        elif exchange.body:
            self._line(f"     {exchange.body.decode(errors='replace')}")

    def compared(self, earlier: str, *, same: bool) -> None:
        """Say whether the bytes are those of an earlier step."""
        self._console.print(f"  [green]byte for byte as at {earlier!r}[/green]" if same else "  [red]OTHER BYTES[/red]")

    def followed(self, events: Sequence[Event]) -> None:
        """Show the public events that followed."""
        for event in events:
            data = event["data"]
            told = data if isinstance(data, Mapping) else {}
            name = str(event["type"]).removeprefix(EVENT_PREFIX)
            state = f"{told.get('product')}, {told.get('status')}, revision {told.get('revision')}"
            self._line(f"  => event {event['sequence']}: {name}  ({state}, until {told.get('expires_on')})")

    def charged(self, service: PanelService | None, charges: Sequence[PanelCharge]) -> None:
        """Show the provider's books on the license."""
        if service is None:
            self._line("  $$ the provider knows no such service")
            return
        sums = ", ".join(f"{charge.reason} {charge.amount}" for charge in charges)
        ended = "; ended" if service.ended else ""
        self._line(f"  $$ the provider's ledger on service {service.number}: {sums or 'nothing'}{ended}")

    def wrong(self, faults: Sequence[str]) -> None:
        """Show what was not as it should be, right where it happened."""
        for fault in faults:
            self._line(f"  !! {fault}")

    def ended(self, story: Story) -> None:
        """Sum up the events of the license."""
        copies = f", {story.copies} copies dropped" if story.copies else ""
        if story.faults:
            self._line(f"\n  events: {'; '.join(story.faults)}")
        else:
            self._console.print(f"\n  [green]events 1 to {story.last}, without a gap{copies}[/green]")

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False)


def _short(value: str) -> str:
    return value if len(value) <= SHOWN_BODY_BYTES else f"{value[:SHOWN_VALUE_LETTERS]}..."
