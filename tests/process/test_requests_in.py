"""Requests of other systems through sudden deaths: one effect and one answer each, and all events fit the schemas."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from jsonschema import Draft202012Validator

from keyway.ka.forms import operation_form
from shared.contracts.identifiers import partition_of
from shared.contracts.schemas import all_schemas
from shared.contracts.topics import (
    LICENSE_EVENTS,
    LICENSE_EVENTS_PARTITIONS,
    LICENSE_INTAKE,
    LICENSE_INTAKE_PARTITIONS,
)
from shared.kafka import ConsumedRecord
from tests.integration.intake_rig import a_request
from tests.process.whole_stack import SETTLED_SECONDS, TEST_SECONDS, WholeStack, order, settled, until, whole_topic

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(TEST_SECONDS)]

LICENSES = 12
REQUESTS = 40
"""Of each license, suspend and resume in turn."""
KILLS = ("intake-0", "license-0", "intake-0", "relay-0", "intake-0")

STATES = "SELECT license_id, sequence, suspended FROM license WHERE license_id = ANY($1)"
ANSWERED = """
SELECT count(*) = $2 AND bool_and(published_at IS NOT NULL) FROM outbox
WHERE license_id = ANY($1) AND type LIKE 'keyway.intake.%'
"""


async def test_requests_sent_twice_through_kills_of_every_worker_have_one_effect_and_one_answer(
    stack: WholeStack, fresh_number: Iterator[int]
) -> None:
    licenses = await bought(stack, [next(fresh_number) for _ in range(LICENSES)])
    run = random.randbytes(4).hex()
    requests = [
        a_request("resume" if turn % 2 else "suspend", number, f"{run}-{number}-{turn}")
        for turn in range(REQUESTS)
        for number in licenses
    ]
    producer = AIOKafkaProducer(bootstrap_servers=stack.now().kafka)
    await producer.start()
    connection = await asyncpg.connect(stack.now().database)
    try:
        portion = len(requests) // len(KILLS)
        for place, victim in enumerate(KILLS):
            await send(producer, requests[place * portion : (place + 1) * portion])
            await stack.kill(victim)
            await asyncio.sleep(0.5)
        await send(producer, requests)  # everything once more
        keys = [f"ka:{number}" for number in licenses]

        async def answered() -> bool:
            return bool(await connection.fetchval(ANSWERED, keys, len(requests)))

        await until(answered, seconds=SETTLED_SECONDS, what="every request is answered")
        await asyncio.sleep(1)
        assert await answered(), "nothing is answered twice"
        rows = await connection.fetch(
            "SELECT license_id, sequence, suspended FROM license WHERE license_id = ANY($1)", keys
        )
        entries = await connection.fetchval("SELECT count(*) FROM audit WHERE license_id = ANY($1)", keys)
    finally:
        await connection.close()
        await producer.stop()

    assert entries == len(licenses) + len(requests), "one link for each purchase and each request"
    assert {(row["sequence"], row["suspended"]) for row in rows} == {(1 + REQUESTS, False)}
    records = await whole_topic(stack.now().kafka, LICENSE_EVENTS, LICENSE_EVENTS_PARTITIONS)
    assert faults(records) == []
    ours = [event for record in records if (event := orjson.loads(record.value or b""))["subject"] in keys]
    first = {event["id"]: event for event in ours}.values()
    answers = Counter(event["data"]["id"] for event in first if event["type"].startswith("keyway.intake."))
    assert answers == Counter(str(request["id"]) for request in requests)
    assert {event["data"]["code"] for event in first if event["type"].startswith("keyway.intake.")} == {
        "suspended",
        "resumed",
    }
    assert_in_sequence(ours)


async def bought(stack: WholeStack, numbers: Sequence[int]) -> list[str]:
    for number in numbers:
        bought = await settled(stack.administrators(), operation_form("PURCHASE", order(number)))
        assert bought.status == 200, str(bought)
    return [f"{number:08}" for number in numbers]


async def send(producer: AIOKafkaProducer, requests: Sequence[dict[str, Any]]) -> None:
    for request in requests:
        key = request["subject"].encode()
        where = partition_of(key, LICENSE_INTAKE_PARTITIONS)
        for _ in range(random.randint(1, 2)):
            await producer.send(LICENSE_INTAKE, orjson.dumps(request), key, partition=where)
    await producer.flush()


def faults(records: Sequence[ConsumedRecord]) -> list[str]:
    """What of the whole topic does not fit the published schemas."""
    validators = {name: Draft202012Validator(schema) for name, schema in all_schemas().items()}
    events = [orjson.loads(record.value or b"") for record in records]
    return [error.message for event in events for error in validators[event["type"]].iter_errors(event)]


def assert_in_sequence(events: Sequence[dict[str, Any]]) -> None:
    last: Counter[str] = Counter()
    for event in events:
        if "sequence" in event:
            number = int(event["sequence"])
            assert number <= last[event["subject"]] + 1, "a first occurrence out of sequence"
            last[event["subject"]] = max(number, last[event["subject"]])
