"""`keyway dead`: letters are seen whole, sent back as they were, and dealt with once."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from shared.contracts.codec import encode_envelope
from shared.contracts.commands import SuspendLicense
from shared.contracts.topics import HEADER_COMMAND_ID, LICENSE_COMMANDS, LICENSE_INTAKE, dead_letter_topic
from tests.builders import an_envelope
from tests.command_line import Shell, shell
from tests.integration.intake_rig import IntakeRig, a_request, intake_rig

__all__ = ["shell"]

pytestmark = [pytest.mark.asyncio, pytest.mark.services]

DEAD = dead_letter_topic(LICENSE_INTAKE)


async def listed(rig: IntakeRig, *options: str) -> list[dict[str, object]]:
    ran = await rig.keyway("dead", "list", LICENSE_INTAKE, "--json", *options)
    assert ran.status == 0, ran.err
    letters: list[dict[str, object]] = ran.document["letters"]
    return letters


async def test_letters_are_listed_shown_retried_and_discarded(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path, shell: Shell
) -> None:
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path, shell) as rig:
        rig.start("intake")
        await rig.ask(b"\xff{broken", partition=3, key=b"ka:1", headers=[("trace", "ä".encode())])
        await rig.ask(a_request("explode", "00000001", "x"), partition=3)
        await rig.dead_letters(2)

        first, second = await listed(rig)
        assert first == {
            "topic": topic_prefix + DEAD,
            "letter": "3/0",
            "at": first["at"],
            "state": "open",
            "reason": "not_json",
            "detail": first["detail"],
            "attempt": 1,
            "origin": f"{topic_prefix}{LICENSE_INTAKE}/3/0",
            "key": "ka:1",
            "size_bytes": 8,
        }
        assert [letter["letter"] for letter in await listed(rig, "--reason", "unknown_type")] == [second["letter"]]

        shown = (await rig.keyway("dead", "show", DEAD, "3/0", "--json")).document
        assert base64.b64decode(shown["value_base64"]) == b"\xff{broken"
        assert shown["headers"][0] == {
            "name": "trace",
            "value": "ä",
            "value_base64": base64.b64encode("ä".encode()).decode(),
        }

        dry = await rig.keyway("dead", "retry", LICENSE_INTAKE, "--all", "--dry-run", "--json")
        assert (dry.status, dry.document["done"]) == (0, 2)
        assert len(await listed(rig)) == 2

        retried = await rig.keyway("dead", "retry", LICENSE_INTAKE, "3/0", "--json")
        assert (retried.status, retried.document["done"]) == (0, 1), retried.err
        assert '"event":"dead_letter.dealt_with"' in retried.err.replace(" ", "")
        letters = await rig.dead_letters(3)
        again = letters[2]
        assert (again.value, again.key) == (b"\xff{broken", b"ka:1")
        told = dict(again.headers)
        assert (told["trace"], told["x-attempt"]) == ("ä".encode(), b"2")
        assert told["x-origin"] == f"{topic_prefix}{LICENSE_INTAKE}/3/2".encode()
        assert [letter["letter"] for letter in await listed(rig)] == ["3/1", "3/2"]

        repeated = await rig.keyway("dead", "retry", LICENSE_INTAKE, "3/0", "--json")
        assert (repeated.document["done"], repeated.document["skipped"]) == (0, 1)
        unknown = await rig.keyway("dead", "discard", LICENSE_INTAKE, "3/99")
        assert unknown.status == 1
        discarded = await rig.keyway("dead", "discard", LICENSE_INTAKE, "--all")
        assert discarded.status == 0
        assert discarded.out == "2 letters discarded, 1 left as they are\n"
        assert await listed(rig) == []
        assert [letter["state"] for letter in await listed(rig, "--done")] == ["retried", "discarded", "discarded"]
        assert (await rig.keyway("dead", "list", "nothing")).status == 1
        assert (await rig.keyway("dead", "retry", LICENSE_INTAKE)).status == 2


async def test_a_letter_retried_twice_has_one_effect(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path, shell: Shell
) -> None:
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path, shell) as rig:
        rig.start("license")
        await rig.purchase("00000001")
        envelope = replace(an_envelope(SuspendLicense(account="ka", number="00000001")), deadline_at=None)
        origin = f"{topic_prefix}{LICENSE_COMMANDS}/5/77".encode()
        for _ in range(2):  # the same record, set aside twice
            await rig.put(
                dead_letter_topic(LICENSE_COMMANDS),
                encode_envelope(envelope),
                key=b"ka:00000001",
                partition=5,
                headers=[
                    (HEADER_COMMAND_ID, envelope.command_id.bytes),
                    *(("x-error", b"handler_fault: ours"), ("x-origin", origin), ("x-attempt", b"1")),
                ],
            )
        foreign = [("x-error", b"not_json: x"), ("x-origin", b"__consumer_offsets/0/0")]
        await rig.put(dead_letter_topic(LICENSE_COMMANDS), b"x", partition=6, headers=foreign)

        ran = await rig.keyway("dead", "retry", LICENSE_COMMANDS, "--all", "--json")
        await rig.until("SELECT suspended FROM license")
        commands = await rig.records(LICENSE_COMMANDS, 3)

        assert (ran.status, ran.document["done"], ran.document["failed"]) == (1, 2, 1)
        assert "x-origin" in ran.err
        back = [record for record in commands if record.partition == 5]
        assert [dict(record.headers).get("x-attempt") for record in back] == [b"1", b"1"]
        await rig.command(SuspendLicense(account="ka", number="00000001"))
        await rig.until("SELECT count(*) = 3 FROM audit WHERE license_id = 'ka:00000001'")
        assert await rig.database.fetchval("SELECT sequence FROM license") == 2


async def test_thousands_of_letters_are_worked_through(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path, shell: Shell
) -> None:
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path, shell) as rig:
        futures = [
            await rig.producer.send(
                topic_prefix + DEAD,
                b"x" * 2000,
                partition=place % 24,
                headers=[("x-error", b"payload: y" if place % 10 else b"header: z"), ("x-attempt", b"1")],
            )
            for place in range(4000)
        ]
        for future in futures:
            await future

        ran = await rig.keyway("dead", "discard", LICENSE_INTAKE, "--reason", "payload", "--json")
        letters = await listed(rig, "--limit", "5000")
        few = await rig.keyway("dead", "list", LICENSE_INTAKE, "--limit", "10", "--json")

        assert ran.document["done"] == 3600
        assert len(letters) == 400
        assert {letter["reason"] for letter in letters} == {"header"}
        assert (len(few.document["letters"]), few.document["more"]) == (10, True)
