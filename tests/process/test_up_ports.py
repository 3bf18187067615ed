"""Ports of the local stack: fixed ones in one scheme, taken ones refused naming the holder, free ones never shared."""

import os
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from keyway.cli.up import worker_counts
from keyway.localstack.layout import Wanted, assign_ports
from keyway.localstack.ports import PortReservations, holder_of
from keyway.localstack.processes import LocalStackError
from keyway.localstack.roles import WORKER_ROLES
from tests.process.running_stack import READY_SECONDS, launch

BASES = range(13_000, 31_000)
TRIES = 100
WANTED = Wanted(gateways=2, workers={"license": 2}, own_kafka=True, own_postgres=True)


def a_free_base() -> int:
    """Return a base whose ports are all free: below those that the kernel gives to connections."""
    bases = random.sample(BASES, TRIES)
    for base in bases:
        held = PortReservations()
        try:
            assign_ports(WANTED, base, held)
        except LocalStackError:
            continue
        finally:
            held.release()
        return base
    raise AssertionError(f"no base with free ports among {bases}")


@pytest.fixture
def reservations() -> Iterator[PortReservations]:
    held = PortReservations()
    yield held
    held.release()


def test_default_base_gives_the_documented_ports_and_another_shifts_them_all(reservations: PortReservations) -> None:
    base = a_free_base()
    shifted = assign_ports(WANTED, base, reservations).by_name
    assert {name: port - base + 8080 for name, port in shifted.items()} == {
        "gateway-0": 8080,
        "gateway-1": 8081,
        "gateway-0-admin": 8090,
        "gateway-1-admin": 8091,
        "license-0-admin": 8100,
        "license-1-admin": 8101,
        "kafka": 9092,
        "kafka-controller": 9093,
        "postgres": 5432,
    }


def test_base_that_does_not_fit_is_refused_with_the_range(reservations: PortReservations) -> None:
    with pytest.raises(LocalStackError, match="between 3672 and 64522"):
        assign_ports(WANTED, 2000, reservations)


def test_free_ports_of_two_stacks_never_meet(reservations: PortReservations) -> None:
    second = PortReservations()
    try:
        ports = [assign_ports(WANTED, 0, holder).by_name.values() for holder in (reservations, second) for _ in "ab"]
        taken = [port for stack in ports for port in stack]
        assert len(set(taken)) == len(taken) == 4 * 9
        assert not any(second.reserve(port) for port in taken)
    finally:
        second.release()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_holder_of_a_taken_port_is_named(family: socket.AddressFamily) -> None:
    with socket.socket(family) as server:
        server.bind(("127.0.0.1" if family is socket.AF_INET else "::", 0))
        server.listen()
        assert f"pid {os.getpid()} (" in holder_of(server.getsockname()[1])


@pytest.mark.process
@pytest.mark.timeout(READY_SECONDS + 60)
def test_up_on_a_taken_fixed_port_fails_with_one_sentence_and_starts_nothing(tmp_path: Path) -> None:
    base = a_free_base()  # or another port of the scheme could be taken, and be the one that is named
    port = base + 9092 - 8080
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        stack = launch(tmp_path / "state", port_base=base)
        assert stack.process.wait(READY_SECONDS) == 1
        assert stack.text().count("\n") == 1
        assert f"port {port} (wanted for kafka) is taken by pid {os.getpid()} ({sys.executable}" in stack.text()
        assert not (stack.state / "postgres").exists()


def test_workers_are_counted_as_asked_and_unknown_roles_refused() -> None:
    everything = {role.name: role.count for role in WORKER_ROLES}
    assert everything == dict.fromkeys(("license", "provider", "usage", "intake", "relay", "scheduler"), 1)
    assert worker_counts("", "") == everything
    assert worker_counts("license=4", "") == {**everything, "license": 4}
    assert worker_counts("", "license,relay") == {**everything, "license": 0, "relay": 0}
    for workers, without in (("licence=1", ""), ("license", ""), ("license=-1", ""), ("license=²", ""), ("", "sales")):
        with pytest.raises(typer.BadParameter):
            worker_counts(workers, without)
