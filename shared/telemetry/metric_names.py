"""Every metric once: name, kind, meaning, labels. Names are `keyway_<part>_<what>_<unit>[_total]` and are public API.

Labels are bounded: a label's values come from an enumeration or a fixed list in the code, never from a caller.
"""

from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """How a metric moves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


LATENCY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)
BATCH_RECORDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """One metric as it is documented and registered."""

    name: str
    kind: MetricKind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, in `unit`."""


GATEWAY_REQUESTS = MetricDefinition(
    name="keyway_gateway_requests_total",
    kind=MetricKind.COUNTER,
    unit="requests",
    meaning="Answers of the public port, by route and HTTP status",
    labels=("route", "status"),
)
GATEWAY_REQUEST_SECONDS = MetricDefinition(
    name="keyway_gateway_request_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    meaning="From the last byte of a request to the answer, by route",
    labels=("route",),
    buckets=LATENCY_SECONDS,
)
GATEWAY_PENDING_REPLIES = MetricDefinition(
    name="keyway_gateway_pending_replies",
    kind=MetricKind.GAUGE,
    unit="replies",
    meaning="Callers that wait for a reply now",
)
GATEWAY_REPLIES_DROPPED = MetricDefinition(
    name="keyway_gateway_replies_dropped_total",
    kind=MetricKind.COUNTER,
    unit="replies",
    meaning="Replies that nobody waited for, by reason (late, unreadable)",
    labels=("reason",),
)
GATEWAY_DEADLINES_MISSED = MetricDefinition(
    name="keyway_gateway_deadlines_missed_total",
    kind=MetricKind.COUNTER,
    unit="requests",
    meaning="Callers that got no reply within their budget (504)",
)
GATEWAY_REFUSED_EARLY = MetricDefinition(
    name="keyway_gateway_refused_early_total",
    kind=MetricKind.COUNTER,
    unit="requests",
    meaning="Requests refused before anything was published (503), by reason (full, circuit, broker, database)",
    labels=("reason",),
)
GATEWAY_PRODUCE_ERRORS = MetricDefinition(
    name="keyway_gateway_produce_errors_total",
    kind=MetricKind.COUNTER,
    unit="records",
    meaning="Commands whose acknowledgment failed: written or not is unknown",
)
GATEWAY_CANARY_SECONDS = MetricDefinition(
    name="keyway_gateway_canary_seconds",
    kind=MetricKind.GAUGE,
    unit="seconds",
    meaning="Time of the last canary through this gateway's reply partition; alert when it stops moving",
)
GATEWAY_QUEUE_AGE_SECONDS = MetricDefinition(
    name="keyway_gateway_queue_age_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    meaning="How long commands waited for a worker, as told by their replies",
    buckets=LATENCY_SECONDS,
)
GATEWAY_CIRCUITS_OPEN = MetricDefinition(
    name="keyway_gateway_circuits_open",
    kind=MetricKind.GAUGE,
    unit="circuits",
    meaning="Command partitions that are refused at once because their queue is older than the reply budget",
)
GATEWAY_CREDENTIAL_CHECKS = MetricDefinition(
    name="keyway_gateway_credential_checks_total",
    kind=MetricKind.COUNTER,
    unit="checks",
    meaning="Credential look-ups by outcome (cached, verified, wrong, overloaded)",
    labels=("outcome",),
)

