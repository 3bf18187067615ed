"""`keyway replay`: the same bytes again, in sequence; a consumer that drops what it knows notices nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from shared.contracts.topics import LICENSE_EVENTS
from shared.kafka import ConsumedRecord
from tests.command_line import Shell, shell
from tests.integration.intake_rig import IntakeRig, a_request, intake_rig

__all__ = ["shell"]

pytestmark = [pytest.mark.asyncio, pytest.mark.services]


def folded(records: Sequence[ConsumedRecord]) -> dict[str, tuple[int, str]]:
    """What a consumer that dedupes by sequence makes of a topic: the last number and status of each license."""
    seen: dict[str, tuple[int, str]] = {}
    for record in records:
        event = orjson.loads(record.value or b"")
        if "sequence" not in event:
            continue
        number, last = int(event["sequence"]), seen.get(event["subject"], (0, ""))[0]
        assert number <= last + 1, f"{event['subject']} lost events between {last} and {number}"
        if number == last + 1:
            seen[event["subject"]] = (number, event["data"]["status"])
    return seen


def numbers(records: Sequence[ConsumedRecord], license_id: str) -> list[int]:
    events = [orjson.loads(record.value or b"") for record in records]
    return [int(event["sequence"]) for event in events if event["subject"] == license_id and "sequence" in event]


async def a_history(rig: IntakeRig) -> list[ConsumedRecord]:
    """Two licenses with five events; all published, and nobody left who publishes.

    The relay takes what the license worker has not marked in time: some records may stand there twice.
    """
    rig.start("license", "relay", "intake")
    await rig.purchase("00000001", "00000002")
    for place, (kind, number) in enumerate(
        (("suspend", "00000001"), ("resume", "00000001"), ("terminate", "00000002"))
    ):
        await rig.ask(a_request(kind, number, f"r{place}"))
        await rig.outcomes(place + 1)
    await rig.until("SELECT count(*) = 8 AND bool_and(published_at IS NOT NULL) FROM outbox")
    await rig.stop()
    return await rig.everything(LICENSE_EVENTS)


async def test_a_license_a_range_and_everything_are_published_again_byte_for_byte(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path, shell: Shell
) -> None:
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path, shell) as rig:
        first = await a_history(rig)
        originals = {(record.key, record.value, record.headers) for record in first}
        assert len(originals) == 8
        state = folded(first)
        assert state == {"ka:00000001": (3, "active"), "ka:00000002": (2, "terminated")}
        begin = await rig.database.fetchval("SELECT max(created_at) FROM outbox WHERE sequence IS NOT NULL")

        dry = await rig.keyway("replay", "--all", "--dry-run", "--json")
        assert (dry.document["events"], dry.document["licenses"], dry.document["dry_run"]) == (5, 2, True)
        one = await rig.keyway("replay", "ka:00000001", "--from-sequence", "2", "--json")
        assert one.document["events"] == 2, one.err
        ranged = await rig.keyway("replay", "--since", begin.isoformat(), "--until", "2199-01-01", "--json")
        assert ranged.document["events"] == 1, ranged.err
        past = await rig.keyway("replay", "--until", "2001-01-01", "--json")
        assert past.document["events"] == 0
        every = await rig.keyway("replay", "--all", "--rate", "5")
        assert every.out.startswith("5 events of 2 licenses published again")

        after = await rig.everything(LICENSE_EVENTS)
        assert len(after) == len(first) + 2 + 1 + 5
        assert {(record.key, record.value, record.headers) for record in after} == originals
        assert folded(after) == state
        assert numbers(after, "ka:00000001") == [*numbers(first, "ka:00000001"), 2, 3, 1, 2, 3]
        assert numbers(after, "ka:00000002") == [*numbers(first, "ka:00000002"), 2, 1, 2]


async def test_what_was_never_published_is_left_to_the_relay_and_wrong_usage_is_told(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path, shell: Shell
) -> None:
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path, shell) as rig:
        rig.start("license")
        await rig.purchase("00000001")
        await rig.until("SELECT bool_and(published_at IS NOT NULL) FROM outbox")
        await rig.database.execute("UPDATE outbox SET published_at = NULL")

        assert (await rig.keyway("replay", "--all", "--json")).document["events"] == 0
        assert (await rig.keyway("replay", "ka:00000001")).status == 1
        assert (await rig.keyway("replay")).status == 2
        assert (await rig.keyway("replay", "ka:00000001", "--all")).status == 2
        assert (await rig.keyway("replay", "--all", "--from-sequence", "2")).status == 2
        assert (await rig.keyway("replay", "--since", "yesterday")).status == 2
        backwards = ("--since", "2026-01-02", "--until", "2026-01-01")
        assert (await rig.keyway("replay", *backwards)).status == 2
        assert len(await rig.records(LICENSE_EVENTS, 1)) == 1


async def test_pages_keep_the_order_and_lose_nothing(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path, shell: Shell
) -> None:
    from shared.database.outbox_replay import ReplayScope, replay_pages
    from shared.database.pool import connected

    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path, shell) as rig:
        await rig.database.execute(
            """INSERT INTO outbox (event_id, topic, key, license_id, sequence, command_id, type, value, created_at,
                   published_at)
               SELECT uuidv7(), 'license.events', 'ka:' || l, 'ka:' || l, s, uuidv7(), 'x', '{}', $1, $1
               FROM generate_series(100, 139) AS l, generate_series(1, 7) AS s ORDER BY s, l""",
            datetime(2027, 1, 1, tzinfo=UTC),
        )
        async with connected(database_url) as connection:
            for rows in (1, 3, 279, 280, 281):
                pages = [page async for page in replay_pages(connection, ReplayScope(), page_rows=rows)]
                found = [(record.license_id, record.sequence) for page in pages for record in page]
                assert found == [(f"ka:{license}", number) for license in range(100, 140) for number in range(1, 8)]
                assert max(len(page) for page in pages) <= rows
