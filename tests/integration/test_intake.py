"""Public requests end to end: from `license.intake` to the license, its events and the answer; each request once."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.contracts.topics import LICENSE_COMMANDS
from tests.integration.intake_rig import a_request, intake_rig

pytestmark = [pytest.mark.asyncio, pytest.mark.services]


async def test_requests_change_licenses_and_each_is_answered(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path) as rig:
        rig.start("license", "intake")
        await rig.purchase("00000001", "00000002")
        steps = [
            ("suspend", "00000001", "accepted", "suspended"),
            ("suspend", "00000001", "accepted", "already_suspended"),
            ("activated", "00000001", "accepted", "activation_recorded"),
            ("resume", "00000001", "accepted", "resumed"),
            ("resume", "00000001", "accepted", "not_suspended"),
            ("suspend", "00000002", "accepted", "suspended"),
            ("terminate", "00000002", "accepted", "terminated"),
            ("terminate", "00000002", "accepted", "already_terminated"),
            ("suspend", "00000002", "rejected", "license_terminated"),
            ("activated", "00000002", "rejected", "license_terminated"),
            ("resume", "00000003", "rejected", "license_unknown"),
            ("terminate", "00000004", "accepted", "tombstone_recorded"),
        ]
        for place, (kind, number, _, _) in enumerate(steps):
            await rig.ask(a_request(kind, number, f"r{place}"))
            await rig.outcomes(place + 1)
        told = await rig.outcomes(len(steps))

        for place, (event, (kind, number, verdict, code)) in enumerate(zip(told, steps, strict=True)):
            assert event["type"] == f"keyway.intake.{verdict}"
            assert event["subject"] == f"ka:{number}"
            assert "sequence" not in event
            assert event["data"] == {
                "license": number,
                "account": "ka",
                "source": "urn:example:billing",
                "id": f"r{place}",
                "type": f"keyway.license.{kind}",
                "code": code,
            }
        events = await rig.database.fetch(
            "SELECT license_id, sequence, type, value FROM outbox WHERE sequence IS NOT NULL ORDER BY license_id, id"
        )
        assert [(row["license_id"][-1], row["sequence"], row["type"].split(".")[-1]) for row in events] == [
            ("1", 1, "issued"),
            ("1", 2, "suspended"),
            ("1", 3, "resumed"),
            ("2", 1, "issued"),
            ("2", 2, "suspended"),
            ("2", 3, "terminated"),
            ("4", 1, "terminated"),
        ]
        assert [orjson.loads(row["value"])["data"]["status"] for row in events[:3]] == [
            "active",
            "suspended",
            "active",
        ]
        entries = await rig.database.fetch("SELECT entry FROM audit WHERE license_id = 'ka:00000001' ORDER BY id")
        requests = [orjson.loads(row["entry"])["request"] for row in entries]
        assert [request and request["id"] for request in requests] == [None, "r0", "r1", "r2", "r3", "r4"]


async def test_a_request_sent_again_has_no_second_effect_however_old_the_result_is(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path) as rig:
        rig.start("license", "intake")
        await rig.purchase("00000001")
        for _ in range(3):
            await rig.ask(a_request("suspend", "00000001", "one"))
        await rig.outcomes(1)
        await rig.ask(a_request("resume", "00000001", "two"))
        await rig.outcomes(2)
        await rig.until("SELECT count(*) = 2 FROM intake_request WHERE handed_over_at IS NOT NULL")
        # The command results are gone, as they are after eight days, and the topic is read anew from its start.
        await rig.database.execute("TRUNCATE command_result")
        await rig.ask(a_request("suspend", "00000001", "one", time="2027-03-02T00:00:00Z"))
        await rig.ask(a_request("suspend", "00000001", "three"))
        told = await rig.outcomes(3)

        assert [event["data"]["id"] for event in told] == ["one", "two", "three"]
        commands = await rig.records(LICENSE_COMMANDS, 4)
        assert len(commands) == 4, "the purchase and three requests"
        assert all(dict(record.headers).keys() == {"cid"} for record in commands), "nobody waits for a reply"


async def test_a_command_lost_between_publishing_and_noting_is_published_under_the_same_id(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path) as rig:
        rig.start("license", "intake")
        await rig.purchase("00000001")
        await rig.ask(a_request("suspend", "00000001", "one"))
        await rig.outcomes(1)
        await rig.until("SELECT count(*) = 1 FROM intake_request WHERE handed_over_at IS NOT NULL")
        await rig.database.execute("UPDATE intake_request SET handed_over_at = NULL")
        await rig.ask(a_request("suspend", "00000001", "one"))
        commands = await rig.records(LICENSE_COMMANDS, 3)
        await rig.ask(a_request("resume", "00000001", "two"))
        told = await rig.outcomes(2)

        assert len({record.value and orjson.loads(record.value)["command_id"] for record in commands}) == 2
        assert [event["data"]["code"] for event in told] == ["suspended", "resumed"]


async def test_what_nobody_can_read_is_set_aside_with_its_reason_and_its_neighbors_go_on(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    good = a_request("suspend", "00000001", "good")
    poison: dict[str, tuple[Any, list[tuple[str, bytes | None]]]] = {
        "not_json": (b"{", []),
        "not_json again": (None, []),
        "version": (good | {"specversion": "0.3"}, []),
        "envelope": (good | {"id": ""}, []),
        "envelope: source": (good | {"source": "x" * 1001}, []),
        "envelope: NUL": (good | {"id": "a\0b"}, []),
        "envelope: time": (good | {"time": "yesterday"}, []),
        "unknown_type": (good | {"type": "keyway.license.explode"}, []),
        "payload": (good | {"data": {"account": "ka"}}, []),
        "payload: number": (good | {"data": {"account": "ka", "license": 1}}, []),
        "payload: account": (good | {"data": {"account": "KA!", "license": "1"}}, []),
        "payload: kind": (good | {"datacontenttype": "text/xml"}, []),
        "header": (good, [("x", None)]),
        "header again": (good, [("x", b"\xff")]),
        "id_reuse": (a_request("resume", "00000001", "good"), []),
    }
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path) as rig:
        rig.start("license", "intake")
        await rig.purchase("00000001")
        await rig.ask(good, partition=3)
        await rig.outcomes(1)
        for value, headers in poison.values():
            await rig.ask(value, partition=3, key=b"k", headers=headers)
        await rig.ask(a_request("resume", "00000001", "after"), partition=3)
        told = await rig.outcomes(2)
        letters = await rig.dead_letters(len(poison))

        assert [event["data"]["code"] for event in told] == ["suspended", "resumed"]
        for (name, (value, headers)), letter in zip(poison.items(), letters, strict=True):
            sent = orjson.dumps(value) if isinstance(value, dict) else value
            assert letter.value == sent, name
            assert letter.key == b"k"
            told_headers = dict(letter.headers)
            assert (told_headers["x-error"] or b"").startswith(f"{name.split(':')[0].split()[0]}: ".encode()), name
            assert told_headers["x-attempt"] == b"1"
            assert [pair for pair in letter.headers if not pair[0].startswith("x-")] == [
                pair for pair in headers if not pair[0].startswith("x-")
            ]


async def test_a_request_in_the_name_of_no_account_is_rejected_and_buries_nothing(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path) as rig:
        rig.start("intake")
        request = a_request("terminate", "00000001", "one", data={"account": "nobody", "license": "00000001"})
        for _ in range(2):
            await rig.ask(request)
        (told,) = await rig.outcomes(1)

        assert told["type"] == "keyway.intake.rejected"
        assert told["data"]["code"] == "license_unknown"
        await rig.stop("intake")
        assert await rig.database.fetchval("SELECT count(*) FROM outbox") == 1
        assert await rig.database.fetchval("SELECT count(*) FROM license") == 0
