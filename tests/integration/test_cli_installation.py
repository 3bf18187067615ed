"""`keyway account`, `keyway catalog` and `keyway keys` on the real database."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from shared.clock import MachineClock
from shared.database.accounts import PostgresAccounts
from shared.database.catalogs import PostgresCatalogs
from shared.database.license_store import PostgresLicenseStore
from shared.database.pool import Pool, open_pool
from shared.database.signing_keys import PostgresSigningKeys
from shared.domain.license import LicenseStatus
from shared.security.accounts import Principal, Role
from shared.security.basic import basic_header
from shared.security.credentials import AuthenticationFailure, open_authenticator
from shared.security.signing_keys import require_key_file
from tests.builders import a_license
from tests.command_line import Shell, shell
from tests.conformance.test_license_store import a_change, an_issue

__all__ = ["shell"]

pytestmark = pytest.mark.services

EXAMPLE = Path(__file__).parents[2] / "deploy" / "catalog" / "example.yaml"
SMALL = "products:\n  - {sku: Bronze, upgrades_to: [Gold]}\n  - {sku: Gold}\n"
Outcome = TypeVar("Outcome")


@pytest.fixture
def connected_shell(shell: Shell, database_url: str) -> Shell:
    shell.export(database_url=database_url)
    return shell


def on_pool(database_url: str, work: Callable[[Pool], Awaitable[Outcome]]) -> Outcome:
    async def run() -> Outcome:
        async with open_pool(database_url) as pool:
            return await work(pool)

    return asyncio.run(run())


def login(database_url: str, user: str, password: str) -> Principal | AuthenticationFailure:
    async def ask(pool: Pool) -> Principal | AuthenticationFailure:
        async with open_authenticator(PostgresAccounts(pool), MachineClock(), trust_seconds=0) as authenticator:
            return await authenticator.authenticate(basic_header(user, password))

    return on_pool(database_url, ask)


def test_account_logs_in_from_add_to_rotate_to_disable_and_back(connected_shell: Shell, database_url: str) -> None:
    shell = connected_shell
    first = shell.keyway("account", "add", "acme", "--role", "partner", "--json").document
    assert first == {"name": "acme", "role": "partner", "secret": first["secret"]}
    assert login(database_url, "acme", first["secret"]) == Principal("acme", Role.PARTNER)
    second = shell.keyway("account", "rotate", "acme", "--json").document["secret"]
    assert login(database_url, "acme", first["secret"]) is AuthenticationFailure.REFUSED
    assert login(database_url, "acme", second) == Principal("acme", Role.PARTNER)
    assert shell.keyway("account", "disable", "acme").status == 0
    assert login(database_url, "acme", second) is AuthenticationFailure.REFUSED
    assert shell.keyway("account", "enable", "acme").status == 0
    assert login(database_url, "acme", second) == Principal("acme", Role.PARTNER)


def test_secret_is_shown_once_on_its_own_line_and_stored_nowhere(connected_shell: Shell, database_url: str) -> None:
    ran = connected_shell.keyway("account", "add", "acme", "--role", "ka")
    secret = ran.out.splitlines()[-1]
    assert login(database_url, "acme", secret) == Principal("acme", Role.KA)
    stored = on_pool(database_url, lambda pool: PostgresAccounts(pool).find("acme"))
    assert secret not in repr(stored)
    assert secret not in connected_shell.keyway("account", "list").out


def test_account_that_exists_is_not_added_again(connected_shell: Shell, database_url: str) -> None:
    secret = connected_shell.keyway("account", "add", "acme", "--role", "ka", "--json").document["secret"]
    again = connected_shell.keyway("account", "add", "acme", "--role", "ka", "--json")
    assert (again.status, again.out) == (1, "")
    assert "exists already" in again.err
    assert login(database_url, "acme", secret) == Principal("acme", Role.KA)


def test_unknown_account_is_neither_rotated_nor_disabled_nor_enabled(connected_shell: Shell) -> None:
    for verb in ("rotate", "disable", "enable"):
        ran = connected_shell.keyway("account", verb, "nobody")
        assert (ran.status, ran.out) == (1, "")
        assert "there is no account nobody" in ran.err


@pytest.mark.parametrize("name", ["", "Acme", "a b", "a" * 33, "größe", "a\n"])
def test_name_that_cannot_be_is_wrong_usage(shell: Shell, name: str) -> None:
    assert shell.keyway("account", "add", name, "--role", "ka").status == 2


def test_role_that_does_not_exist_is_wrong_usage(shell: Shell) -> None:
    assert shell.keyway("account", "add", "acme", "--role", "admin").status == 2


def test_list_tells_all_accounts(connected_shell: Shell) -> None:
    connected_shell.keyway("account", "add", "b", "--role", "ka")
    connected_shell.keyway("account", "add", "a", "--role", "operator")
    connected_shell.keyway("account", "disable", "b")
    rows = connected_shell.keyway("account", "list", "--json").document["accounts"]
    assert [(row["name"], row["role"], row["disabled"]) for row in rows] == [
        ("a", "operator", False),
        ("b", "ka", True),
    ]
    text = connected_shell.keyway("account", "list").out.splitlines()
    assert ["enabled" in text[0], "disabled since" in text[1]] == [True, True]


def test_database_that_does_not_answer_is_one_line_and_status_1(shell: Shell) -> None:
    shell.export(database_url="postgresql://keyway:hidden@127.0.0.1:1/keyway")
    ran = shell.keyway("account", "list")
    assert ran.status == 1
    assert ran.err.startswith("keyway account: ")
    assert len(ran.err.splitlines()) == 1
    assert "hidden" not in ran.err


def test_catalog_is_applied_once_and_again_only_when_it_differs(
    connected_shell: Shell, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text(SMALL)
    outcomes = [connected_shell.keyway("catalog", "apply", file, "--json").document for _ in range(2)]
    assert outcomes == [{"version": 1, "applied": True}, {"version": 1, "applied": False}]
    file.write_text(
        "# the same, written differently\nproducts: [{sku: Gold, model: standard}, "
        "{upgrades_to: [Gold], sku: Bronze}]\n"
    )
    assert connected_shell.keyway("catalog", "apply", file, "--json").document == {"version": 1, "applied": False}
    outcome = connected_shell.keyway("catalog", "apply", EXAMPLE, "--json").document
    assert outcome == {"version": 2, "applied": True}
    in_force = on_pool(database_url, lambda pool: PostgresCatalogs(pool).newer_than(0))
    assert in_force is not None
    assert (in_force.version, len(in_force.products)) == (2, 38)


def test_faulty_catalog_is_not_applied(connected_shell: Shell, database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text("products: [{sku: A, upgrades_to: [B]}, {sku: B, upgrades_to: [A]}, {sku: C, colour: red}]")
    ran = connected_shell.keyway("catalog", "apply", file)
    assert (ran.status, ran.out) == (1, "")
    assert "has 2 faults" in ran.err
    assert "A -> B -> A" in ran.err
    assert "products[2] (C): unknown member 'colour'" in ran.err
    assert on_pool(database_url, lambda pool: PostgresCatalogs(pool).newest()) is None


def test_check_needs_no_database(shell: Shell, tmp_path: Path) -> None:
    assert shell.keyway("catalog", "check", EXAMPLE, "--json").document == {
        "valid": True,
        "products": 38,
        "faults": [],
    }
    file = tmp_path / "catalog.yaml"
    file.write_text("products: [{sku: A, upgrades_to: [A]}]")
    ran = shell.keyway("catalog", "check", file, "--json")
    assert ran.status == 1
    assert [fault["where"] for fault in ran.document["faults"]] == ["products[0] (A)"]


def test_catalog_that_this_release_cannot_read_is_replaced_by_apply(
    connected_shell: Shell, database_url: str, tmp_path: Path
) -> None:
    newer = {"products": [{"sku": "A", "color": "red"}]}
    on_pool(database_url, lambda pool: PostgresCatalogs(pool).add(newer, version=1))
    file = tmp_path / "catalog.yaml"
    file.write_text(SMALL)
    assert connected_shell.keyway("catalog", "apply", file, "--json").document == {"version": 2, "applied": True}


def test_diff_before_the_first_catalog_only_adds(connected_shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text(SMALL)
    ran = connected_shell.keyway("catalog", "diff", file)
    assert ran.out.splitlines() == ["compared with no catalog: 2 changes", "added    Bronze", "added    Gold"]


def test_diff_names_the_live_licenses_that_a_change_would_strand(
    connected_shell: Shell, database_url: str, tmp_path: Path
) -> None:
    connected_shell.keyway("catalog", "apply", EXAMPLE)

    async def hold() -> None:
        store = PostgresLicenseStore(database_url)
        try:
            held = [a_license(number=f"{n:03}", product="Bronze") for n in range(7)]
            held.append(a_license(number="100", product="NFR-Bronze"))
            held.append(a_license(number="200", product="Gold"))
            gone = a_license(number="300", product="Bronze")
            terminated = replace(gone, status=LicenseStatus.TERMINATED, terminated_at=MachineClock().now())
            await store.store([an_issue(license) for license in (*held, gone)])
            await store.store([a_change(terminated, 1)])
        finally:
            await store.close()

    asyncio.run(hold())
    file = tmp_path / "catalog.yaml"
    file.write_text("products:\n  - {sku: Bronze, upgrades_to: [Silver]}\n  - {sku: Silver}\n  - {sku: Gold}\n")
    found = connected_shell.keyway("catalog", "diff", file, "--json").document
    assert found["base_version"] == 1
    changes = {change["sku"]: change for change in found["changes"]}
    assert changes["Bronze"] == {
        "sku": "Bronze",
        "change": "changed",
        "details": ["upgrades_to: Silver, Gold -> Silver"],
        "strands": ["the step to Gold is gone"],
        "stranded_count": 8,
        "stranded_first": ["ka:000", "ka:001", "ka:002", "ka:003", "ka:004"],
    }
    assert "Gold" not in changes
    assert (changes["CloudBackup"]["change"], changes["CloudBackup"]["stranded_count"]) == ("removed", 0)
    text = connected_shell.keyway("catalog", "diff", file).out
    assert "strands 8 live licenses (ka:000, ka:001, ka:002, ka:003, ka:004, …): the step to Gold is gone" in text


def test_keys_rotate_publishes_before_the_file_changes(
    connected_shell: Shell, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    connected_shell.export(signing_keys_file=file)
    first = connected_shell.keyway("keys", "rotate", "--json").document
    assert first["published"] is True
    before = file.read_bytes()
    connected_shell.export(database_url="postgresql://keyway:x@127.0.0.1:1/keyway")
    assert connected_shell.keyway("keys", "rotate").status == 1
    assert file.read_bytes() == before
    connected_shell.export(database_url=database_url)
    second = connected_shell.keyway("keys", "rotate", "--json").document
    published = on_pool(database_url, lambda pool: PostgresSigningKeys(pool).all())
    assert [jwk["kid"] for jwk in published] == [first["kid"], second["kid"]]
    assert require_key_file(file).active.public.kid == second["kid"]
    file.unlink()
    third = connected_shell.keyway("keys", "rotate", "--json").document
    rows = connected_shell.keyway("keys", "list", "--json").document["keys"]
    assert [(row["kid"], row["state"], row["published"]) for row in rows] == [
        (first["kid"], "elsewhere", True),
        (second["kid"], "elsewhere", True),
        (third["kid"], "active", True),
    ]


def test_command_as_a_shell_calls_it_ends_with_the_status_of_the_verb(tmp_path: Path) -> None:
    def status(*arguments: str) -> int:
        command = [sys.executable, "-m", "keyway", *arguments]
        return subprocess.run(command, capture_output=True, timeout=50, check=False, cwd=EXAMPLE.parents[2]).returncode

    assert status("catalog", "check", str(EXAMPLE)) == 0
    assert status("catalog", "check", str(tmp_path)) == 1
    assert status("catalog", "check") == 2
