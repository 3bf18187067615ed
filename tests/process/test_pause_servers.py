"""PostgreSQL or Kafka that stands still (SIGSTOP): refuse early, keep what was promised, go on without a restart."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from keyway.ka.client import Exchange, KeyAdministrator, Outcome
from keyway.ka.forms import Form, operation_form
from tests.process.whole_stack import BUDGET_SECONDS, WholeStack, order

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(120)]

NOTICED_SECONDS = 2.0
REFUSED_SECONDS = 0.5
SLACK_SECONDS = 1.0
RESUMED_SECONDS = 10.0
PROBES = 6


@pytest.mark.parametrize("server", ["postgres", "kafka"])
async def test_paused_server_is_noticed_and_service_resumes_by_itself(
    stack: WholeStack, fresh_number: Iterator[int], server: str
) -> None:
    pids = stack.now().pids()
    administrators = stack.administrators()
    before = [await administrators[turn % 2].send(form) for turn, form in enumerate(purchases(fresh_number, PROBES))]
    assert {exchange.outcome for exchange in before} == {Outcome.OK}
    async with asyncio.TaskGroup() as tasks:
        with stack.paused(server):
            paused_at = time.monotonic()
            caught = [
                tasks.create_task(administrators[turn % 2].send(form))
                for turn, form in enumerate(purchases(fresh_number, PROBES))
            ]
            await asyncio.sleep(NOTICED_SECONDS)
            refused = [
                await administrators[turn % 2].send(form) for turn, form in enumerate(purchases(fresh_number, PROBES))
            ]
            await asyncio.sleep(max(0.0, paused_at + BUDGET_SECONDS + SLACK_SECONDS - time.monotonic()))
        resumed_at = time.monotonic()
    in_flight = [task.result() for task in caught]
    assert not [str(exchange) for exchange in refused if exchange.status != 503]
    assert not [str(exchange) for exchange in refused if exchange.seconds > REFUSED_SECONDS]
    assert all(exchange.answer is not None and "retry-after" in exchange.answer.headers for exchange in refused)
    assert not [str(exchange) for exchange in in_flight if exchange.status != 504]
    assert not [str(exchange) for exchange in in_flight if abs(exchange.seconds - BUDGET_SECONDS) > SLACK_SECONDS]
    for exchange in [*before, *in_flight, *refused]:
        again = await until_settled(administrators, exchange.form, resumed_at + RESUMED_SECONDS)
        assert again.outcome is Outcome.OK, str(again)
        if exchange.outcome is Outcome.OK:
            assert (again.expiry, again.body) == (exchange.expiry, exchange.body), "an acknowledged answer was lost"
    assert stack.now().pids() == pids, "somebody was restarted"


def purchases(numbers: Iterator[int], count: int) -> list[Form]:
    return [operation_form("PURCHASE", order(next(numbers))) for _ in range(count)]


async def until_settled(administrators: list[KeyAdministrator], form: Form, deadline: float) -> Exchange:
    """Ask the gateways in turn until the answer is no longer unknown, or the deadline has passed."""
    turn = 0
    while True:
        exchange = await administrators[turn % 2].send(form)
        if exchange.outcome is not Outcome.INFO or time.monotonic() > deadline:
            return exchange
        turn += 1
        await asyncio.sleep(0.1)
