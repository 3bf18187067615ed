"""Notices that `usage.reported` is no longer the topic whose offsets are stored.

Deleted and made anew, a topic counts from 0 again, and the stored watermark would pass for "everything is taken in"
although nothing of the new topic is. So the id that Kafka gives to each topic is compared with the one on record, at
the start and every few seconds. Another id begins another generation: its watermark starts at 0, a group of its own
reads it from its beginning, and until people have accepted it nothing is told that needs everything to be read
(docs/protocols/usage.md 5). Events count meanwhile; those that are sent again are known by `source` and `id`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog

from shared.clock import SystemClock
from shared.domain.usage import ReadTopic, has_fallen
from shared.errors import ConflictError, KeywayError, StoreRefusedError, UnavailableError
from shared.kafka_topic_ends import TopicEnd

BEGIN_SECONDS = 30.0
BEGIN_AGAIN_SECONDS = 0.5
LOOK_SECONDS = 2.0
FALLEN_LOOKS = 5
"""So often in a row the end must be below the watermark: a new leader may tell an older end for a moment."""
REMIND_LOOKS = 30

log = structlog.get_logger()


class TopicMadeAnewError(KeywayError):
    """The topic is another one than this process reads: it must be started again, and will begin with the new one."""

    code = "usage_topic_made_anew"


class TopicRecord(Protocol):
    """Where the topic is on record (`shared.database.usage_topic`)."""

    async def look(self, topic_id: UUID, *, has_fallen: bool, now: datetime) -> ReadTopic:
        """Return the topic on record after it was seen to be `topic_id`. Raises `UnavailableError`."""
        ...

    async def read(self) -> ReadTopic:
        """Return the topic on record. Raises `UnavailableError`."""
        ...


@dataclass(slots=True, kw_only=True)
class TopicWatch:
    """Compares the topic with the one on record."""

    record: TopicRecord
    end: Callable[[], Awaitable[TopicEnd]]
    """Raises `UnavailableError`."""
    clock: SystemClock
    generation: int = field(default=0, init=False)
    """That this process reads; 0 before `begin`."""
    _fallen: int = field(default=0, init=False)
    _looks: int = field(default=0, init=False)

    async def begin(self) -> int:
        """Return the generation that is to be read.

        Raises `UnavailableError` when Kafka or the database do not answer in time: a topic that was just made has no
        leaders for a while.
        """
        gives_up_at = self.clock.monotonic() + BEGIN_SECONDS
        while True:
            try:
                end = await self.end()
                found = await self.record.look(end.topic_id, has_fallen=False, now=self.clock.now())
            except UnavailableError:
                if self.clock.monotonic() >= gives_up_at:
                    raise
            else:
                self.generation = found.generation
                self._remind(found)
                return self.generation
            await self.clock.sleep(BEGIN_AGAIN_SECONDS)

    async def run(self) -> None:
        """Look for as long as the process lives. Raises `TopicMadeAnewError`."""
        while True:
            await self.clock.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except (UnavailableError, ConflictError, StoreRefusedError) as error:
                log.warning("worker.usage.topic_not_seen", detail=error)

    async def look(self) -> None:
        """Look once. Raises `TopicMadeAnewError`, and `UnavailableError` when Kafka or database do not answer."""
        before = await self.record.read()
        end = await self.end()
        is_same = before.generation == self.generation and before.is_of(end.topic_id)
        self._fallen = self._fallen + 1 if is_same and has_fallen(before.watermark, end.last) else 0
        found = await self.record.look(end.topic_id, has_fallen=self._fallen >= FALLEN_LOOKS, now=self.clock.now())
        if found.generation != self.generation:
            raise TopicMadeAnewError(
                f"usage.reported is not the topic that was read (generation {self.generation}): its id or its end "
                f"changed; generation {found.generation} is read from its beginning after a restart. See "
                "`keyway usage topic`"
            )
        self._looks += 1
        if self._looks % REMIND_LOOKS == 0:
            self._remind(found)

    def _remind(self, found: ReadTopic) -> None:
        if not found.is_accepted:
            log.error(
                "worker.usage.topic_not_accepted",
                generation=found.generation,
                detail="usage.reported was made anew: sums are answered with 503 until `keyway usage topic --accept`",
            )
