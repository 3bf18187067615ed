"""The story of one license and lists of many, as the command prints them from the real database."""

import asyncio
import os
import subprocess
import sys

import asyncpg
import orjson
import pytest

from keyway.cli.license_argument import LicenseName
from keyway.cli.refusal import RefusedError
from shared.contracts.identifiers import LicenseId
from shared.contracts.replies import ReplyStatus
from shared.database.license_queries import LicenseFilter, license_story, list_licenses
from shared.database.license_store import PostgresLicenseStore
from shared.database.pool import connected
from shared.domain.effects import AuditEntry, CommandEffect, StoredReply, lone_root
from shared.domain.license import LicenseStatus
from tests.builders import MARCH, a_license
from tests.conformance.test_license_store import HANDLED_AT, LICENSE, a_change, a_link, a_renewal, an_issue, new_row

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

SECRET = "activation-secret"


def linked(effect: CommandEffect, link: AuditEntry) -> CommandEffect:
    from dataclasses import replace

    assert effect.write is not None
    return replace(effect, audit=link, write=replace(effect.write, audit_sha256=link.entry_sha256))


def a_life() -> tuple[CommandEffect, CommandEffect]:
    first = a_link(entry=b'{"asked":{"type":"purchase_license"},"outcome":"done"}')
    second = a_link(first.entry_sha256, b'{"asked":{"type":"renew_license"},"outcome":"done"}')
    return linked(an_issue(a_license(activation_data=SECRET)), first), linked(a_renewal(), second)


async def store_one_by_one(database_url: str, *effects: CommandEffect) -> None:
    store = PostgresLicenseStore(database_url)
    for effect in effects:
        await store.store([effect])
    await store.close()


async def tamper(database_url: str, statement: str) -> None:
    """Change history as only a superuser with intent can."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(statement)
    finally:
        await connection.close()


async def keyway(database_url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the real command against the database of this test."""
    environment = {**os.environ, "KEYWAY_DATABASE_URL": database_url}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "keyway", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=80,
    )


async def test_the_story_tells_every_part_in_order(database_url: str) -> None:
    issue, renewal = a_life()
    await store_one_by_one(database_url, issue, renewal)
    async with connected(database_url) as connection:
        story = await license_story(connection, LICENSE)

    assert story is not None
    assert (story.license.license, story.license.version, story.license.key_id) == (LICENSE, 2, 10_000_001)
    assert [(each.revision, each.cause, each.body_bytes) for each in story.revisions] == [
        (1, "issued", len(b"first.body.\x00\xff")),
        (2, "renewed", len(b"second.body")),
    ]
    assert [each.revision for each in story.operations] == [1, 2]
    assert [(each.sequence, each.command_id) for each in story.events] == [
        (1, issue.command_id),
        (2, renewal.command_id),
    ]
    assert [each.command_id for each in story.audit] == [issue.command_id, renewal.command_id]
    assert [(each.command_id, each.status, each.meta, each.revision) for each in story.results] == [
        (issue.command_id, "license_body", "2027-03-15", 1),
        (renewal.command_id, "license_body", "2027-04-15", 2),
    ]
    assert story.audit_fault is None


async def test_an_unknown_license_has_no_story(database_url: str) -> None:
    async with connected(database_url) as connection:
        assert await license_story(connection, LicenseId("ka:1")) is None


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE audit SET entry = 'forged' WHERE id = 1", "entry 1 is not what was hashed"),
        ("DELETE FROM audit WHERE id = 1", "entry 1 does not follow"),
        ("DELETE FROM audit WHERE id = 2", "does not end at the head"),
        ("DELETE FROM audit", "chain of 0 entries does not end at the head"),
    ],
)
async def test_a_changed_or_missing_audit_row_is_found(database_url: str, statement: str, fault: str) -> None:
    await store_one_by_one(database_url, *a_life())
    await tamper(database_url, statement)
    async with connected(database_url) as connection:
        story = await license_story(connection, LICENSE)
    assert story is not None
    assert story.audit_fault is not None
    assert fault in story.audit_fault


async def test_lists_are_filtered_ordered_and_bounded(database_url: str) -> None:
    ended = a_license(number="4", status=LicenseStatus.TERMINATED, terminated_at=HANDLED_AT, suspended=True)
    licenses = [
        a_license(number="1", product="NFR-Gold"),
        a_license(number="2", test=True),
        a_license(number="3", suspended=True),
        a_license(number="5", account="other"),
    ]
    await store_one_by_one(
        database_url, *(an_issue(each) for each in licenses), a_change(ended, 0, write=new_row(a_change(ended, 0)))
    )

    async def listed(wanted: LicenseFilter, listed_max: int = 10) -> list[str]:
        async with connected(database_url) as connection:
            return [each.license for each in await list_licenses(connection, wanted, listed_max=listed_max)]

    assert await listed(LicenseFilter()) == ["ka:1", "ka:2", "ka:3", "ka:4", "other:5"]
    assert await listed(LicenseFilter(), 2) == ["ka:1", "ka:2"]
    assert await listed(LicenseFilter(nfr=True)) == ["ka:1"]
    assert await listed(LicenseFilter(test=True)) == ["ka:2"]
    assert await listed(LicenseFilter(test=False, product="Bronze")) == ["ka:3", "ka:4", "other:5"]
    assert await listed(LicenseFilter(status="suspended")) == ["ka:3"]
    assert await listed(LicenseFilter(status="terminated")) == ["ka:4"]
    assert await listed(LicenseFilter(status="active")) == ["ka:1", "ka:2", "other:5"]


