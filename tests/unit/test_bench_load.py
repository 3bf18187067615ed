"""The load generator: whole answers are told from parts, every request buys a new license, figures are right."""

import asyncio

import pytest

from bench.load import Caller, LoadPlan, Run, is_whole, percentile


def plan(**changes: object) -> LoadPlan:
    values: dict[str, object] = {
        "host": "127.0.0.1",
        "port": 8080,
        "path": "/isv",
        "account": "ka",
        "secret": "x",
        "callers": 1,
        "seconds": 60.0,
        "first_number": 41,
        "expires_on": "31/12/2099",
    }
    return LoadPlan(**(values | changes))  # type: ignore[arg-type]  # values of many types by name


class RecordingTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("received", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nab", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"", False),
    ],
)
def test_an_answer_is_whole_with_all_of_its_stated_length(received: bytes, *, whole: bool) -> None:
    assert is_whole(received) is whole


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.0), (0.99, 4.0), (0.25, 1.0), (1.0, 4.0)])
def test_percentile_is_the_smallest_that_covers_the_share(share: float, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == expected


def test_percentile_of_nothing_is_zero() -> None:
    assert percentile([], 0.5) == 0.0


@pytest.mark.asyncio
async def test_every_request_names_another_license_and_its_true_length() -> None:
    run = Run(plan())
    requests = [run.next_request() for _ in range(3)]
    assert [b"PURCHASE_ID=%010d&" % number in request for number, request in enumerate(requests, 41)] == [True] * 3
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head


@pytest.mark.asyncio
async def test_a_caller_asks_again_only_after_a_whole_answer() -> None:
    run, transport = Run(plan()), RecordingTransport()
    caller = Caller(run)
    caller.connection_made(transport)
    caller.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
    assert len(transport.written) == 1
    caller.data_received(b"b")
    assert len(transport.written) == 2
    assert len(run.latencies) == 1


@pytest.mark.asyncio
async def test_an_answer_other_than_200_is_a_failure() -> None:
    run, transport = Run(plan()), RecordingTransport()
    caller = Caller(run)
    caller.connection_made(transport)
    caller.data_received(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    assert (run.failures, len(run.latencies)) == (1, 0)


@pytest.mark.asyncio
async def test_a_connection_lost_while_waiting_is_a_failure_and_ends_the_run() -> None:
    run, transport = Run(plan()), RecordingTransport()
    caller = Caller(run)
    caller.connection_made(transport)
    caller.connection_lost(None)
    assert run.failures == 1
    assert run.ended.done()


@pytest.mark.asyncio
async def test_when_the_time_is_up_the_caller_leaves_after_its_answer() -> None:
    run, transport = Run(plan(seconds=0.0)), RecordingTransport()
    caller = Caller(run)
    caller.connection_made(transport)
    caller.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert transport.closed
    assert run.ended.done()
    assert run.failures == 0
