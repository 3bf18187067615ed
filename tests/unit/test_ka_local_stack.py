"""What `endpoints.json` tells from outside: above all whether orders upstream cost only play money."""

import json
from pathlib import Path

import pytest

from keyway.ka.local_stack import FILE_NAME, Stack, StackUnavailableError

PANEL = "http://127.0.0.1:8070/manager/billmgr"


def a_stack(state: Path, *roles: str) -> Stack:
    document = {
        "gateway": ["http://127.0.0.1:8080"],
        "kafka": "127.0.0.1:9092",
        "database": "postgresql://127.0.0.1/keyway",
        "sandbox": PANEL,
        "accounts": {"ka": ["ka", "secret"]},
        "processes": [{"name": f"{role}-0", "role": role, "pid": 1} for role in roles],
    }
    (state / FILE_NAME).write_text(json.dumps(document))
    return Stack.read(state)


def test_the_panel_is_the_sandbox_that_runs_in_the_stack(tmp_path: Path) -> None:
    assert a_stack(tmp_path, "gateway", "sandbox").panel == PANEL


def test_a_panel_of_somebody_else_is_never_taken_for_a_sandbox(tmp_path: Path) -> None:
    assert a_stack(tmp_path, "gateway", "provider").panel is None


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StackUnavailableError, match="make up"):
        Stack.read(tmp_path)
