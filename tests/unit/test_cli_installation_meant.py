"""Which installation a verb talks to: that of a named folder, the environment's, or the usual one; never a guess."""

import json
from pathlib import Path

import pytest

from tests.command_line import Shell, shell

__all__ = ["shell"]

NOBODY = "postgresql://keyway:hidden@127.0.0.1:1/local"
ELSEWHERE = "postgresql://keyway:hidden@127.0.0.1:2/production"
READING = [
    ("account", "list"),
    ("explain", "ka:1"),
    ("license", "list"),
    ("owner", "list"),
    ("provider", "orders"),
    ("usage", "show"),
    ("dead", "list"),
]
CHANGING = [
    ("account", "disable", "ka"),
    ("migrate",),
    ("owner", "suspend", "10001"),
    ("provider", "reconcile"),
    ("replay", "--all"),
    ("usage", "topic"),
]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The state folder of a stack that was ready once and does not run now."""
    folder = tmp_path / "state"
    folder.mkdir()
    document = {"database": NOBODY, "kafka": "127.0.0.1:1"}
    (folder / "endpoints.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.mark.parametrize("verb", [*READING, *CHANGING], ids=" ".join)
def test_without_an_environment_and_a_stack_both_ways_are_named(shell: Shell, tmp_path: Path, verb: list[str]) -> None:
    ran = shell.keyway(*verb)

    assert (ran.status, ran.out) == (1, "")
    assert all(word in ran.err for word in ("KEYWAY_DATABASE_URL", "--state-dir", str(tmp_path / "no-stack")))
    assert not (tmp_path / "no-stack").exists()


@pytest.mark.parametrize("verb", READING, ids=" ".join)
def test_a_state_folder_gives_the_addresses_and_says_so_when_nobody_answers(
    shell: Shell, stopped: Path, verb: list[str]
) -> None:
    named = shell.keyway(*verb, "--state-dir", stopped)
    shell.export(local_state_dir=stopped)
    usual = shell.keyway(*verb)

    assert named.status == usual.status == 1
    assert named.err == usual.err
    assert f"keyway up --state-dir {stopped}" in named.err
    assert len(named.err.splitlines()) == 1
    assert "hidden" not in named.err


@pytest.mark.parametrize("verb", CHANGING, ids=" ".join)
def test_a_verb_that_changes_something_says_which_local_database_it_found(
    shell: Shell, stopped: Path, verb: list[str]
) -> None:
    named = shell.keyway(*verb, "--state-dir", stopped)
    shell.export(local_state_dir=stopped)
    ran = shell.keyway(*verb)

    assert (named.status, ran.status) == (1, 1)
    assert ran.err.splitlines()[0] == (
        f"keyway: using the local stack in {stopped}: database 127.0.0.1:1/local, Kafka 127.0.0.1:1"
    )
    assert "using the local stack" not in named.err, "whoever names it knows"


@pytest.mark.parametrize("verb", [*READING, *CHANGING], ids=" ".join)
def test_the_environment_wins_whole_over_the_usual_folder(shell: Shell, stopped: Path, verb: list[str]) -> None:
    shell.export(database_url=ELSEWHERE, local_state_dir=stopped)
    ran = shell.keyway(*verb)

    assert ran.status == 1
    assert "using the local stack" not in ran.err
    assert "keyway up" not in ran.err, "the local stack has nothing to do with that silence"


@pytest.mark.parametrize("verb", [*READING, *CHANGING], ids=" ".join)
def test_a_named_folder_wins_whole_over_the_environment(shell: Shell, stopped: Path, verb: list[str]) -> None:
    alone = shell.keyway(*verb, "--state-dir", stopped)
    shell.export(database_url=ELSEWHERE, kafka_bootstrap="broker.example:9092")
    both = shell.keyway(*verb, "--state-dir", stopped)

    assert (both.status, both.err) == (alone.status, alone.err)
    assert f"keyway up --state-dir {stopped}" in both.err


def test_a_named_folder_without_a_stack_is_refused_whatever_the_environment_says(shell: Shell, tmp_path: Path) -> None:
    shell.export(database_url=ELSEWHERE)
    ran = shell.keyway("account", "list", "--state-dir", tmp_path)

    assert ran.status == 1
    assert str(tmp_path) in ran.err
    assert "endpoints.json" in ran.err


def test_half_an_environment_is_not_completed_from_a_folder(shell: Shell, stopped: Path) -> None:
    shell.export(kafka_bootstrap="broker.example:9092", local_state_dir=stopped)
    ran = shell.keyway("dead", "retry", "license.commands", "--all")

    assert ran.status == 1
    assert "KEYWAY_DATABASE_URL is not set" in ran.err
    assert "KEYWAY_KAFKA_BOOTSTRAP is set, so no state folder is looked into" in ran.err


def test_a_worker_role_that_does_not_exist_is_wrong_usage(shell: Shell) -> None:
    ran = shell.keyway("worker", "nosuch")

    assert ran.status == 2
    assert "scheduler" in ran.err


@pytest.mark.parametrize("verb", [("keys", "list"), ("keys", "rotate")], ids=" ".join)
def test_keys_without_a_file_and_a_stack_are_refused_and_none_is_made(shell: Shell, verb: list[str]) -> None:
    ran = shell.keyway(*verb)

    assert (ran.status, ran.out) == (1, "")
    assert all(word in ran.err for word in ("KEYWAY_SIGNING_KEYS_FILE", "--state-dir"))


def test_an_endpoints_file_that_cannot_be_read_is_named(shell: Shell, stopped: Path) -> None:
    (stopped / "endpoints.json").write_text('{"gateway": []}', encoding="utf-8")
    ran = shell.keyway("account", "list", "--state-dir", stopped)

    assert ran.status == 1
    assert str(stopped / "endpoints.json") in ran.err
