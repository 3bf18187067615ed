"""`keyway plan`: operations, order and conflicts of a modification, from a file and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from keyway.cli.plan import app
from keyway.cli.refusal import RefusedError
from tests.key_builders import decided, k1, modify, structure

K1: dict[str, Any] = structure(decided(modify(k1()), k1()))


def planned(folder: Path, request: object, *options: str, **more: object) -> Result:
    file = folder / "question.json"
    file.write_text(json.dumps({"key": K1, "request": request, **more}))
    return CliRunner().invoke(app, [str(file), *options])


def test_operations_are_shown_in_order_of_execution(tmp_path: Path) -> None:
    request = {"autoRenew": False, "nickname": "shop-eu-1", "items": [{"item": "PLESK-12-WEB-PRO-1M"}]}
    shown = planned(tmp_path, request)
    assert (shown.exit_code, shown.stdout) == (0, "1. UPGRADE\n2. NICKNAME\n3. AUTORENEW\n")


def test_conflicts_are_all_shown_and_end_with_status_1(tmp_path: Path) -> None:
    request = {"ownerId": "70010002", "ipAddressBinding": "203.0.113.7", "items": [{"item": "PLESK-12-WEB-HOST-1M"}]}
    shown = planned(tmp_path, request)
    assert (shown.exit_code, shown.stdout) == (1, "Conflicting operations: MOVE + UPGRADE; MOVE + IPBIND.\n")
    told = json.loads(planned(tmp_path, request, "--json").stdout)
    assert told == {"operations": [], "conflicts": ["MOVE + UPGRADE", "MOVE + IPBIND"]}


def test_the_structure_sent_back_as_read_is_nothing_to_do(tmp_path: Path) -> None:
    shown = planned(tmp_path, K1)
    assert (shown.exit_code, shown.stdout) == (0, "Nothing to do: the key is as the request asks.\n")


def test_null_is_not_omitted(tmp_path: Path) -> None:
    told = json.loads(planned(tmp_path, {"items": None}, "--json").stdout)
    assert told == {"operations": ["REBUILD"], "conflicts": []}
    reset = planned(tmp_path, {"productConfigurationId": None}, "--json", defaultProductConfigurationId=777)
    assert json.loads(reset.stdout)["operations"] == ["CONFIG"]


@pytest.mark.parametrize(
    ("request_body", "told"),
    [
        ({"keyIdentifiers": {"keyId": 20240401}}, "do not name PLSK.20240317.0000"),
        ({"ownerId": None}, "type 30003"),
        ({}, "type 30001"),
        ([], "request"),
    ],
)
def test_what_the_service_would_not_read_is_refused_with_its_type(
    tmp_path: Path, request_body: object, told: str
) -> None:
    refused = planned(tmp_path, request_body).exception
    assert isinstance(refused, RefusedError)
    assert told in str(refused)
