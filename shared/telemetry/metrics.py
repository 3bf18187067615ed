"""Typed access to the metrics of `metric_names`, bound to a registry that the composition root builds.

Children of labelled metrics are resolved when the registry is bound, so that counting on the hot path is one call and
a value outside the declared labels is a `KeyError` in a test, not a new time series in production.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.contracts.outcomes import RejectionCode
from shared.contracts.replies import ReplyStatus
from shared.domain.decision import AlertKind
from shared.domain.provider_order import OrderState
from shared.domain.usage import UsageFault
from shared.telemetry import metric_names as names
from shared.telemetry.metric_names import MetricDefinition, MetricKind


class Phase(StrEnum):
    """The parts of a batch's time."""

    DECODE = "decode"
    READ = "read"
    DECIDE = "decide"
    WRITE = "write"
    HANDLE = "handle"
    """Read, decide and write together, as the runtime sees the handler."""
    REPLY = "reply"


class RetriedStep(StrEnum):
    """The steps of a batch that are repeated until a machine answers."""

    HANDLE = "handle"
    REPLY = "reply"
    DEAD_LETTER = "dead_letter"
    COMMAND = "command"


class UsageOutcome(StrEnum):
    """What became of a usage event."""

    COUNTED = "counted"
    ADJUSTED = "adjusted"
    """Counted into an open month, because its own was closed."""
    DUPLICATE = "duplicate"
    SET_ASIDE = "set_aside"


DEAD_LETTER_REASONS = (
    *("not_json", "version", "unknown_type", "envelope", "payload", "header", "record_format"),
    *("id_reuse", "not_storable", "reader_fault", "handler_fault"),
    *UsageFault,
)
OTHER_REASON = "other"


def counter(registry: CollectorRegistry, definition: MetricDefinition) -> Counter:
    """Return the counter of `definition`, registered. Raises `ValueError` when it is not a counter."""
    _require(definition, MetricKind.COUNTER)
    return Counter(definition.name, definition.meaning, definition.labels, registry=registry)


def gauge(registry: CollectorRegistry, definition: MetricDefinition) -> Gauge:
    """Return the gauge of `definition`, registered. Raises `ValueError` when it is not a gauge."""
    _require(definition, MetricKind.GAUGE)
    return Gauge(definition.name, definition.meaning, definition.labels, registry=registry)


def histogram(registry: CollectorRegistry, definition: MetricDefinition) -> Histogram:
    """Return the histogram of `definition`, registered. Raises `ValueError` when it is not a histogram."""
    _require(definition, MetricKind.HISTOGRAM)
    return Histogram(
        definition.name, definition.meaning, definition.labels, buckets=definition.buckets, registry=registry
    )


def _require(definition: MetricDefinition, kind: MetricKind) -> None:
    if definition.kind is not kind:
        raise ValueError(f"{definition.name} is declared as a {definition.kind}, not as a {kind}")


def counters_by(
    registry: CollectorRegistry, definition: MetricDefinition, values: Iterable[str]
) -> Mapping[str, Counter]:
    """Return the children of a counter with one label, by label value."""
    parent = counter(registry, definition)
    return {value: parent.labels(value) for value in values}


