"""Callers who come while the gateway is busy, on the very event loop that it runs on, and as many as it promises."""

import asyncio
import resource
import socket
from collections.abc import Iterator

import pytest
import uvloop

from tests.integration.test_gateway_http import Port, purchase, taken_apart
from tests.integration.test_gateway_http import request as isv_request

CROWD = 160
TURNS_MAX = CROWD // 4


def test_a_crowd_is_accepted_within_a_few_turns_of_the_loop_and_served() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(turns_until_all_are_in()) <= TURNS_MAX


async def turns_until_all_are_in() -> int:
    """Let a crowd come at once; returns how often the loop had to turn until the gateway knew all of it."""
    port = Port()
    port.port = await port.server.open("127.0.0.1", 0, None)
    crowd = [socket.create_connection(("127.0.0.1", port.port)) for _ in range(CROWD)]
    try:
        turns = 0
        while port.server.connections_open < CROWD:
            turns += 1
            assert turns <= 100 * TURNS_MAX, "they are never accepted"
            await asyncio.sleep(0)  # one turn
        assert taken_apart(await port.send(isv_request(purchase().encode()))).status == 200
        return turns
    finally:
        for caller in crowd:
            caller.close()
        await port.server.close(answer_seconds=1)


@pytest.fixture
def few_files() -> Iterator[int]:
    """Let this process open so few files, for now, that the callers of a port would not fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    yield 300
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_all_callers_that_are_allowed_fit_into_the_files_that_the_process_may_open(few_files: int) -> None:
    async def opened() -> int:
        port = Port()
        await port.server.open("127.0.0.1", 0, None)
        await port.server.close(answer_seconds=1)
        return port.connections_max

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        connections_max = runner.run(opened())
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > connections_max > few_files
