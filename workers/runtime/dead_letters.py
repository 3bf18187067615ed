"""Dead letters: a record that nobody can read is set aside whole, with the reason, and never silently dropped.

A dead letter keeps the original bytes, key and headers and adds three headers of text: `x-error` (`reason: text`),
`x-origin` (`topic/partition/offset`) and `x-attempt` (1, and one more each time it was put back and failed again).
It is acknowledged by all replicas before the origin's offset may move past the record.
"""

from dataclasses import dataclass

import structlog

from shared.contracts.topics import dead_letter_topic
from shared.errors import InvalidRecordError
from shared.kafka import ConsumedRecord, Headers, RecordProducer
from shared.telemetry.metrics import RetriedStep, WorkerMetrics
from workers.runtime.shipment import Parcel

HEADER_ERROR = "x-error"
HEADER_ORIGIN = "x-origin"
HEADER_ATTEMPT = "x-attempt"
OURS = frozenset((HEADER_ERROR, HEADER_ORIGIN, HEADER_ATTEMPT))
ERROR_BYTES_MAX = 2000
ATTEMPT_DIGITS_MAX = 6

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Makes dead letters."""

    producer: RecordProducer
    metrics: WorkerMetrics

    def letter(self, record: ConsumedRecord, error: InvalidRecordError) -> Parcel:
        """Return the dead letter of `record`, to the partition of the same number."""
        self.metrics.dead_letter(error.reason)
        log.error(
            "worker.record.dead_lettered",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=error.reason,
            size_bytes=len(record.value or b""),
        )
        return Parcel(
            step=RetriedStep.DEAD_LETTER,
            producer=self.producer,
            topic=dead_letter_topic(record.topic),
            partition=record.partition,
            key=record.key,
            value=record.value,
            headers=dead_letter_headers(record, error),
        )


def dead_letter_headers(record: ConsumedRecord, error: InvalidRecordError) -> Headers:
    """Return the headers of `record` with ours behind them; ours of an earlier attempt are replaced."""
    kept = [(name, value) for name, value in record.headers if name not in OURS]
    return [
        *kept,
        (HEADER_ERROR, str(error).encode("utf-8", "replace")[:ERROR_BYTES_MAX]),
        (HEADER_ORIGIN, f"{record.topic}/{record.partition}/{record.offset}".encode()),
        (HEADER_ATTEMPT, str(_earlier_attempts(record) + 1).encode()),
    ]


def _earlier_attempts(record: ConsumedRecord) -> int:
    values = [value for name, value in record.headers if name == HEADER_ATTEMPT]
    last = values[-1] if values else None
    if last is None or not last.isdigit() or len(last) > ATTEMPT_DIGITS_MAX:
        return 0
    return int(last)
