"""Topic names and record headers. Partition counts and settings are declared in `deploy/kafka/topics.yaml`."""

LICENSE_COMMANDS = "license.commands"
LICENSE_REPLIES = "license.replies"
LICENSE_EVENTS = "license.events"
LICENSE_INTAKE = "license.intake"
"""Public requests of other systems."""
PROVIDER_REQUESTS = "provider.requests"
USAGE_REPORTED = "usage.reported"
DEAD_SUFFIX = ".dead"

LICENSE_COMMANDS_PARTITIONS = 24
"""Fixed for ever: a change would move keys and break the order of each license."""
LICENSE_REPLIES_PARTITIONS = 64
"""One partition per gateway process, so at most 64 of them."""

LICENSE_EVENTS_PARTITIONS = 24
"""Fixed for ever, as for commands: readers count on the order within a license."""
PROVIDER_REQUESTS_PARTITIONS = 24

LICENSE_INTAKE_PARTITIONS = 24
USAGE_REPORTED_PARTITIONS = 24

LICENSE_WORKER_GROUP = "license-worker"
USAGE_WORKER_GROUP = "usage-worker"
INTAKE_WORKER_GROUP = "intake-worker"
PROVIDER_WORKER_GROUP = "provider-worker"

HEADER_COMMAND_ID = "cid"
"""16 bytes: the command id, which is also the correlation id of the reply."""
HEADER_REPLY_PARTITION = "rp"
"""2 bytes, big-endian: the partition of `license.replies` on which the asker listens."""
HEADER_TRACE_PARENT = "traceparent"
"""W3C trace context, ASCII; optional."""


def dead_letter_topic(topic: str) -> str:
    """Return the topic that takes what nobody could read on `topic`."""
    return topic + DEAD_SUFFIX
