"""Records that nobody can read: each is set aside with its reason, and the records beside it do not wait."""

import struct
from typing import Any

import orjson
import pytest
from aiokafka.record.util import calc_crc32c

from shared.contracts.codec import encode_envelope
from shared.contracts.replies import ReplyStatus
from shared.contracts.topics import HEADER_COMMAND_ID, HEADER_REPLY_PARTITION
from tests.builders import a_purchase
from tests.integration.worker_rig import MemoryHandler, an_envelope, body_of, headers_of, purchases, rig, until

pytestmark = pytest.mark.asyncio

SLOT = (3).to_bytes(2, "big")


async def test_every_kind_of_poison_is_set_aside_and_its_neighbors_are_handled(
    kafka_server: str, topic_prefix: str
) -> None:
    handler = MemoryHandler()
    good = an_envelope(a_purchase(number="00000001"))
    value = encode_envelope(good)
    address = headers_of(good, 3)
    newer = orjson.dumps(orjson.loads(value) | {"version": 2})
    stranger = orjson.dumps(orjson.loads(value) | {"type": "grant_wishes"})
    other_id = b"\x01" * 16
    poison = {
        "null header": (value, [*address, ("traceparent", None)], "header"),
        "header not UTF-8": (value, [*address, ("traceparent", b"\xff\xfe")], "header"),
        "short cid": (value, [(HEADER_COMMAND_ID, b"short"), (HEADER_REPLY_PARTITION, SLOT)], "header"),
        "other cid": (value, [(HEADER_COMMAND_ID, other_id), (HEADER_REPLY_PARTITION, SLOT)], "header"),
        "two cids": (value, [*address, address[0]], "header"),
        "rp alone": (value, [(HEADER_REPLY_PARTITION, SLOT)], "header"),
        "broken JSON": (value[:-5], address, "not_json"),
        "not UTF-8": (b"\xff" + value, address, "not_json"),
        "deep nesting": (b"[" * 100_000, address, "not_json"),
        "an array": (b"[]", address, "not_json"),
        "null value": (None, address, "not_json"),
        "empty value": (b"", address, "not_json"),
        "higher version": (newer, address, "version"),
        "unknown type": (stranger, address, "unknown_type"),
    }

    async with rig(kafka_server, topic_prefix) as stand:
        await stand.worker(handler)
        partition = 7  # all in one partition, so that each could hold up the next
        for bad, headers, _ in poison.values():
            await stand.put(bad, headers=headers, key=b"ka:00000001", partition=partition)
        await stand.put(value, headers=address, key=b"ka:00000001", partition=partition)
        await until(lambda: handler.handled, what="the good record is handled")
        letters = await stand.dead_letters(len(poison))

        assert handler.handled == [good]
        reasons = []
        for offset, (letter, (bad, headers, _reason)) in enumerate(zip(letters, poison.values(), strict=True)):
            told = dict(letter.headers)
            assert (letter.value, letter.key, letter.partition) == (bad, b"ka:00000001", partition)
            assert list(letter.headers[: len(headers)]) == headers
            assert told["x-origin"] == f"{stand.topic}/{partition}/{offset}".encode()
            assert told["x-attempt"] == b"1"
            reasons.append((told["x-error"] or b"").decode().partition(":")[0])
        assert reasons == [reason for _, _, reason in poison.values()]


async def test_record_without_key_and_value_is_set_aside(kafka_server: str, topic_prefix: str) -> None:
    handler = MemoryHandler()
    async with rig(kafka_server, topic_prefix) as stand:
        nothing = stand.producer.create_batch()
        nothing.append(timestamp=None, key=None, value=None, headers=[])
        await (await stand.producer.send_batch(nothing, stand.topic, partition=3))
        await stand.worker(handler)
        (letter,) = await stand.dead_letters(1)
        await stand.publish(a_purchase(number="00000001"))
        await stand.replies(1)

        assert (letter.key, letter.value) == (None, None)
        assert dict(letter.headers)["x-error"].startswith(b"not_json")


async def test_caller_of_an_unreadable_command_is_told_at_once(kafka_server: str, topic_prefix: str) -> None:
    async with rig(kafka_server, topic_prefix) as stand:
        await stand.worker(MemoryHandler())
        cid = b"\x07" * 16
        await stand.put(b"{", headers=[(HEADER_COMMAND_ID, cid), (HEADER_REPLY_PARTITION, SLOT)], key=b"ka:1")
        replies = await stand.replies(1)

        assert [reply.status for reply in replies[cid]] == [ReplyStatus.UNREADABLE]


