"""What a machine can check about the code's shape is not argued in review."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from shared.contracts.commands import LicenseCommand
from shared.contracts.outcomes import RejectionCode
from shared.domain.license import TRANSITIONS, LicenseStatus
from shared.telemetry.logging import ALLOWED_FIELDS

ROOT = Path(__file__).parents[2]
PACKAGES = ("gateway", "workers", "shared", "keyway", "bench")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
DRAWERS = {"utils", "util", "helpers", "common", "misc", "base", "managers", "manager", "services"}
SQL = re.compile(r"\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET|DELETE\s+FROM\s|WITH\s+\w+\s+AS\s*\()")
LINES_PER_MODULE_MAX = 400
LINES_PER_FUNCTION_MAX = 70


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_opens_with_its_purpose_and_keeps_its_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = parse(path)

    assert not text.strip() or ast.get_docstring(tree), "a module opens by saying what it is for"
    assert text.count("\n") <= LINES_PER_MODULE_MAX, "a module is about one thing"
    assert path.stem not in DRAWERS, "a file is named after what it holds"
    too_long = [
        f"{function.name}: {function.end_lineno - function.lineno} lines"
        for function in functions(tree)
        if function.end_lineno is not None and function.end_lineno - function.lineno > LINES_PER_FUNCTION_MAX
    ]
    assert too_long == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "shared" / "domain").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_rules_never_await_and_keep_no_globals(path: Path) -> None:
    forbidden = [
        type(node).__name__
        for node in ast.walk(parse(path))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.Global)
    ]

    assert forbidden == []


def test_sql_stands_only_in_the_database_package() -> None:
    # The benchmark's baseline B is a competitor with its own statements, so it is no part of the product.
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        if ROOT / "shared" / "database" not in path.parents and ROOT / "bench" not in path.parents
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value)
    ]

    assert offenders == []


def test_statuses_are_set_only_by_evolve_and_read_from_storage() -> None:
    """`status=` with a license status appears where the state machine and the row reader live, nowhere else."""
    allowed = {"shared/domain/license.py", "shared/database/license_store.py"}
    offenders = {
        str(path.relative_to(ROOT))
        for path in MODULES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.keyword) and node.arg == "status" and "LicenseStatus" in ast.dump(node.value)
    }

    assert offenders <= allowed


def test_every_status_is_a_row_of_the_transitions() -> None:
    assert set(TRANSITIONS) == set(LicenseStatus)


def test_every_command_has_its_own_tag() -> None:
    tags = [command.__dataclass_fields__["type"].default for command in LicenseCommand.__args__]

    assert len(set(tags)) == len(tags)


def test_every_rejection_code_is_used_by_a_rule() -> None:
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "shared" / "domain").glob("*.py"))

    assert [code for code in RejectionCode if f"RejectionCode.{code.name}" not in rules] == []


def test_the_repository_names_no_machine_path_and_no_registry_host() -> None:
    hosts = re.compile(r"\b(?:pypi|pythonhosted|crates|npmjs|maven|golang|debian)[.](?:org|io)\b")
    machine_paths = re.compile(r"(?<![\w.])/(?:work|root|farm)/")
    texts = [path for path in ROOT.rglob("*") if is_ours(path)]
    offenders = [
        str(path.relative_to(ROOT))
        for path in texts
        if (text := path.read_text(encoding="utf-8", errors="ignore"))
        and (hosts.search(text) or machine_paths.search(text))
    ]

    assert offenders == []


def is_ours(path: Path) -> bool:
    hidden = {".git", ".keyway", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    return path.is_file() and not hidden.intersection(path.relative_to(ROOT).parts) and path != Path(__file__)


def test_every_field_of_a_log_line_may_be_written_as_it_is() -> None:
    """One that is not allowed shows as a fingerprint and tells nobody anything."""
    written = {
        (str(path.relative_to(ROOT)), keyword.arg)
        for path in MODULES
        if "structlog.get_logger" in path.read_text(encoding="utf-8")
        for call in ast.walk(parse(path))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)
        if call.func.value.id in {"log", "_log"}
        for keyword in call.keywords
        if keyword.arg not in {None, "exc_info"}
    }

    assert written
    assert sorted(each for each in written if each[1] not in ALLOWED_FIELDS) == []
