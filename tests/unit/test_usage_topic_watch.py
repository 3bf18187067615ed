"""The topic watch: another id ends the process at once, a fallen end only when it stays fallen."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import pytest

from shared.clock import MachineClock
from shared.domain.usage import ReadTopic
from shared.kafka_topic_ends import TopicEnd
from workers.usage.topic_watch import FALLEN_LOOKS, TopicMadeAnewError, TopicWatch

pytestmark = pytest.mark.asyncio

FIRST, SECOND = UUID(int=1), UUID(int=2)


@dataclass
class Record:
    """A record in memory, with the rules of the stored one."""

    topic: ReadTopic = field(default_factory=ReadTopic)

    async def read(self) -> ReadTopic:
        return self.topic

    async def look(self, topic_id: UUID, *, has_fallen: bool, now: datetime) -> ReadTopic:
        if self.topic.topic_id is None and not has_fallen:
            self.topic = replace(self.topic, topic_id=topic_id)
        elif self.topic.topic_id != topic_id or has_fallen:
            self.topic = ReadTopic(generation=self.topic.generation + 1, topic_id=topic_id, is_accepted=False)
        return self.topic


@dataclass
class Topic:
    end: TopicEnd

    async def tell(self) -> TopicEnd:
        return self.end


def an_end(last: int, topic_id: UUID = FIRST) -> TopicEnd:
    return TopicEnd(topic_id=topic_id, last=(last,), held=(last,))


async def begun(last: int) -> tuple[TopicWatch, Record, Topic]:
    record, topic = Record(), Topic(an_end(last))
    watch = TopicWatch(record=record, end=topic.tell, clock=MachineClock())
    assert await watch.begin() == 1
    record.topic = replace(record.topic, watermark=(last,))
    return watch, record, topic


async def test_the_same_topic_is_read_on() -> None:
    watch, record, topic = await begun(9)
    topic.end = an_end(12)
    for _ in range(FALLEN_LOOKS * 2):
        await watch.look()
    assert record.topic == ReadTopic(topic_id=FIRST, watermark=(9,))


async def test_another_topic_ends_the_process_although_it_has_grown_as_far() -> None:
    watch, _, topic = await begun(9)
    topic.end = an_end(12, SECOND)
    with pytest.raises(TopicMadeAnewError, match="keyway usage topic"):
        await watch.look()
    assert await watch.begin() == 2
    await watch.look()


async def test_an_end_that_falls_for_a_moment_is_a_new_leader_and_one_that_stays_fallen_another_topic() -> None:
    watch, record, topic = await begun(9)
    for _ in range(3):
        topic.end = an_end(8)
        for _ in range(FALLEN_LOOKS - 1):
            await watch.look()
        topic.end = an_end(9)
        await watch.look()
    assert record.topic.generation == 1

    topic.end = an_end(8)
    for _ in range(FALLEN_LOOKS - 1):
        await watch.look()
    with pytest.raises(TopicMadeAnewError):
        await watch.look()
