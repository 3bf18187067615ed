"""Rules of the local stack that need no process: pauses, texts, what a child gets to know, what a person sees."""

import json
import shlex
from pathlib import Path

import pytest

from keyway.cli.up import TerminalNarrator, ready_text
from keyway.localstack.endpoints import Endpoints, RunningProcess, write_endpoints
from keyway.localstack.folders import found_state_folder
from keyway.localstack.plan import Plan
from keyway.localstack.processes import LocalStackError, identify, read_record, replace_file, write_record
from keyway.localstack.stack import KEPT_LOG_BYTES_MAX, first_reason, put_long_logs_aside
from keyway.localstack.supervisor import pause_before_restart

ENDPOINTS = Endpoints(
    gateways=["http://127.0.0.1:8080", "http://127.0.0.1:8081"],
    admin="http://127.0.0.1:8090",
    kafka="127.0.0.1:9092",
    database="postgresql://x",
    accounts={"ka": ("ka", "secret")},
)


def test_killed_child_is_back_within_a_second_however_often() -> None:
    assert max(pause_before_restart(deaths, killed=True) for deaths in range(1000)) < 1


def test_child_that_keeps_ending_by_itself_waits_longer_each_time_up_to_a_bound() -> None:
    pauses = [pause_before_restart(deaths, killed=False) for deaths in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.1
    assert pauses[-1] == 10.0


def test_reason_for_a_person_comes_before_the_exceptions_that_it_caused() -> None:
    ours = LocalStackError("port taken")
    group = ExceptionGroup("outer", [ValueError("later"), ExceptionGroup("inner", [ours])])
    assert first_reason(group) is ours
    other = ValueError("bug")
    assert first_reason(ExceptionGroup("outer", [other])) is other


def test_child_gets_the_users_settings_and_ours_but_not_the_stacks_own(tmp_path: Path) -> None:
    plan = Plan(
        state=tmp_path,
        port_base=0,
        gateways=1,
        workers={},
        environment={
            "KEYWAY_REPLY_BUDGET_SECONDS": "5",
            "KEYWAY_LOCAL_CACHE_DIR": "x",
            "KEYWAY_TEST_REUSE": "1",
            "A": "b",
        },
    )
    assert plan.child_environment({"KEYWAY_KAFKA_BOOTSTRAP": "ours:1"}) == {
        "A": "b",
        "KEYWAY_REPLY_BUDGET_SECONDS": "5",
        "KEYWAY_KAFKA_SESSION_TIMEOUT_SECONDS": "3",
        "KEYWAY_KAFKA_BOOTSTRAP": "ours:1",
    }


def test_endpoints_have_the_documented_members(tmp_path: Path) -> None:
    write_endpoints(tmp_path, ENDPOINTS.document([RunningProcess("gateway-0", "gateway", 7, "http://127.0.0.1:8090")]))
    file = tmp_path / "endpoints.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == {
        "gateway": ["http://127.0.0.1:8080", "http://127.0.0.1:8081"],
        "isv": "http://127.0.0.1:8080/isv",
        "partner": "http://127.0.0.1:8080/30",
        "admin": "http://127.0.0.1:8090",
        "kafka": "127.0.0.1:9092",
        "database": "postgresql://x",
        "accounts": {"ka": ["ka", "secret"]},
        "processes": [{"name": "gateway-0", "role": "gateway", "pid": 7, "admin": "http://127.0.0.1:8090"}],
    }


def test_line_to_paste_does_not_depend_on_the_day(tmp_path: Path) -> None:
    form = "APS_ACTION=PURCHASE&PURCHASE_ID=10000001&PRODUCT_ID=Bronze&EXPIRY_DATE=31%2F12%2F2099"
    lines = ready_text(ENDPOINTS.document([]), tmp_path, 3.21)
    pasted = [line for line in lines if line.startswith("curl")]
    assert pasted == [f"curl -sS -i -u ka:secret -d '{form}' http://127.0.0.1:8080/isv"]


def test_the_keyway_command_is_printed_as_it_can_be_pasted(tmp_path: Path) -> None:
    elsewhere = shlex.split(next(line for line in told(tmp_path) if " explain " in line))
    usual = shlex.split(next(line for line in told(found_state_folder()) if " explain " in line))

    assert elsewhere[-4:] == ["explain", "ka:10000001", "--state-dir", str(tmp_path)]
    assert usual[-2:] == ["explain", "ka:10000001"], "the default place is found without being named"
    assert Path(elsewhere[0]).is_file()


def told(state: Path) -> list[str]:
    return ready_text(ENDPOINTS.document([]), state, 3.21)


def test_json_output_is_the_document_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    narrator = TerminalNarrator(tmp_path, json_output=True)
    narrator.say("starting")
    narrator.downloaded(1, 2)
    narrator.ready(ENDPOINTS.document([]), 1.0)
    assert json.loads(capsys.readouterr().out) == ENDPOINTS.document([])


def test_record_gives_back_only_processes_that_still_are_who_they_were(tmp_path: Path) -> None:
    import os

    me = identify(os.getpid())
    assert me is not None
    record = tmp_path / "processes.json"
    stranger = type(me)(me.pid, "another boot:1")
    write_record(record, [me, stranger])
    assert read_record(record) == [me]
    replace_file(record, "not json")
    assert read_record(record) == []


@pytest.mark.parametrize(("size", "kept"), [(KEPT_LOG_BYTES_MAX, True), (KEPT_LOG_BYTES_MAX + 1, False)])
def test_only_very_long_logs_are_put_aside(tmp_path: Path, size: int, kept: bool) -> None:  # noqa: FBT001 - a case
    log = tmp_path / "gateway-0.log"
    with log.open("wb") as file:
        file.truncate(size)
    put_long_logs_aside(tmp_path)
    assert log.exists() is kept
    assert (tmp_path / "gateway-0.log.1").exists() is not kept
