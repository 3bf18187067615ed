"""What the handler does, as metrics and log lines. No body, no activation data: ids and outcomes only."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import structlog

from shared.contracts.envelope import Envelope
from shared.domain.decision import Alert
from shared.telemetry.metrics import WorkerMetrics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class MeasuringObserver:
    """The observer of production (`ports.HandlerObserver`)."""

    metrics: WorkerMetrics

    def phase(self, name: Literal["read", "decide", "write"]) -> AbstractContextManager[None]:
        """Time one phase of a batch."""
        timer: AbstractContextManager[None] = self.metrics.phase_seconds[name].time()
        return timer

    def command_handled(self, envelope: Envelope, outcome: str, alerts: Sequence[Alert]) -> None:
        """Count one command's lasting outcome and log what people should look at."""
        match outcome:
            case "redelivered":
                self.metrics.dedupe_hits["command_id"].inc()
            case "repeated":
                self.metrics.dedupe_hits["operation"].inc()
            case "expired":
                self.metrics.expired.inc()
            case _:
                rejected = self.metrics.rejected.get(outcome)
                if rejected is not None:
                    rejected.inc()
        for alert in alerts:
            self.metrics.alerts[alert.kind].inc()
            log.warning(
                "license.alert.raised",
                command_id=envelope.command_id,
                correlation_id=envelope.correlation_id,
                license_id=envelope.license_id,
                reason=alert.kind,
            )
        log.debug(
            "license.command.handled",
            command_id=envelope.command_id,
            correlation_id=envelope.correlation_id,
            license_id=envelope.license_id,
            command_type=envelope.command.type,
            outcome=outcome,
        )

    def conflict_met(self) -> None:
        """Count a batch that somebody else forestalled."""
        self.metrics.conflicts.inc()