def histograms_by(
    registry: CollectorRegistry, definition: MetricDefinition, values: Iterable[str]
) -> Mapping[str, Histogram]:
    """Return the children of a histogram with one label, by label value."""
    parent = histogram(registry, definition)
    return {value: parent.labels(value) for value in values}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMetrics:
    """What a worker with a lane counts; what only license commands have stays zero in the other roles."""

    batch_commands: Histogram
    phase_seconds: Mapping[str, Histogram]
    """By `Phase`."""
    handled: Mapping[str, Counter]
    """By `ReplyStatus` name in lower case."""
    rejected: Mapping[str, Counter]
    """By `RejectionCode`."""
    dedupe_hits: Mapping[str, Counter]
    """`command_id` (redelivered) and `operation` (repeated by its caller)."""
    expired: Counter
    queue_age_seconds: Histogram
    queued_records: Gauge
    lag_records: Gauge
    """Labelled by partition number."""
    watermark_offset: Gauge
    """Labelled by partition number."""
    partitions_assigned: Gauge
    rebalances: Counter
    commits_failed: Counter
    retries: Mapping[str, Counter]
    """By `RetriedStep`."""
    dead_letters: Mapping[str, Counter]
    replies_unaddressed: Mapping[str, Counter]
    conflicts: Counter
    alerts: Mapping[str, Counter]
    """By `AlertKind`."""
    outbox_rows: Mapping[str, Counter]
    """`published` right after the commit, or `left` to the relay."""

    @classmethod
    def bound_to(cls, registry: CollectorRegistry) -> Self:
        """Register the metrics of a worker with a lane with `registry`."""
        return cls(
            batch_commands=histogram(registry, names.WORKER_BATCH_COMMANDS),
            phase_seconds=histograms_by(registry, names.WORKER_PHASE_SECONDS, Phase),
            handled=counters_by(
                registry, names.WORKER_COMMANDS_HANDLED, (status.name.lower() for status in ReplyStatus)
            ),
            rejected=counters_by(registry, names.WORKER_COMMANDS_REJECTED, RejectionCode),
            dedupe_hits=counters_by(registry, names.WORKER_DEDUPE_HITS, ("command_id", "operation")),
            expired=counter(registry, names.WORKER_COMMANDS_EXPIRED),
            queue_age_seconds=histogram(registry, names.WORKER_QUEUE_AGE_SECONDS),
            queued_records=gauge(registry, names.WORKER_QUEUED_RECORDS),
            lag_records=gauge(registry, names.WORKER_LAG_RECORDS),
            watermark_offset=gauge(registry, names.WORKER_WATERMARK_OFFSET),
            partitions_assigned=gauge(registry, names.WORKER_PARTITIONS_ASSIGNED),
            rebalances=counter(registry, names.WORKER_REBALANCES),
            commits_failed=counter(registry, names.WORKER_COMMITS_FAILED),
            retries=counters_by(registry, names.WORKER_RETRIES, RetriedStep),
            dead_letters=counters_by(registry, names.WORKER_DEAD_LETTERS, (*DEAD_LETTER_REASONS, OTHER_REASON)),
            replies_unaddressed=counters_by(
                registry, names.WORKER_REPLIES_UNADDRESSED, ("no_address", "partition_unknown")
            ),
            conflicts=counter(registry, names.WORKER_CONFLICTS),
            alerts=counters_by(registry, names.LICENSE_ALERTS, AlertKind),
            outbox_rows=counters_by(registry, names.WORKER_OUTBOX_ROWS, ("published", "left")),
        )

    def dead_letter(self, reason: str) -> None:
        """Count a dead letter; reasons not declared are counted together as `other`."""
        self.dead_letters.get(reason, self.dead_letters[OTHER_REASON]).inc()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageMetrics:
    """What a usage worker counts beside `WorkerMetrics`."""

    events: Mapping[str, Counter]
    """By `UsageOutcome`."""

    @classmethod
    def bound_to(cls, registry: CollectorRegistry) -> Self:
        """Register the metrics of a usage worker with `registry`."""
        return cls(events=counters_by(registry, names.USAGE_EVENTS, UsageOutcome))


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeMetrics:
    """What an intake worker counts beside `WorkerMetrics`."""

    requests: Mapping[str, Counter]
    """`handed_over` as a command, `repeated` by its sender."""

    @classmethod
    def bound_to(cls, registry: CollectorRegistry) -> Self:
        """Register the metrics of an intake worker with `registry`."""
        return cls(requests=counters_by(registry, names.INTAKE_REQUESTS, ("handed_over", "repeated")))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayMetrics:
    """What a gateway counts. `requests` is labelled (route, status); resolve its children once per route."""

    requests: Counter
    request_seconds: Histogram
    """Labelled by route."""
    pending_replies: Gauge
    replies_dropped: Mapping[str, Counter]
    deadlines_missed: Counter
    refused_early: Mapping[str, Counter]
    produce_errors: Counter
    canary_seconds: Gauge
    queue_age_seconds: Histogram
    circuits_open: Gauge
    credential_checks: Mapping[str, Counter]

    @classmethod
    def bound_to(cls, registry: CollectorRegistry) -> Self:
        """Register the metrics of a gateway with `registry`."""
        return cls(
            requests=counter(registry, names.GATEWAY_REQUESTS),
            request_seconds=histogram(registry, names.GATEWAY_REQUEST_SECONDS),
            pending_replies=gauge(registry, names.GATEWAY_PENDING_REPLIES),
            replies_dropped=counters_by(registry, names.GATEWAY_REPLIES_DROPPED, ("late", "unreadable")),
            deadlines_missed=counter(registry, names.GATEWAY_DEADLINES_MISSED),
            refused_early=counters_by(registry, names.GATEWAY_REFUSED_EARLY, ("full", "circuit", "broker", "database")),
            produce_errors=counter(registry, names.GATEWAY_PRODUCE_ERRORS),
            canary_seconds=gauge(registry, names.GATEWAY_CANARY_SECONDS),
            queue_age_seconds=histogram(registry, names.GATEWAY_QUEUE_AGE_SECONDS),
            circuits_open=gauge(registry, names.GATEWAY_CIRCUITS_OPEN),
            credential_checks=counters_by(
                registry, names.GATEWAY_CREDENTIAL_CHECKS, ("cached", "verified", "wrong", "overloaded")
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayMetrics:
    """What a relay counts."""

    active: Gauge
    published: Counter
    failed: Counter
    oldest_seconds: Gauge

    @classmethod
    def bound_to(cls, registry: CollectorRegistry) -> Self:
        """Register the metrics of a relay with `registry`."""
        return cls(
            active=gauge(registry, names.RELAY_ACTIVE),
            published=counter(registry, names.RELAY_PUBLISHED),
            failed=counter(registry, names.RELAY_FAILED),
            oldest_seconds=gauge(registry, names.RELAY_OLDEST_SECONDS),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerMetrics:
    """What a scheduler counts."""

    active: Gauge
    sent: Mapping[str, Counter]
    """`bell`, `sweep`, `lapse` and `close`."""
    failed: Counter

    @classmethod
    def bound_to(cls, registry: CollectorRegistry) -> Self:
        """Register the metrics of a scheduler with `registry`."""
        return cls(
            active=gauge(registry, names.SCHEDULER_ACTIVE),
            sent=counters_by(registry, names.SCHEDULER_SENT, ("bell", "sweep", "lapse", "close")),
            failed=counter(registry, names.SCHEDULER_FAILED),
        )


PROVIDER_RESULTS = ("document", "unreadable", "http_error", "broken", "not_sent")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetrics:
    """What a provider worker counts beside its lane."""

    call_seconds: Mapping[str, Histogram]
    """By `PROVIDER_RESULTS`."""
    hostile_answers: Counter
    moved: Mapping[str, Counter]
    """By `OrderState`."""
    deferred: Counter
    sweeps: Mapping[str, Counter]
    """`done` and `failed`."""
    findings_told: Counter

    @classmethod
    def bound_to(cls, registry: CollectorRegistry) -> Self:
        """Register the metrics of a provider worker with `registry`."""
        return cls(
            call_seconds=histograms_by(registry, names.PROVIDER_CALL_SECONDS, PROVIDER_RESULTS),
            hostile_answers=counter(registry, names.PROVIDER_HOSTILE_ANSWERS),
            moved=counters_by(registry, names.PROVIDER_ORDERS_MOVED, OrderState),
            deferred=counter(registry, names.PROVIDER_ORDERS_DEFERRED),
            sweeps=counters_by(registry, names.PROVIDER_SWEEPS, ("done", "failed")),
            findings_told=counter(registry, names.PROVIDER_FINDINGS_TOLD),
        )
