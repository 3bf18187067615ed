"""The `keyway` command: a table of verbs, each imported only when it is called, so that `keyway --help` is quick."""

import importlib
import sys
from dataclasses import dataclass

import typer

from shared.errors import KeywayError


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb or group of verbs: its name, the `typer.Typer` behind it as `module:attribute`, and one line of help."""

    name: str
    target: str
    summary: str


VERBS = (
    Verb("up", "keyway.cli.up:app", "Start the local stack: PostgreSQL, Kafka, gateways, workers. Ctrl-C ends it."),
    Verb("gateway", "keyway.cli.gateway:app", "Serve the public port: one gateway process, until SIGTERM."),
    Verb("worker", "keyway.cli.worker:app", "Carry out commands: one worker process of a role, until SIGTERM."),
    Verb("migrate", "keyway.cli.migrate:app", "Bring the database to the present schema."),
    Verb("topics", "keyway.cli.topics:app", "Kafka topics: apply the declared file."),
    Verb("catalog", "keyway.cli.catalog:app", "Products and upgrades: check, compare, put into force."),
    Verb("account", "keyway.cli.account:app", "Callers and their secrets: add, list, rotate, disable, enable."),
    Verb("owner", "keyway.cli.owner:app", "Owners of keys: clients, resellers, configurations, price lists, links."),
    Verb("plan", "keyway.cli.plan:app", "Show what a modification of a key would do: operations, order, conflicts."),
    Verb("license", "keyway.cli.license:app", "Licenses: list them, by product, status and marks."),
    Verb("explain", "keyway.cli.explain:app", "Tell the whole story of one license; check its audit chain."),
    Verb("provider", "keyway.cli.provider:app", "Orders at the upstream provider: list, settle, compare, decide."),
    Verb("usage", "keyway.cli.usage:app", "Usage counters and reports; settlement months: show, close, settle."),
    Verb("keys", "keyway.cli.keys:app", "Signing keys of license bodies: list, rotate."),
    Verb("verify", "keyway.cli.verify:app", "Check a license body offline with a file of public keys."),
    Verb("settings", "keyway.cli.settings:app", "Show every setting: value in force, bounds, meaning."),
    Verb("clock", "keyway.cli.clock:app", "Show or move the business clock of the local stack."),
    Verb("sandbox", "keyway.cli.sandbox:app", "Serve a stand-in ISPlicense panel, mischievous when told."),
    Verb("replay", "keyway.cli.replay:app", "Publish license events again: of one license, a range of time, all."),
    Verb("dead", "keyway.cli.dead:app", "Dead letters: list, show, retry, discard."),
    Verb("contracts", "keyway.cli.contracts:app", "Published event schemas: check, write, release."),
    Verb("demo", "keyway.cli.demo:app", "Play a KA's month on a real stack and print every exchange."),
    Verb("bench", "keyway.cli.bench:app", "Measure the system beside two baselines, interleaved in one run."),
)

FAILED = 1


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 refused or failed, 2 wrong usage."""
    root = typer.Typer(
        name="keyway",
        help="Asynchronous, message-driven licensing service.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # its tracebacks print local variables, and some of those are secrets
    )
    root.callback()(lambda: None)  # makes a group even of one verb
    for verb in VERBS:
        _register(root, verb)
    root()


def _register(root: typer.Typer, verb: Verb) -> None:
    @root.command(
        verb.name,
        help=verb.summary,
        add_help_option=False,  # the verb's own module knows its options
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def call(context: typer.Context) -> None:
        run_verb(verb, context.args)


def run_verb(verb: Verb, arguments: list[str]) -> None:
    """Import the verb and run it. A failure of ours becomes one line and exit status 1."""
    module, _, attribute = verb.target.partition(":")
    app: typer.Typer = getattr(importlib.import_module(module), attribute)
    try:
        typer.main.get_command(app).main(args=arguments, prog_name=f"keyway {verb.name}")
    except KeywayError as error:
        sys.stderr.write(f"keyway {verb.name}: {error}\n")
        raise SystemExit(FAILED) from None


if __name__ == "__main__":
    main()
