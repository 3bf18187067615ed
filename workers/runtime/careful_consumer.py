"""A consumer that loses nothing when a record cannot even be taken apart.

The library's `getmany` gathers records of several partitions; when taking one apart fails (a header name that is not
UTF-8, a broken checksum, an unknown compression), it raises and *forgets* what it had gathered, although the positions
of those partitions have moved on. The next commit would then pass records that nobody has seen, and the record at
fault would raise again for ever. So, on such a failure:

1. every position is set back to where it was before the call, and nothing is lost;
2. reading goes on one partition and one record at a time, which shows the offset at fault;
3. that record is replaced by a stand-in without key and value, marked by the header `x-unreadable`, which goes to the
   dead letters like everything unreadable. Its bytes stay at its origin until the topic forgets them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException, KafkaError, UnsupportedCodecError

from shared.kafka import ConsumedRecord

HEADER_UNREADABLE = "x-unreadable"
ATTEMPTS_MAX = 3
"""A checksum may have been broken on the way: read so often before a record is given up."""
CAREFUL_POLLS = 1000
"""Polls of one record each after a failure, before reading in bulk again."""

log = structlog.get_logger()


class CarefulConsumer(AIOKafkaConsumer):  # type: ignore[misc] # the library is untyped
    """See the module's text."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - handed through to the library
        super().__init__(**options)
        self._careful_polls_left = 0
        self._attempts: dict[TopicPartition, int] = {}
        self._emptied: tuple[object, Mapping[TopicPartition, int]] = (None, {})

    @property
    def emptied(self) -> Mapping[TopicPartition, int]:
        """Positions as of the last poll that found nothing: every record below them was handed out before.

        They pass what is never handed out (marks of transactions, records of aborted ones, gaps). Nothing once the
        assignment is another one.
        """
        assignment, positions = self._emptied
        return positions if assignment is not None and assignment is self._positions()[0] else {}

    @property
    def is_coordinating(self) -> bool:
        """Whether the tasks that keep the group membership and the metadata are alive; nothing revives them."""
        tasks = (getattr(self._coordinator, "_coordination_task", None), getattr(self._client, "_sync_task", None))
        return not any(task is not None and task.done() for task in tasks)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumedRecord]]:
        """Return what is there by partition, after at most `timeout_ms`; never forgets a record."""
        if self._careful_polls_left:
            self._careful_polls_left -= 1
            found = await self._next_record()
            if found:
                return found
            max_records = 1  # still careful: one record cannot take another with it
        assignment, before = self._positions()
        try:
            records: Mapping[TopicPartition, Sequence[ConsumedRecord]] = await super().getmany(
                *partitions, timeout_ms=timeout_ms, max_records=max_records
            )
        except ConsumerStoppedError:
            raise
        except Exception as error:
            self._set_back(assignment, before)
            if not _is_about_a_record(error):
                raise
            log.warning("worker.records.not_taken_apart", error_class=type(error).__name__)
            self._careful_polls_left = CAREFUL_POLLS
            return {}
        if not records:
            self._emptied = self._positions()
        return records

    async def _next_record(self) -> Mapping[TopicPartition, Sequence[ConsumedRecord]]:
        for partition in sorted(self.assignment()):
            try:
                found: Mapping[TopicPartition, Sequence[ConsumedRecord]] = await super().getmany(
                    partition, timeout_ms=0, max_records=1
                )
            except ConsumerStoppedError:
                raise
            except Exception as error:
                if not _is_about_a_record(error):
                    raise
                self._attempts[partition] = self._attempts.get(partition, 0) + 1
                if self._attempts[partition] >= ATTEMPTS_MAX:
                    return await self._give_up(partition, error)
                continue
            if found:
                return found
        return {}

    async def _give_up(
        self, partition: TopicPartition, error: Exception
    ) -> Mapping[TopicPartition, Sequence[ConsumedRecord]]:
        self._attempts.pop(partition, None)
        offset = await self.position(partition)
        self.seek(partition, offset + 1)
        return {partition: [_stand_in(partition, offset, type(error).__name__)]}

    def _positions(self) -> tuple[object, dict[TopicPartition, int]]:
        subscription = self._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return None, {}
        states = ((partition, assignment.state_value(partition)) for partition in assignment.tps)
        return assignment, {partition: state.position for partition, state in states if state.has_valid_position}

    def _set_back(self, assignment: object, before: Mapping[TopicPartition, int]) -> None:
        now, positions = self._positions()
        if now is not assignment:  # rebalanced meanwhile: positions are read anew from the committed offsets
            return
        for partition, position in before.items():
            if positions.get(partition) != position:
                self.seek(partition, position)


def _is_about_a_record(error: Exception) -> bool:
    return isinstance(error, CorruptRecordException | UnsupportedCodecError) or not isinstance(error, KafkaError)


def _stand_in(partition: TopicPartition, offset: int, reason: str) -> ConsumedRecord:
    record: ConsumedRecord = ConsumerRecord(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=None,
        value=None,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        headers=((HEADER_UNREADABLE, reason.encode()),),
    )
    return record
