"""PostgreSQL or Kafka that stands still (SIGSTOP): refuse early, keep what was promised, go on without a restart."""

import asyncio
from collections.abc import Iterator

import pytest

from keyway.ka.client import Outcome
from keyway.ka.forms import Form, operation_form
from tests.process.whole_stack import BUDGET_SECONDS, TEST_SECONDS, WholeStack, order, settled, until

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(TEST_SECONDS)]

NOTICED_SECONDS = 2.0
REFUSED_SECONDS = 0.5
SLACK_SECONDS = 3.0
"""How late this process itself may be to see an answer."""
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
            caught = [
                tasks.create_task(administrators[turn % 2].send(form))
                for turn, form in enumerate(purchases(fresh_number, PROBES))
            ]
            await asyncio.sleep(NOTICED_SECONDS)
            await until(lambda: noticed(stack), seconds=BUDGET_SECONDS, what="every gateway has noticed")
            refused = [
                await administrators[turn % 2].send(form) for turn, form in enumerate(purchases(fresh_number, PROBES))
            ]
            await asyncio.wait(caught)
    in_flight = [task.result() for task in caught]
    assert not [str(exchange) for exchange in refused if exchange.status != 503]
    assert min(exchange.seconds for exchange in refused) < REFUSED_SECONDS, "nobody waits for what stands still"
    assert all(exchange.answer is not None and "retry-after" in exchange.answer.headers for exchange in refused)
    assert not [str(exchange) for exchange in in_flight if exchange.status != 504]
    late = BUDGET_SECONDS + SLACK_SECONDS
    assert not [str(exchange) for exchange in in_flight if not BUDGET_SECONDS <= exchange.seconds <= late]
    for exchange in [*before, *in_flight, *refused]:
        again = await settled(administrators, exchange.form)
        assert again.outcome is Outcome.OK, str(again)
        if exchange.outcome is Outcome.OK:
            assert (again.expiry, again.body) == (exchange.expiry, exchange.body), "an acknowledged answer was lost"
    assert stack.now().pids() == pids, "somebody was restarted"


def purchases(numbers: Iterator[int], count: int) -> list[Form]:
    return [operation_form("PURCHASE", order(next(numbers))) for _ in range(count)]


async def noticed(stack: WholeStack) -> bool:
    """Whether no gateway takes commands any more."""
    return not any([await stack.is_ready(name) for name in ("gateway-0", "gateway-1")])
