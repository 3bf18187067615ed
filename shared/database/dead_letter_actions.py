"""What people did about dead letters. The letters themselves stand on their topics; those without a row are open."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, LiteralString

from shared.database.failures import mapped_failures
from shared.database.pool import OwnConnection


class LetterAction(StrEnum):
    """What was done."""

    RETRIED = "retried"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterPlace:
    """Where a dead letter stands. Its time is part of it: a topic made anew counts its offsets from 0 again."""

    topic: str
    """Dead-letter topic, with the installation's prefix."""
    partition: int
    offset: int
    at: datetime


DONE: Final[LiteralString] = """
SELECT d.topic, d.partition, d.dead_offset, d.letter_at, d.action
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::timestamptz[]) AS k (topic, partition, dead_offset, letter_at)
JOIN dead_letter_action AS d USING (topic, partition, dead_offset, letter_at)
"""
RECORD: Final[LiteralString] = """
INSERT INTO dead_letter_action (topic, partition, dead_offset, letter_at, action, attempt)
SELECT k.topic, k.partition, k.dead_offset, k.letter_at, $6::text, k.attempt
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::timestamptz[], $5::integer[])
    AS k (topic, partition, dead_offset, letter_at, attempt)
ON CONFLICT DO NOTHING
"""


async def done_letters(connection: OwnConnection, places: Collection[LetterPlace]) -> dict[LetterPlace, LetterAction]:
    """Return what was done about those of `places` that are not open any more. Raises `UnavailableError`."""
    async with mapped_failures("look up dead letters"):
        rows = await connection.fetch(DONE, *_columns(list(places)))
    return {
        LetterPlace(
            topic=row["topic"], partition=row["partition"], offset=row["dead_offset"], at=row["letter_at"]
        ): LetterAction(row["action"])
        for row in rows
    }


async def record_action(
    connection: OwnConnection, action: LetterAction, letters: Sequence[tuple[LetterPlace, int]]
) -> None:
    """Record what was done about letters, each with the attempts it tells of. Raises `UnavailableError`."""
    columns = _columns([place for place, _ in letters])
    async with mapped_failures("record dead letters"):
        await connection.execute(RECORD, *columns, [attempt for _, attempt in letters], action.value)


def _columns(places: Sequence[LetterPlace]) -> tuple[list[str], list[int], list[int], list[datetime]]:
    return (
        [place.topic for place in places],
        [place.partition for place in places],
        [place.offset for place in places],
        [place.at for place in places],
    )
