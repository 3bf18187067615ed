"""`ask`: publish one command, then wait for its reply or for the end of the budget. The gateway's only way inward.

Before the record leaves, everything that could make it pointless is asked (`Circuit`, free places); from then on the
only honest answers are the reply or "not finished" (docs/protocols/isv-endpoint.md 8.3).
"""

from datetime import timedelta
from typing import Protocol
from uuid import UUID

from gateway.circuit import Circuit
from gateway.problems import Refused, Unanswered
from gateway.reply_inbox import ReplyInbox, Waiter
from shared.clock import SystemClock
from shared.contracts.codec import encode_envelope
from shared.contracts.commands import LicenseCommand
from shared.contracts.envelope import Envelope
from shared.contracts.identifiers import CommandId, license_id, partition_of
from shared.contracts.replies import Reply
from shared.contracts.topics import HEADER_COMMAND_ID, HEADER_REPLY_PARTITION, HEADER_TRACE_PARENT
from shared.kafka import Headers
from shared.telemetry.metrics import GatewayMetrics


class Bus(Protocol):
    """Where commands are answered."""

    async def ask(
        self, command: LicenseCommand, *, command_id: CommandId, trace_parent: bytes | None = None
    ) -> Reply | Unanswered | Refused:
        """Return the reply to `command`, or why there is none."""
        ...


class CommandSink(Protocol):
    """Where records are put; never waits."""

    def publish(self, partition: int, key: bytes, value: bytes, headers: Headers, correlation_id: bytes) -> None:
        """Put one command on its way."""
        ...


class CommandBus:
    """Commands out, replies in, for one gateway process."""

    __slots__ = (
        "_budget",
        "_circuit",
        "_clock",
        "_inbox",
        "_metrics",
        "_partitions",
        "_record_bytes_max",
        "_reply_partition",
        "_sink",
    )

    def __init__(  # noqa: PLR0913 - one argument per collaborator, all by name
        self,
        *,
        sink: CommandSink,
        inbox: ReplyInbox,
        circuit: Circuit,
        clock: SystemClock,
        metrics: GatewayMetrics,
        partitions: int,
        reply_partition: int,
        record_bytes_max: int,
    ) -> None:
        """`partitions` is that of the command topic, `reply_partition` the one this process listens on."""
        self._sink = sink
        self._inbox = inbox
        self._circuit = circuit
        self._clock = clock
        self._metrics = metrics
        self._partitions = partitions
        self._reply_partition = (HEADER_REPLY_PARTITION, reply_partition.to_bytes(2, "big"))
        self._record_bytes_max = record_bytes_max
        self._budget = timedelta(seconds=inbox.budget_seconds)

    async def ask(
        self, command: LicenseCommand, *, command_id: CommandId, trace_parent: bytes | None = None
    ) -> Reply | Unanswered | Refused:
        """Return the reply to `command`, or why there is none. Cancelling this frees the place; the command goes on.

        `trace_parent` is a valid W3C header; its trace id becomes the correlation id of logs.
        """
        key = license_id(command.account, command.number).encode("ascii")
        partition = partition_of(key, self._partitions)
        refusal = Unanswered.FULL if self._inbox.is_full else self._circuit.refusal(partition)
        if refusal is not None:
            self._metrics.refused_early[refusal].inc()
            return refusal
        value = self._record(command, command_id, trace_parent)
        if len(value) > self._record_bytes_max:
            return Refused.TOO_LARGE
        correlation_id = command_id.bytes
        waiter = self._inbox.expect(correlation_id, partition=partition, now=self._clock.monotonic())
        self._circuit.admitted(partition, correlation_id)
        headers = [(HEADER_COMMAND_ID, correlation_id), self._reply_partition]
        if trace_parent is not None:
            headers.append((HEADER_TRACE_PARENT, trace_parent))
        try:
            self._sink.publish(partition, key, value, headers, correlation_id)
            reply = await waiter.reply
        finally:
            self._inbox.forget(waiter)
            self._circuit.left(partition, correlation_id)
        return Unanswered.NOT_FINISHED if reply is None else reply

    def take(self, correlation_id: bytes, reply: Reply) -> bool:
        """Hand a reply to its caller. Returns False when nobody waits for it (any more)."""
        waiter = self._inbox.resolve(correlation_id, reply)
        if waiter is None:
            return False
        self._circuit.replied(waiter.partition, reply.queue_age_ms, self._clock.monotonic())
        self._metrics.queue_age_seconds.observe(reply.queue_age_ms / 1000)
        return True

    def give_up(self, correlation_ids: list[bytes]) -> None:
        """End the wait for commands of which nobody knows whether they were written."""
        self._metrics.produce_errors.inc(len(correlation_ids))
        for correlation_id in correlation_ids:
            self._inbox.resolve(correlation_id, None)

    def sweep(self) -> None:
        """End the wait of every caller whose budget is over. Call it every `reply_inbox.SWEEP_SECONDS`."""
        for waiter in self._inbox.expire(self._clock.monotonic()):
            self._miss(waiter)
        self._metrics.pending_replies.set(len(self._inbox))
        self._metrics.circuits_open.set(self._circuit.open_circuits)

    def _miss(self, waiter: Waiter) -> None:
        self._metrics.deadlines_missed.inc()
        self._circuit.missed(waiter.partition, since=waiter.since)

    def _record(self, command: LicenseCommand, command_id: CommandId, trace_parent: bytes | None) -> bytes:
        now = self._clock.now()
        return encode_envelope(
            Envelope(
                command_id=command_id,
                correlation_id=command_id if trace_parent is None else UUID(hex=trace_parent[3:35].decode("ascii")),
                causation_id=None,
                command=command,
                deadline_at=now + self._budget,
                occurred_at=now,
            )
        )