async def test_explain_prints_the_story_and_nothing_secret(database_url: str) -> None:
    await store_one_by_one(database_url, *a_life())

    told = await keyway(database_url, "explain", "ka:00481516")
    json = await keyway(database_url, "explain", "ka:00481516", "--json")

    assert (told.returncode, json.returncode) == (0, 0), told.stderr + json.stderr
    assert "purchase_license: done" in told.stdout
    assert "replied license_body 2027-04-15" in told.stdout
    assert "audit chain: whole, 2 entries" in told.stdout
    document = orjson.loads(json.stdout)
    assert document["audit_fault"] is None
    assert document["audit"][1]["entry"]["asked"]["type"] == "renew_license"
    assert document["license"]["expires_on"] == "2027-04-15"
    assert not [text for text in (SECRET, "second.body", "activation_code") if text in told.stdout + json.stdout]


async def test_explain_tells_of_a_number_alone_what_was_refused_and_why(database_url: str) -> None:
    entry = (
        b'{"account":"ka","asked":{"type":"purchase_license","product":"NOSUCH"},"outcome":"product_unknown",'
        b'"why":{"product":"NOSUCH"}}'
    )
    refused = CommandEffect(
        command_id=an_issue().command_id,
        license_id=LICENSE,
        payload_sha256=bytes(32),
        reply=StoredReply(status=ReplyStatus.REJECTED, meta=b"product_unknown"),
        handled_at=HANDLED_AT,
        audit=a_link(lone_root(entry), entry),
    )
    await store_one_by_one(database_url, refused)
    async with connected(database_url) as connection:
        await connection.execute("INSERT INTO account (name, role, secret_hash) VALUES ('ka', 'ka', '$argon2id$x')")

    told = await keyway(database_url, "explain", "00481516")
    json = await keyway(database_url, "explain", "ka:00481516", "--json")

    assert told.returncode == json.returncode == 0, told.stderr + json.stderr
    assert "ka:00481516  no license" in told.stdout
    assert "purchase_license: product_unknown" in told.stdout
    assert "by account ka: product NOSUCH" in told.stdout
    assert "answered 400: Error: product NOSUCH is not known." in told.stdout
    document = orjson.loads(json.stdout)
    assert (document["license_id"], document["license"], document["audit_fault"]) == ("ka:00481516", None, None)


@pytest.mark.parametrize("name", ["10000001", "PLSK.10000001.0003", "code"])
async def test_a_license_is_found_by_what_a_customer_has_at_hand(database_url: str, name: str) -> None:
    await store_one_by_one(database_url, an_issue(a_license(number="7")), an_issue(a_license(number="8")))
    async with connected(database_url) as connection:
        code = await connection.fetchval("SELECT activation_code FROM license WHERE key_id = 10000001")
        read = LicenseName.read(code if name == "code" else name)
        assert await read.meant(connection) == "ka:7"


async def test_a_number_of_two_accounts_is_refused_with_both(database_url: str) -> None:
    await store_one_by_one(
        database_url, an_issue(a_license(number="7")), an_issue(a_license(number="7", account="other"))
    )
    async with connected(database_url) as connection:
        for name in ("ka", "other"):
            await connection.execute(
                "INSERT INTO account (name, role, secret_hash) VALUES ($1, 'ka', '$argon2id$x')", name
            )
        with pytest.raises(RefusedError, match="ka:7, other:7"):
            await LicenseName.read("7").meant(connection)


async def test_explain_of_a_broken_chain_fails_and_says_where(database_url: str) -> None:
    await store_one_by_one(database_url, *a_life())
    await tamper(database_url, "UPDATE audit SET entry = 'forged' WHERE id = 1")
    told = await keyway(database_url, "explain", "ka:00481516")
    assert told.returncode == 1
    assert "BROKEN: entry 1" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("explain", "ka:1"), 1, "no license ka:1 is on record"),
        (("explain", "00481516"), 1, "ka:00481516"),
        (("explain", "ka:0048-1516"), 2, "ka:00481516"),
        (("explain", "our best customer"), 2, "ka:00481516"),
        (("license", "list", "--status", "dead"), 2, "--status"),
    ],
)
async def test_what_cannot_be_told_is_said_in_the_exit_status(
    database_url: str, arguments: tuple[str, ...], status: int, text: str
) -> None:
    told = await keyway(database_url, *arguments)
    assert told.returncode == status
    assert text in told.stderr


async def test_license_list_prints_lines_or_json(database_url: str) -> None:
    licenses = [a_license(number=str(n), test=n == 1) for n in range(3)]
    await store_one_by_one(database_url, *(an_issue(each) for each in licenses))

    lines = await keyway(database_url, "license", "list", "--limit", "2")
    json = await keyway(database_url, "license", "list", "--test", "--json")

    assert [line.split()[0] for line in lines.stdout.splitlines()] == ["ka:0", "ka:1", "…"]
    document = orjson.loads(json.stdout)
    assert (document["more"], [each["license"] for each in document["licenses"]]) == (False, ["ka:1"])
    assert document["licenses"][0]["expires_on"] == MARCH.isoformat()


async def test_migrate_says_what_it_did_and_an_absent_database_is_one_line(database_url: str) -> None:
    done = await keyway(database_url, "migrate", "--json")
    assert (done.returncode, orjson.loads(done.stdout)) == (0, {"applied": []})

    for arguments in (("migrate",), ("license", "list"), ("explain", "ka:1")):
        failed = await keyway("postgresql://keyway:hidden@127.0.0.1:1/postgres", *arguments)
        assert failed.returncode == 1
        assert failed.stderr.count("\n") == 1
        assert "hidden" not in failed.stderr
