"""The probes behind the circuit: Kafka by a canary, PostgreSQL by the smallest query, both twice a second."""

from collections.abc import Awaitable, Callable

import structlog
from aiokafka.errors import KafkaError

from gateway.circuit import Circuit, Machine
from shared.clock import SystemClock
from shared.errors import UnavailableError
from shared.telemetry.health import Probe

INTERVAL_SECONDS = 0.5
ANSWER_SECONDS = 1.0
"""A probe that takes longer has failed: an outage is known at most `INTERVAL_SECONDS` + this after it began."""

log = structlog.get_logger()


class Watch:
    """Watches one machine through `ask`, which raises when it does not answer within `ANSWER_SECONDS`."""

    def __init__(
        self,
        machine: Machine,
        *,
        ask: Callable[[], Awaitable[object]],
        circuit: Circuit,
        probe: Probe,
        clock: SystemClock,
    ) -> None:
        """`probe` shows the state in `/readyz`."""
        self._machine = machine
        self._ask = ask
        self._circuit = circuit
        self._probe = probe
        self._clock = clock

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.look()
            await self._clock.sleep(INTERVAL_SECONDS)

    async def look(self) -> None:
        """Ask once and tell the circuit."""
        try:
            await self._ask()
        except (UnavailableError, KafkaError, TimeoutError, OSError) as error:
            if self._is_heard_otherwise():
                return
            self._probe.failed(type(error).__name__)
            if self._circuit.went_down(self._machine):
                log.warning("gateway.dependency.lost", dependency=self._probe.name, error_class=type(error).__name__)
        else:
            self._probe.succeeded()
            if self._circuit.came_up(self._machine, now=self._clock.monotonic()):
                log.info("gateway.dependency.answers", dependency=self._probe.name)

    def _is_heard_otherwise(self) -> bool:
        """Whether replies came through Kafka just now: then only the canary was slow, under load."""
        since = self._clock.monotonic() - ANSWER_SECONDS
        return self._machine is Machine.BROKER and self._circuit.last_reply_at > since
