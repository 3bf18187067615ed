"""The watch: what a probe says reaches circuit and readiness, and a slow canary under load is no outage."""

import pytest
from aiokafka.errors import KafkaError

from gateway.circuit import Circuit, Machine
from gateway.problems import Unanswered
from gateway.watch import Watch
from shared.clock import MachineClock
from shared.errors import UnavailableError
from shared.telemetry.health import Probe

pytestmark = pytest.mark.asyncio


class Answering:
    """Answers until told to fail."""

    def __init__(self) -> None:
        self.failure: Exception | None = None

    async def __call__(self) -> None:
        if self.failure is not None:
            raise self.failure


def watched(machine: Machine) -> tuple[Watch, Answering, Circuit, Probe]:
    clock = MachineClock()
    circuit = Circuit(partitions=1, budget_seconds=10)
    for each in Machine:
        circuit.came_up(each, now=0.0)
    answering = Answering()
    probe = Probe(name="it", stale_after_seconds=3, clock=clock)
    return Watch(machine, ask=answering, circuit=circuit, probe=probe, clock=clock), answering, circuit, probe


@pytest.mark.parametrize("failure", [TimeoutError(), KafkaError(), UnavailableError("away"), OSError()])
async def test_a_failing_probe_closes_the_circuit_and_the_next_good_one_opens_it(failure: Exception) -> None:
    watch, answering, circuit, probe = watched(Machine.DATABASE)
    answering.failure = failure
    await watch.look()
    assert circuit.refusal(0) is Unanswered.DATABASE
    assert not probe.is_ok
    answering.failure = None
    await watch.look()
    assert circuit.refusal(0) is None
    assert probe.is_ok


async def test_a_canary_that_is_slow_while_replies_come_is_no_outage() -> None:
    watch, answering, circuit, _probe = watched(Machine.BROKER)
    answering.failure = TimeoutError()
    circuit.replied(0, 5, now=MachineClock().monotonic())
    await watch.look()
    assert circuit.refusal(0) is None
    circuit.replied(0, 5, now=MachineClock().monotonic() - 1.1)
    await watch.look()
    assert circuit.refusal(0) is Unanswered.BROKER
