"""Replies on their way: all that a batch owes to one gateway goes into one record on that gateway's partition.

They leave right after COMMIT. A crash before that is healed by the redelivered command, whose stored reply is sent
again; a gateway that is gone does not matter to anybody.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from shared.contracts.replies import Reply, ReplyAddress, encode_frame, pack_frames
from shared.contracts.topics import LICENSE_REPLIES_PARTITIONS
from shared.kafka import RecordProducer
from shared.telemetry.metrics import RetriedStep, WorkerMetrics
from workers.runtime.shipment import Parcel

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOffice:
    """Packs replies."""

    producer: RecordProducer
    topic: str
    metrics: WorkerMetrics

    def parcels(self, replies: Iterable[tuple[ReplyAddress | None, Reply]]) -> list[Parcel]:
        """Return the records to send. Replies without an address, or to no partition of ours, are counted and done."""
        frames: dict[int, list[bytes]] = {}
        for address, reply in replies:
            if address is None:
                self.metrics.replies_unaddressed["no_address"].inc()
            elif address.partition >= LICENSE_REPLIES_PARTITIONS:
                self.metrics.replies_unaddressed["partition_unknown"].inc()
                log.warning("worker.reply.unaddressed", reply_partition=address.partition)
            else:
                frames.setdefault(address.partition, []).append(encode_frame(address.correlation_id, reply))
        return [
            Parcel(
                step=RetriedStep.REPLY,
                producer=self.producer,
                topic=self.topic,
                partition=partition,
                key=None,
                value=value,
                headers=(),
            )
            for partition, gathered in frames.items()
            for value in pack_frames(gathered)
        ]
