"""`keyway sandbox` says no in one line, before it opens anything."""

from pathlib import Path

import pytest

from keyway.__main__ import VERBS, run_verb

VERB = next(verb for verb in VERBS if verb.name == "sandbox")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--user", "a:b"], "holds no colon"),
        (["--balance", "plenty"], "--balance: 'plenty' is not an amount"),
        (["--password-file", "/nowhere/at/all"], "cannot be read: FileNotFoundError"),
        (["--host", "0.0.0.0", "--control"], "the control plane binds to loopback only"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    password_file = tmp_path / "password"
    password_file.write_text("hidden-thing\n", encoding="utf-8")
    usual = ["--port", "0", "--state-dir", str(tmp_path / "state"), "--user", "reseller"]

    with pytest.raises(SystemExit) as ended:
        run_verb(VERB, [*usual, "--password-file", str(password_file), *arguments])

    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.out == ""
    assert said.err.startswith("keyway sandbox: ")
    assert complaint in said.err
    assert said.err.count("\n") == 1
    assert "hidden-thing" not in said.err
    assert not (tmp_path / "state").exists()


def test_empty_password_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    password_file = tmp_path / "password"
    password_file.touch()

    with pytest.raises(SystemExit):
        run_verb(VERB, ["--state-dir", str(tmp_path), "--user", "a", "--password-file", str(password_file)])

    assert "is empty" in capsys.readouterr().err
