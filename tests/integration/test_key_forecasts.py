"""Dry runs on real PostgreSQL: what the worker and `keyway plan --key` foretell, and that nothing is written."""

import asyncio
import json
from pathlib import Path

import pytest

from shared.catalog_file import read_catalog_file
from shared.contracts.key_commands import PlanKey
from shared.contracts.replies import Reply, ReplyStatus
from shared.database.catalogs import PostgresCatalogs
from shared.database.pool import open_pool
from tests.builders import an_envelope
from tests.command_line import Ran, Shell, shell
from tests.integration.test_key_commands import MON, a_key, code, put, rows, workers, world
from tests.key_builders import EXAMPLE_CATALOG, members
from tests.unit.test_license_handler import received

__all__ = ["shell", "world"]

pytestmark = pytest.mark.services

WRITTEN = """
SELECT (SELECT jsonb_agg(l ORDER BY license_id) FROM license AS l)::text,
    (SELECT count(*) FROM command_result), (SELECT count(*) FROM audit), (SELECT count(*) FROM outbox),
    (SELECT count(*) FROM revision), (SELECT count(*) FROM named_request)
"""


def planned(number: str, **given: object) -> PlanKey:
    return PlanKey(account="partner", number=number, asked_by="partner", members=members(**given))


def plan_in(reply: Reply) -> dict[str, object]:
    assert reply.status is ReplyStatus.KEY_STATE, reply
    told: dict[str, object] = json.loads(reply.body)
    return told


@pytest.mark.asyncio
async def test_a_dry_run_tells_the_refusal_that_comes_and_leaves_nothing_behind(world: str) -> None:
    async with workers(world) as (worker,):
        await worker.ask(a_key("10000001", MON, address="203.0.113.7"))
        await worker.ask(a_key("10000002", MON))
        (before,) = await rows(world, WRITTEN)
        question = received(an_envelope(planned("10000002", nickname="n", address="203.0.113.7")))
        (first,) = await worker.handler.handle([question])
        (again,) = await worker.handler.handle([question])
        free = await worker.ask(planned("10000002", address="203.0.113.8"))
        unknown = await worker.ask(planned("10000003", nickname="n"))
        assert await rows(world, WRITTEN) == [before]

        assert first.reply is not None
        assert first == again
        assert plan_in(first.reply) == {
            "operations": ["IPBIND", "NICKNAME"],
            "conflicts": [],
            "refusal": "key_address_taken",
            "details": {"address": "203.0.113.7"},
        }
        refused = await worker.ask(put("10000002", nickname="n", address="203.0.113.7"))
        assert (code(refused), json.loads(refused.body)) == ("key_address_taken", {"address": "203.0.113.7"})
        assert (plan_in(free)["operations"], plan_in(free)["refusal"]) == (["IPBIND"], None)
        assert code(unknown) == "key_unknown"


@pytest.mark.asyncio
async def test_a_question_sees_what_the_commands_before_it_in_the_batch_have_left(world: str) -> None:
    async with workers(world) as (worker,):
        await worker.ask(a_key("10000001", MON))
        sent = await worker.send(
            put("10000001", nickname="n"), planned("10000001", nickname="n"), put("10000001", nickname="m")
        )
        assert sent[1].reply is not None
        assert plan_in(sent[1].reply)["operations"] == []
        (stored,) = await rows(world, "SELECT key ->> 'nickname' AS nickname, version FROM license")
        assert tuple(stored) == ("m", 2)


async def prepare(database_url: str) -> None:
    async with workers(database_url) as (worker,):
        await worker.ask(a_key("10000001", MON, address="203.0.113.7"))
        await worker.ask(a_key("10000002", MON))
    async with open_pool(database_url) as pool:
        await PostgresCatalogs(pool).add(read_catalog_file(EXAMPLE_CATALOG), version=1)


def test_the_verb_asks_every_precondition_of_a_stored_key(shell: Shell, world: str, tmp_path: Path) -> None:
    asyncio.run(prepare(world))
    (before,) = asyncio.run(rows(world, WRITTEN))
    shell.export(database_url=world)
    body = tmp_path / "body.json"

    def asked(request: object, *options: object, key: object = 10000002, account: str = "partner") -> Ran:
        body.write_text(json.dumps(request))
        return shell.keyway("plan", body, "--key", key, "--account", account, *options)

    taken = asked({"nickname": "n", "ipAddressBinding": "203.0.113.7"})
    assert (taken.status, taken.out) == (
        1,
        "1. IPBIND\n2. NICKNAME\nRefused: type 30024. The address is bound to another key. Address = 203.0.113.7.\n",
    )
    told = asked({"nickname": "n", "ipAddressBinding": "203.0.113.7"}, "--json").document
    assert (told["operations"], told["refusal"]["code"], told["refusal"]["type"]) == (
        ["IPBIND", "NICKNAME"],
        "400",
        "30024",
    )
    assert asked({"nickname": "n"}, "--json").document == {
        "operations": ["NICKNAME"],
        "conflicts": [],
        "refusal": None,
    }
    assert asked({"nickname": ""}).out == "Nothing to do: the key is as the request asks.\n"
    torn = asked({"ownerId": "10002", "ipAddressBinding": "203.0.113.9"})
    assert (torn.status, torn.out.splitlines()[0]) == (1, "Conflicting operations: MOVE + IPBIND.")
    for unknown in (asked({"nickname": "n"}, key=10000003), asked({"nickname": "n"}, account="ka-2")):
        assert (unknown.status, "sees no key" in unknown.err) == (1, True)
    assert shell.keyway("plan", body, "--key", 10000002).status == 2
    assert asyncio.run(rows(world, WRITTEN)) == [before]
