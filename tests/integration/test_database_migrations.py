"""Migrations: they lead exactly to the written schema, once each, whoever runs them and however often at once."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from shared.database.migrate import MIGRATIONS, migrate, missing_migrations
from shared.errors import ConfigurationError, UnavailableError
from tests.stack import with_database

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

SCHEMA_FILE = MIGRATIONS.with_name("schema.sql")
NAMES = [path.stem for path in sorted(MIGRATIONS.glob("*.sql"))]

DESCRIPTION = """
SELECT 'column', c.relname || '.' || a.attname,
    concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attcollation,
        pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum), a.attnum)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'relation', c.relname,
    concat_ws(' ', c.relkind, c.reloptions, obj_description(c.oid), pg_get_partkeydef(c.oid),
        pg_get_expr(c.relpartbound, c.oid))
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid)
FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'function', oid::regprocedure::text, pg_get_functiondef(oid) || obj_description(oid)
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT 'sequence', seqrelid::regclass::text, concat_ws(' ', seqtypid, seqstart, seqincrement, seqmax, seqcache)
FROM pg_sequence
UNION ALL
SELECT 'type', t.typname, obj_description(t.oid, 'pg_type') FROM pg_type t
WHERE t.typnamespace = 'public'::regnamespace AND t.typtype = 'c'
UNION ALL
SELECT 'row', 'reply_slot', slot::text FROM reply_slot
ORDER BY 1, 2, 3
"""


@pytest_asyncio.fixture
async def empty_database_url(postgres_server: str) -> AsyncIterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(postgres_server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield with_database(postgres_server, name)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


async def describe(database_url: str) -> list[tuple[str, str, str]]:
    """Everything that makes the schema, apart from the day partitions and the notes of the migrations themselves."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(DESCRIPTION)
    finally:
        await connection.close()
    told = [(str(kind), str(name), str(what)) for kind, name, what in rows]
    return [row for row in told if "_pogo_" not in row[1] and "command_result_2" not in row[1]]


async def test_migrations_lead_exactly_to_the_written_schema(database_url: str, empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(SCHEMA_FILE.read_text(encoding="utf-8"))
    finally:
        await connection.close()
    written, migrated = await describe(empty_database_url), await describe(database_url)
    assert ("column", "license.key_id") in {row[:2] for row in written}
    assert migrated == written


async def test_every_table_and_its_purpose_is_told(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        untold = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
            " AND obj_description(oid) IS NULL AND relname !~ '^(_pogo_|command_result_2)'"
        )
    finally:
        await connection.close()
    assert untold == []


async def test_four_processes_at_once_apply_each_migration_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(name for names in applied for name in names) == NAMES
    assert await migrate(empty_database_url) == []


async def test_missing_migrations_are_named(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await missing_migrations(connection) == NAMES
        await migrate(empty_database_url)
        assert await missing_migrations(connection) == []
    finally:
        await connection.close()


async def test_migrate_prepares_the_days_of_results_from_yesterday_on(empty_database_url: str) -> None:
    before = datetime.now(UTC).date()
    await migrate(empty_database_url)  # not the template, which may have been made before midnight
    after = datetime.now(UTC).date()
    connection = await asyncpg.connect(empty_database_url)
    try:
        days = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relname ~ '^command_result_2[0-9]{7}$' ORDER BY 1"
        )
    finally:
        await connection.close()
    yesterdays = {today - timedelta(days=1) for today in (before, after)}
    assert days[0]["relname"] in {f"command_result_{yesterday:%Y%m%d}" for yesterday in yesterdays}
    assert len(days) == 14


async def test_a_day_that_began_in_the_default_partition_stays_there(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    begun, later = date(2031, 5, 1), date(2031, 5, 2)
    insert = (
        "INSERT INTO command_result (command_id, day, license_id, payload_sha256, status, meta, body, handled_at)"
        " VALUES (gen_random_uuid(), $1, 'ka:1', sha256(''), 2, '', '', now()) RETURNING tableoid::regclass::text"
    )
    try:
        assert await connection.fetchval(insert, begun) == "command_result_default"
        assert await connection.fetchval("SELECT ensure_command_result_days($1, 2)", begun) == 1
        assert await connection.fetchval(insert, begun) == "command_result_default"
        assert await connection.fetchval(insert, later) == "command_result_20310502"
        assert await connection.fetchval("SELECT ensure_command_result_days($1, 2)", begun) == 0
    finally:
        await connection.close()


async def test_a_failing_migration_says_which_and_why(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = "-- broken\n-- depends:\n\n-- migrate: apply\n"
    (tmp_path / "0001_broken.sql").write_text(f"{header}CREATE TABLE a (b no_such_type);\n-- migrate: rollback\n")
    monkeypatch.setattr("shared.database.migrate.MIGRATIONS", tmp_path)
    with pytest.raises(ConfigurationError, match=r"0001_broken.*no_such_type"):
        await migrate(empty_database_url)


async def test_migrate_without_a_database_is_unavailable() -> None:
    with pytest.raises(UnavailableError):
        await migrate("postgresql://keyway@127.0.0.1:1/postgres")


async def test_migrate_with_no_address_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="KEYWAY_DATABASE_URL"):
        await migrate("postgresql://keyway:secret@127.0.0.1:not-a-port/postgres")
