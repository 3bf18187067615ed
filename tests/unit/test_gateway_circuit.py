"""The circuit: refuse early while a machine is away or a queue is too old, and find out when that is over."""

from gateway.circuit import Circuit, Machine
from gateway.problems import Unanswered


def a_circuit() -> Circuit:
    circuit = Circuit(partitions=4, budget_seconds=10)
    for machine in Machine:
        circuit.came_up(machine, now=0.0)
    return circuit


def test_nothing_is_published_before_both_machines_have_answered() -> None:
    circuit = Circuit(partitions=4, budget_seconds=10)
    circuit.came_up(Machine.BROKER, now=0.0)
    assert circuit.refusal(0) is Unanswered.DATABASE
    circuit.came_up(Machine.DATABASE, now=0.0)
    assert circuit.refusal(0) is None


def test_a_machine_that_goes_away_closes_every_partition_and_coming_back_opens_them() -> None:
    circuit = a_circuit()
    assert circuit.went_down(Machine.BROKER)
    assert not circuit.went_down(Machine.BROKER)
    assert [circuit.refusal(partition) for partition in range(4)] == [Unanswered.BROKER] * 4
    assert circuit.came_up(Machine.BROKER, now=0.0)
    assert not circuit.came_up(Machine.BROKER, now=0.0)
    assert circuit.refusal(0) is None


def test_a_queue_older_than_the_budget_lets_in_one_at_a_time() -> None:
    circuit = a_circuit()
    circuit.replied(2, 10_001, now=1)
    assert circuit.refusal(2) is None
    circuit.admitted(2, b"scout")
    assert circuit.refusal(2) is Unanswered.CIRCUIT
    assert circuit.refusal(1) is None
    circuit.left(2, b"somebody else")
    assert circuit.refusal(2) is Unanswered.CIRCUIT
    circuit.left(2, b"scout")
    assert circuit.refusal(2) is None
    assert circuit.open_circuits == 1


def test_a_young_reply_trusts_the_queue_again() -> None:
    circuit = a_circuit()
    circuit.replied(2, 10_001, now=1)
    circuit.admitted(2, b"scout")
    circuit.replied(2, 9_999, now=2)
    assert circuit.open_circuits == 0
    assert circuit.refusal(2) is None


def test_a_missed_deadline_distrusts_a_partition_that_was_silent_meanwhile() -> None:
    circuit = a_circuit()
    circuit.missed(1, since=5)
    circuit.admitted(1, b"scout")
    assert circuit.refusal(1) is Unanswered.CIRCUIT


def test_a_missed_deadline_says_nothing_about_a_partition_that_replied_meanwhile() -> None:
    circuit = a_circuit()
    circuit.replied(1, 5, now=6)
    circuit.missed(1, since=5)
    assert circuit.open_circuits == 0


def test_callers_of_a_trusted_partition_are_no_scouts() -> None:
    circuit = a_circuit()
    circuit.admitted(3, b"one of many")
    assert circuit.refusal(3) is None


def test_queues_that_an_outage_explains_are_trusted_again_after_it() -> None:
    circuit = a_circuit()
    circuit.went_down(Machine.BROKER)
    circuit.missed(3, since=0.0)
    circuit.came_up(Machine.BROKER, now=0.0)
    circuit.admitted(3, b"first")
    assert circuit.refusal(3) is None
    assert circuit.open_circuits == 0


def test_a_wait_that_began_before_the_recovery_tells_nothing_about_the_queue() -> None:
    circuit = Circuit(partitions=24, budget_seconds=5)
    for machine in Machine:
        circuit.came_up(machine, now=10.0)

    circuit.missed(3, since=9.0)
    assert circuit.open_circuits == 0
    circuit.missed(3, since=11.0)
    assert circuit.open_circuits == 1
