"""Asked once or five times at once, through either gateway: one license, one revision, the same bytes.

`TEST_PURCHASES=2000` in the environment plays the full number.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator

import asyncpg
import pytest

from keyway.ka.client import Exchange
from keyway.ka.forms import operation_form
from shared.clock import MachineClock
from tests.process.whole_stack import TEST_SECONDS, WholeStack, order, settled

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(TEST_SECONDS)]

PURCHASES = int(os.environ.get("TEST_PURCHASES", "300"))
SENT_AT_MOST = 5
AT_ONCE = 96

ISSUED = """
SELECT l.license_id, l.revision, l.sequence,
       (SELECT count(*) FROM revision r WHERE r.license_id = l.license_id) AS revisions,
       (SELECT count(*) FROM operation o WHERE o.license_id = l.license_id) AS operations,
       (SELECT count(*) FROM outbox e WHERE e.license_id = l.license_id) AS events,
       (SELECT body FROM revision r WHERE r.license_id = l.license_id AND r.revision = 1) AS body
FROM license l WHERE l.license_id = ANY($1)
"""


async def test_purchases_sent_many_times_at_once_have_one_effect_and_one_answer(
    stack: WholeStack, fresh_number: Iterator[int]
) -> None:
    administrators = stack.administrators()
    account = administrators[0].account
    orders = [order(next(fresh_number)) for _ in range(PURCHASES)]
    sendings = [wanted for wanted in orders for _ in range(random.randint(1, SENT_AT_MOST))]
    gate = asyncio.Semaphore(AT_ONCE)

    async def buy(index: int) -> Exchange:
        async with gate:
            return await settled([administrators[index % 2]], operation_form("PURCHASE", sendings[index]))

    began_at = MachineClock().now().isoformat()
    exchanges = await asyncio.gather(*(buy(index) for index in range(len(sendings))))

    statuses = Counter(exchange.status for exchange in exchanges)
    assert statuses == {200: len(sendings)}, "\n".join(stack.gateway_complaints(began_at)[:20])
    answers: dict[str, set[tuple[str | None, bytes]]] = {}
    for exchange in exchanges:
        answers.setdefault(exchange.number, set()).add((exchange.expiry, exchange.body))
    assert {len(told) for told in answers.values()} == {1}
    connection = await asyncpg.connect(stack.now().database)
    try:
        rows = await connection.fetch(ISSUED, [f"{account}:{wanted.number}" for wanted in orders])
    finally:
        await connection.close()
    assert len(rows) == PURCHASES
    assert {(row["revision"], row["sequence"], row["revisions"], row["operations"], row["events"]) for row in rows} == {
        (1, 1, 1, 1, 1)
    }
    stored = {row["license_id"].removeprefix(f"{account}:"): row["body"] for row in rows}
    assert stored == {number: next(iter(told))[1] for number, told in answers.items()}
