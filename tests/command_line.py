"""Runs verbs of `keyway` inside the test process, as a shell would see them: status, standard output and error."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyway.__main__ import VERBS, run_verb


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON on standard output."""
        return json.loads(self.out)


class Shell:
    """A shell with an environment of its own; only what is `export`ed of `KEYWAY_…` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def export(self, **variables: object) -> None:
        """Set `KEYWAY_…` variables; names are given without the prefix, in lower case."""
        for name, value in variables.items():
            self._monkeypatch.setenv(f"KEYWAY_{name.upper()}", str(value))

    def keyway(self, verb: str, *arguments: object) -> Ran:
        """Run `keyway VERB ARGUMENTS…`."""
        self._capfd.readouterr()
        (found,) = (known for known in VERBS if known.name == verb)
        try:
            run_verb(found, [str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        else:
            status = 0
        captured = self._capfd.readouterr()
        return Ran(status, captured.out, captured.err)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    """A shell without any setting of ours, on a machine where no local stack was ever ready."""
    import os

    for name in [name for name in os.environ if name.startswith("KEYWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KEYWAY_LOCAL_STATE_DIR", str(tmp_path / "no-stack"))
    return Shell(monkeypatch, capfd)
