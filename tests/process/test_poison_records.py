"""Records that nobody can read on `license.commands`: set aside with their reason, in nobody's way."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from keyway.ka.client import Outcome
from keyway.ka.forms import operation_form
from shared.clock import MachineClock
from shared.contracts.codec import encode_envelope
from shared.contracts.commands import LicensingModel, PurchaseLicense
from shared.contracts.envelope import Envelope, new_id
from shared.contracts.identifiers import CommandId, license_id, partition_of
from shared.contracts.topics import HEADER_COMMAND_ID, LICENSE_COMMANDS, LICENSE_COMMANDS_PARTITIONS, dead_letter_topic
from tests.process.whole_stack import SETTLED_SECONDS, TEST_SECONDS, WholeStack, order, settled

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(TEST_SECONDS)]

BESIDE_SECONDS = 1.0
TRIES = 3
"""A poison that is in the way delays every purchase behind it; a machine that is busy delays one now and then."""
Headers = list[tuple[str, bytes | None]]


def command(number: str) -> Envelope:
    """Return a purchase as some gateway would have published it."""
    now = MachineClock().now()
    wanted = PurchaseLicense(
        account="ka",
        number=number,
        product="Bronze",
        model=LicensingModel.STANDARD,
        test=None,
        expires_on=date(2099, 1, 31),
    )
    command_id = CommandId(new_id())
    return Envelope(
        command_id=command_id,
        correlation_id=command_id,
        causation_id=None,
        command=wanted,
        deadline_at=now + timedelta(minutes=1),
        occurred_at=now,
    )


def changed(envelope: Envelope, **members: object) -> bytes:
    """Return the envelope's bytes with some members changed."""
    return orjson.dumps({**orjson.loads(encode_envelope(envelope)), **members})


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that nobody can read, made from a sound one, and how its dead letter must begin."""

    make: Callable[[Envelope, Headers], tuple[bytes | None, Headers]]
    reason: bytes


POISONS: Mapping[str, Poison] = {
    "header not UTF-8": Poison(
        lambda envelope, sound: (encode_envelope(envelope), [*sound, ("traceparent", b"\xff\xfe\xfd")]), b"header: "
    ),
    "null header": Poison(
        lambda envelope, sound: (encode_envelope(envelope), [*sound, ("traceparent", None)]), b"header: "
    ),
    "null command id": Poison(
        lambda envelope, _: (encode_envelope(envelope), [(HEADER_COMMAND_ID, None)]), b"header: "
    ),
    "broken JSON": Poison(lambda _, sound: (b'{"version": 1, "type": "purchase_li', sound), b"not_json: "),
    "not an object": Poison(lambda _, sound: (b"[]", sound), b"not_json: "),
    "null value": Poison(lambda _, sound: (None, sound), b"not_json: "),
    "unknown type": Poison(
        lambda envelope, sound: (changed(envelope, type="resell_license"), sound), b"unknown_type: "
    ),
    "higher version": Poison(lambda envelope, sound: (changed(envelope, version=2), sound), b"version: "),
}


@asynccontextmanager
async def started(client: Any) -> AsyncIterator[Any]:
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@pytest.mark.parametrize("kind", list(POISONS))
async def test_unreadable_record_is_set_aside_and_its_neighbors_are_served(
    stack: WholeStack, fresh_number: Iterator[int], kind: str
) -> None:
    bootstrap = stack.now().kafka
    async with (
        started(AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)) as consumer,
        started(AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")) as producer,
    ):
        for left in reversed(range(TRIES)):
            served_after = await poisoned(stack, fresh_number, POISONS[kind], consumer, producer)
            if served_after < BESIDE_SECONDS or not left:
                break
    assert served_after < BESIDE_SECONDS


async def poisoned(
    stack: WholeStack, numbers: Iterator[int], poison: Poison, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer
) -> float:
    """Put the poison before a purchase and see both through; return the seconds that the purchase took."""
    ka = stack.administrators()[0]
    beside = order(next(numbers))
    key = license_id("ka", beside.number).encode()
    partition = partition_of(key, LICENSE_COMMANDS_PARTITIONS)
    envelope = command(f"{next(numbers):08}")
    value, headers = poison.make(envelope, [(HEADER_COMMAND_ID, envelope.command_id.bytes)])
    dead = TopicPartition(dead_letter_topic(LICENSE_COMMANDS), partition)
    consumer.assign([dead])
    consumer.seek(dead, (await consumer.end_offsets([dead]))[dead])
    await settled([ka], operation_form("PURCHASE", order(next(numbers))))  # the way is warm
    sent = await producer.send_and_wait(LICENSE_COMMANDS, value=value, key=key, partition=partition, headers=headers)
    began = time.monotonic()
    exchange = await ka.send(operation_form("PURCHASE", beside))
    served_after = float("inf") if exchange.outcome is Outcome.INFO else time.monotonic() - began
    async with asyncio.timeout(SETTLED_SECONDS):
        letter = await consumer.getone()
    assert exchange.status in {200, 503, 504, None}, str(exchange)
    told = dict(letter.headers)
    assert (letter.value, letter.key) == (value, key)
    assert list(letter.headers)[: len(headers)] == headers
    assert told["x-error"].startswith(poison.reason)
    assert told["x-origin"] == f"{LICENSE_COMMANDS}/{partition}/{sent.offset}".encode()
    return served_after
