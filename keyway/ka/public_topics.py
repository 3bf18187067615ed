"""Another system beside KA: it reports usage and follows `license.events`, with JSON and an ordinary Kafka client.

It relies on nothing but what docs/events.md and docs/protocols/usage.md 1 promise.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from keyway.ka.month import Report
from shared.clock import SystemClock
from shared.contracts.topics import LICENSE_EVENTS, LICENSE_EVENTS_PARTITIONS, USAGE_REPORTED
from shared.kafka import RecordConsumer, RecordProducer, acknowledged, start_client
from shared.kafka_ending import stop_client

SOURCE = "urn:example:demo"
MEDIA_TYPE = ("content-type", b"application/cloudevents+json")
POLL_MS = 100
STOP_SECONDS = 5.0

Event = Mapping[str, object]
"""A CloudEvent in structured mode, decoded."""


def usage_event(report: Report, *, account: str, number: str, now: datetime) -> bytes:
    """Return the usage event that tells `report` of a license, as a record value; `now` in the time of the trade."""
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id(report, number),
            "source": SOURCE,
            "type": f"keyway.usage.{report.kind}",
            "subject": f"{account}:{number}",
            "time": (now - timedelta(hours=report.hours_ago)).isoformat(),
            "datacontenttype": "application/json",
            "data": {"account": account, "license": number, "counter": report.counter, "value": report.value},
        }
    )


def event_id(report: Report, number: str) -> str:
    """Return the id of the event that tells `report` of the license with that number."""
    return f"{number}-{report.name}"


async def report_usage(bootstrap: str, key: str, events: Sequence[bytes], *, topic_prefix: str = "") -> None:
    """Publish `events` in order. Raises `UnavailableError` when the broker does not take them."""
    producer: RecordProducer = AIOKafkaProducer(bootstrap_servers=bootstrap, client_id="demo-usage", acks="all")
    await start_client(producer, bootstrap)
    try:
        for event in events:
            sent = await producer.send(topic_prefix + USAGE_REPORTED, event, key.encode(), headers=[MEDIA_TYPE])
            await acknowledged(sent)
    finally:
        await stop_client(producer, STOP_SECONDS)


@dataclass(slots=True)
class Story:
    """The events of one license as a consumer takes them: copies dropped, a jump noticed (docs/events.md)."""

    last: int = 0
    """Number of the last event."""
    copies: int = 0
    faults: list[str] = field(default_factory=list)
    fresh: list[Event] = field(default_factory=list)
    """First occurrences that nobody has taken yet."""

    def take_in(self, event: Event) -> None:
        """Note one more event of the license."""
        sequence = event.get("sequence")
        if not isinstance(sequence, str) or not sequence.isdigit():
            self.faults.append(f"{event.get('type')} came, which nothing here should cause: {event.get('data')}")
            return
        number = int(sequence)
        if number <= self.last:
            self.copies += 1
            return
        if number != self.last + 1:
            self.faults.append(f"event {number} came after event {self.last}")
        self.last = number
        self.fresh.append(event)

    def take(self) -> list[Event]:
        """Return the first occurrences since the last call."""
        taken, self.fresh = self.fresh, []
        return taken


class EventFollower:
    """Reads `license.events` from where it ended at the start; keeps what concerns a few licenses."""

    def __init__(self, bootstrap: str, licenses: Collection[str], clock: SystemClock, topic_prefix: str) -> None:
        """`licenses` are license ids (`account:number`) that nobody has used yet."""
        self.stories = {license: Story() for license in licenses}
        self._clock = clock
        self._consumer: RecordConsumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, client_id="demo-events", group_id=None, enable_auto_commit=False
        )
        topic = topic_prefix + LICENSE_EVENTS
        self._partitions = [TopicPartition(topic, number) for number in range(LICENSE_EVENTS_PARTITIONS)]

    @classmethod
    @asynccontextmanager
    async def following(
        cls, bootstrap: str, licenses: Collection[str], *, clock: SystemClock, topic_prefix: str = ""
    ) -> AsyncIterator["EventFollower"]:
        """Follow for the time of a block. Raises `UnavailableError` when no broker answers."""
        follower = cls(bootstrap, licenses, clock, topic_prefix)
        await start_client(follower._consumer, bootstrap)
        try:
            follower._consumer.assign(follower._partitions)
            for partition, end in (await follower._consumer.end_offsets(follower._partitions)).items():
                follower._consumer.seek(partition, end)
            yield follower
        finally:
            await stop_client(follower._consumer, STOP_SECONDS)

    async def next_events(self, license: str, count: int, *, seconds: float) -> list[Event]:
        """Return the events of `license` since the last call, once `count` are there or `seconds` are over."""
        deadline = self._clock.monotonic() + seconds
        story = self.stories[license]
        while len(story.fresh) < count and self._clock.monotonic() < deadline:
            await self._read()
        return story.take()

    async def rest(self, license: str, *, seconds: float) -> list[Event]:
        """Return the events of `license` since the last call, once all that stand on the topic now are read."""
        deadline = self._clock.monotonic() + seconds
        ends = await self._consumer.end_offsets(self._partitions)
        for partition, end in ends.items():
            while await self._consumer.position(partition) < end and self._clock.monotonic() < deadline:
                await self._read()
        return self.stories[license].take()

    async def _read(self) -> None:
        for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
            for record in records:
                event = orjson.loads(record.value or b"null")
                story = self.stories.get(event["subject"])
                if story is not None:
                    story.take_in(event)