WORKER_BATCH_COMMANDS = MetricDefinition(
    name="keyway_worker_batch_commands",
    kind=MetricKind.HISTOGRAM,
    unit="commands",
    meaning="Records taken into one batch",
    buckets=BATCH_RECORDS,
)
WORKER_PHASE_SECONDS = MetricDefinition(
    name="keyway_worker_phase_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    meaning="Time per batch and phase (decode, read, decide, write, handle, reply)",
    labels=("phase",),
    buckets=LATENCY_SECONDS,
)
WORKER_COMMANDS_HANDLED = MetricDefinition(
    name="keyway_worker_commands_handled_total",
    kind=MetricKind.COUNTER,
    unit="commands",
    meaning="Commands answered, by reply status",
    labels=("status",),
)
WORKER_COMMANDS_REJECTED = MetricDefinition(
    name="keyway_worker_commands_rejected_total",
    kind=MetricKind.COUNTER,
    unit="commands",
    meaning="Commands that the business said no to, by rejection code",
    labels=("code",),
)
WORKER_DEDUPE_HITS = MetricDefinition(
    name="keyway_worker_dedupe_hits_total",
    kind=MetricKind.COUNTER,
    unit="commands",
    meaning="Commands answered from memory, by kind (command_id: redelivered; operation: repeated by the caller)",
    labels=("kind",),
)
WORKER_COMMANDS_EXPIRED = MetricDefinition(
    name="keyway_worker_commands_expired_total",
    kind=MetricKind.COUNTER,
    unit="commands",
    meaning="Commands dropped because their deadline had passed before work began",
)
WORKER_QUEUE_AGE_SECONDS = MetricDefinition(
    name="keyway_worker_queue_age_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    meaning="Age of the oldest command of each batch when it was taken",
    buckets=LATENCY_SECONDS,
)
WORKER_QUEUED_RECORDS = MetricDefinition(
    name="keyway_worker_queued_records",
    kind=MetricKind.GAUGE,
    unit="records",
    meaning="Records fetched and not yet taken by the lane",
)
WORKER_LAG_RECORDS = MetricDefinition(
    name="keyway_worker_lag_records",
    kind=MetricKind.GAUGE,
    unit="records",
    meaning="End of the partition minus its watermark; alert when it stands for 10 s above zero",
    labels=("partition",),
)
WORKER_WATERMARK_OFFSET = MetricDefinition(
    name="keyway_worker_watermark_offset",
    kind=MetricKind.GAUGE,
    unit="offset",
    meaning="Lowest unfinished offset of the partition",
    labels=("partition",),
)
WORKER_PARTITIONS_ASSIGNED = MetricDefinition(
    name="keyway_worker_partitions_assigned",
    kind=MetricKind.GAUGE,
    unit="partitions",
    meaning="Partitions that this worker reads now",
)
WORKER_REBALANCES = MetricDefinition(
    name="keyway_worker_rebalances_total",
    kind=MetricKind.COUNTER,
    unit="rebalances",
    meaning="Times that partitions were taken from this worker",
)
WORKER_COMMITS_FAILED = MetricDefinition(
    name="keyway_worker_commits_failed_total",
    kind=MetricKind.COUNTER,
    unit="commits",
    meaning="Offset commits that the broker did not take; harmless unless it goes on",
)
WORKER_RETRIES = MetricDefinition(
    name="keyway_worker_retries_total",
    kind=MetricKind.COUNTER,
    unit="attempts",
    meaning="Repeats of a step because a machine did not answer, by step (handle, reply, dead_letter, command)",
    labels=("step",),
)
WORKER_DEAD_LETTERS = MetricDefinition(
    name="keyway_worker_dead_letters_total",
    kind=MetricKind.COUNTER,
    unit="records",
    meaning="Records set aside, by reason; alert on any",
    labels=("reason",),
)
WORKER_REPLIES_UNADDRESSED = MetricDefinition(
    name="keyway_worker_replies_unaddressed_total",
    kind=MetricKind.COUNTER,
    unit="replies",
    meaning="Replies that could not be addressed, by reason (no_address, partition_unknown)",
    labels=("reason",),
)
WORKER_CONFLICTS = MetricDefinition(
    name="keyway_worker_conflicts_total",
    kind=MetricKind.COUNTER,
    unit="batches",
    meaning="Batches read and decided again because another worker wrote first",
)
LICENSE_ALERTS = MetricDefinition(
    name="keyway_license_alerts_total",
    kind=MetricKind.COUNTER,
    unit="alerts",
    meaning="Findings about licenses that people should look at, by kind",
    labels=("kind",),
)
WORKER_OUTBOX_ROWS = MetricDefinition(
    name="keyway_worker_outbox_rows_total",
    kind=MetricKind.COUNTER,
    unit="rows",
    meaning="Outbox rows after their commit, by what the worker did (published, left to the relay)",
    labels=("outcome",),
)
RELAY_ACTIVE = MetricDefinition(
    name="keyway_relay_active",
    kind=MetricKind.GAUGE,
    unit="processes",
    meaning="1 for the relay that publishes, 0 for one that stands by",
)
RELAY_PUBLISHED = MetricDefinition(
    name="keyway_relay_published_total",
    kind=MetricKind.COUNTER,
    unit="rows",
    meaning="Outbox rows that the relay published because nobody had within its grace",
)
RELAY_FAILED = MetricDefinition(
    name="keyway_relay_failed_total",
    kind=MetricKind.COUNTER,
    unit="rounds",
    meaning="Rounds of the relay that a machine spoiled; nothing is lost by one",
)
RELAY_OLDEST_SECONDS = MetricDefinition(
    name="keyway_relay_oldest_seconds",
    kind=MetricKind.GAUGE,
    unit="seconds",
    meaning="Age of the oldest unpublished outbox row; alert above 5",
)
SCHEDULER_ACTIVE = MetricDefinition(
    name="keyway_scheduler_active",
    kind=MetricKind.GAUGE,
    unit="processes",
    meaning="1 for the scheduler that works, 0 for one that stands by",
)
SCHEDULER_SENT = MetricDefinition(
    name="keyway_scheduler_sent_total",
    kind=MetricKind.COUNTER,
    unit="records",
    meaning="Records sent because something was due, by kind (bell, sweep, lapse, close)",
    labels=("kind",),
)
SCHEDULER_FAILED = MetricDefinition(
    name="keyway_scheduler_failed_total",
    kind=MetricKind.COUNTER,
    unit="rounds",
    meaning="Rounds of the scheduler that a machine spoiled; what was due stays due",
)
PROVIDER_CALL_SECONDS = MetricDefinition(
    name="keyway_provider_call_seconds",
    kind=MetricKind.HISTOGRAM,
    unit="seconds",
    meaning="Calls to the panel by what came back (document, unreadable, http_error, broken, not_sent)",
    labels=("result",),
    buckets=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0),
)
PROVIDER_HOSTILE_ANSWERS = MetricDefinition(
    name="keyway_provider_hostile_answers_total",
    kind=MetricKind.COUNTER,
    unit="answers",
    meaning="Answers refused as an attack on their reader; any is worth a look",
)
PROVIDER_ORDERS_MOVED = MetricDefinition(
    name="keyway_provider_orders_moved_total",
    kind=MetricKind.COUNTER,
    unit="orders",
    meaning="Orders by the state that they moved to; alert on manual",
    labels=("state",),
)
PROVIDER_ORDERS_DEFERRED = MetricDefinition(
    name="keyway_provider_orders_deferred_total",
    kind=MetricKind.COUNTER,
    unit="orders",
    meaning="Orders left for later: paused account, doubtful lists, as many calls out as allowed",
)
PROVIDER_SWEEPS = MetricDefinition(
    name="keyway_provider_sweeps_total",
    kind=MetricKind.COUNTER,
    unit="sweeps",
    meaning="Comparisons with the provider, by how they ended (done, failed); alert when none is done for 15 minutes",
    labels=("outcome",),
)
PROVIDER_FINDINGS_TOLD = MetricDefinition(
    name="keyway_provider_findings_told_total",
    kind=MetricKind.COUNTER,
    unit="findings",
    meaning="Differences from the provider that people were told of; alert on any",
)

USAGE_EVENTS = MetricDefinition(
    name="keyway_usage_events_total",
    kind=MetricKind.COUNTER,
    unit="events",
    meaning="Usage events read, by outcome (counted, adjusted, duplicate, set_aside)",
    labels=("outcome",),
)

INTAKE_REQUESTS = MetricDefinition(
    name="keyway_intake_requests_total",
    kind=MetricKind.COUNTER,
    unit="requests",
    meaning="Readable public requests, by what became of them (handed over as a command, repeated by their sender)",
    labels=("outcome",),
)

ALL_METRICS = tuple(value for value in tuple(globals().values()) if isinstance(value, MetricDefinition))
"""In the order written here; tests walk over it."""