async def test_put_back_dead_letter_counts_its_attempts(kafka_server: str, topic_prefix: str) -> None:
    async with rig(kafka_server, topic_prefix) as stand:
        await stand.worker(MemoryHandler())
        await stand.put(b"{", headers=[("x-attempt", b"4"), ("x-error", b"old: reason")], key=b"ka:1")
        (letter,) = await stand.dead_letters(1)

        assert [value for name, value in letter.headers if name == "x-attempt"] == [b"5"]
        assert [value for name, value in letter.headers if name == "x-error"] != [b"old: reason"]


async def test_command_that_trips_our_own_code_is_set_aside_alone(kafka_server: str, topic_prefix: str) -> None:
    handler = MemoryHandler(trips_over=frozenset({"00000013"}))
    async with rig(kafka_server, topic_prefix) as stand:
        handler.open.clear()
        worker = await stand.worker(handler)
        envelopes = await stand.publish_many(purchases(40))
        handler.open.set()
        replies = await stand.replies(40)
        letters = await stand.dead_letters(1)

        tripped = next(e for e in envelopes if e.command.number == "00000013")
        assert dict(letters[0].headers)["x-error"].startswith(b"handler_fault")
        assert replies[tripped.command_id.bytes][0].status is ReplyStatus.UNREADABLE
        assert sorted(handler.numbers) == sorted(e.command.number for e in envelopes if e is not tripped)
        assert worker.sample("keyway_worker_dead_letters_total", reason="handler_fault") == 1


async def test_wrong_record_key_is_handled_like_any_other(kafka_server: str, topic_prefix: str) -> None:
    handler = MemoryHandler()
    async with rig(kafka_server, topic_prefix) as stand:
        await stand.worker(handler)
        envelope = an_envelope(a_purchase(number="00000001"))
        for key in (b"ka:999", None):
            await stand.put(encode_envelope(envelope), headers=headers_of(envelope, 3), key=key, partition=2)
        replies = await stand.replies(1)
        await until(lambda: len(handler.handled) == 2, what="both are handled")

        assert replies[envelope.command_id.bytes][0].body == body_of(envelope)


async def test_reply_partition_out_of_range_is_counted_and_holds_nothing_up(
    kafka_server: str, topic_prefix: str
) -> None:
    handler = MemoryHandler()
    async with rig(kafka_server, topic_prefix) as stand:
        worker = await stand.worker(handler)
        lost = await stand.publish(a_purchase(number="00000001"), slot=64)
        told = await stand.publish(a_purchase(number="00000001"), slot=63)
        silent = await stand.publish(a_purchase(number="00000001"), slot=None)
        replies = await stand.replies(1)
        await until(lambda: len(handler.handled) == 3, what="all are handled")
        await worker.end()

        assert list(replies) == [told.command_id.bytes]
        assert worker.sample("keyway_worker_replies_unaddressed_total", reason="partition_unknown") == 1
        assert worker.sample("keyway_worker_replies_unaddressed_total", reason="no_address") == 1
        assert sum((await stand.committed()).values()) == 3, f"{lost} and {silent} are finished too"


async def test_record_that_cannot_be_taken_apart_is_set_aside_and_nothing_beside_it_is_lost(
    kafka_server: str, topic_prefix: str
) -> None:
    handler = MemoryHandler()
    async with rig(kafka_server, topic_prefix) as stand:
        spoiled = an_envelope(a_purchase(number="00000001"))
        batch = stand.producer.create_batch()
        for headers in (headers_of(spoiled, 3), [*headers_of(spoiled, 3), ("zz-name", b"x")], headers_of(spoiled, 3)):
            batch.append(timestamp=None, key=b"ka:1", value=encode_envelope(spoiled), headers=headers)
        with_bad_header_name(batch, b"zz-name")
        before = await stand.publish_many(purchases(200))
        await (await stand.producer.send_batch(batch, stand.topic, partition=7))
        after = await stand.publish_many(purchases(200))
        worker = await stand.worker(handler)
        replies = await stand.replies(401)
        (letter,) = await stand.dead_letters(1)
        await stand.until_committed(403)  # the record behind the one at fault comes with the next fetch
        await worker.end()

        expected = {e.command_id for e in (*before, *after, spoiled)}
        assert set(replies) == {command_id.bytes for command_id in expected}
        assert {e.command_id for e in handler.handled} == expected
        assert dict(letter.headers)["x-error"].startswith(b"record_format")
        assert dict(letter.headers)["x-origin"].startswith(f"{stand.topic}/7/".encode())


def with_bad_header_name(batch: Any, name: bytes) -> None:
    """Write a header name that is no UTF-8, as clients in other languages can, and mend the checksum."""
    raw = bytearray(batch._build())
    at = raw.index(name)
    raw[at : at + 2] = b"\xff\xfe"
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    batch._buffer = raw
