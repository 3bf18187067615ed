"""How far each partition is finished: the watermark is the lowest unfinished offset, and the offset to commit.

Pure bookkeeping without a clock or a network. Records arrive in rising order per partition and may finish in any
order; an offset moves only past records that are finished, so a crash at any moment repeats work and loses none.
"""

from collections import deque
from collections.abc import Mapping


class PartitionWatermark:
    """One partition's open offsets."""

    __slots__ = ("_finished", "_next", "_open")

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._finished: set[int] = set()
        self._next = 0

    def receive(self, offset: int) -> None:
        """Note that the record at `offset` is here and unfinished."""
        if offset < self._next:  # the partition was rewound: everything from here on is delivered again
            self._open.clear()
            self._finished.clear()
        self._open.append(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> None:
        """Note that the record at `offset` needs nothing more. Records that are not open are ignored."""
        if not self._open or offset < self._open[0]:
            return
        self._finished.add(offset)
        while self._open and self._open[0] in self._finished:
            self._finished.remove(self._open.popleft())

    @property
    def offset(self) -> int:
        """The lowest unfinished offset: commit exactly this, never one more."""
        return self._open[0] if self._open else self._next

    @property
    def open_count(self) -> int:
        """How many records are here and unfinished."""
        return len(self._open)


class Watermarks:
    """The watermarks of all partitions of one topic that this worker reads, by partition number."""

    __slots__ = ("_partitions",)

    def __init__(self) -> None:
        self._partitions: dict[int, PartitionWatermark] = {}

    def receive(self, partition: int, offset: int) -> None:
        """Note that a record is here and unfinished."""
        mark = self._partitions.get(partition)
        if mark is None:
            mark = self._partitions[partition] = PartitionWatermark()
        mark.receive(offset)

    def finish(self, partition: int, offset: int) -> None:
        """Note that a record needs nothing more; one of a partition that was taken away is ignored."""
        mark = self._partitions.get(partition)
        if mark is not None:
            mark.finish(offset)

    def offsets(self) -> Mapping[int, int]:
        """Return the watermark of each partition that has had a record."""
        return {partition: mark.offset for partition, mark in self._partitions.items()}

    def is_open(self, partition: int) -> bool:
        """Whether a record of the partition is here and unfinished."""
        mark = self._partitions.get(partition)
        return mark is not None and mark.open_count > 0

    def clear(self) -> None:
        """Forget everything: the partitions now belong to somebody else, who may already be further."""
        self._partitions.clear()
