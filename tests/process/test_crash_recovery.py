"""`kill -9` of any process under load: nothing answered is ever contradicted, everything is settled, all heals."""

import asyncio
import time
from collections.abc import Iterator

import asyncpg
import pytest

from keyway.ka.client import Exchange, Outcome
from keyway.ka.history import contradictions
from tests.process.whole_stack import BUDGET_SECONDS, TEST_SECONDS, WholeStack, load
from workers.runtime.watch import STALE_SECONDS

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(TEST_SECONDS)]

BEFORE_SECONDS = 1.5
HEALED_SECONDS = 10.0
CAUGHT_UP_SECONDS = 3.0
"""From the moment when every process says again that it is ready: where starting takes long, that is what heals."""
AFTER_SECONDS = 2.0
SLACK_SECONDS = 3.0
"""How late this process itself may be to see an answer, on a machine that is busy starting others."""
UNSTARTED_OR_UNFINISHED = {None, 503, 504}

EFFECTS = """
SELECT l.license_id, l.revision, l.sequence, l.published_sequence,
       (SELECT count(*) FROM revision r WHERE r.license_id = l.license_id) AS revisions,
       (SELECT count(*) FROM operation o WHERE o.license_id = l.license_id) AS operations,
       (SELECT count(*) FROM outbox e WHERE e.license_id = l.license_id) AS events,
       (SELECT body FROM revision r WHERE r.license_id = l.license_id AND r.revision = l.revision) AS body
FROM license l WHERE l.license_id = ANY($1)
"""


@pytest.mark.parametrize("victim", ["gateway-0", "license-0", "postgres", "kafka"])
async def test_killed_process_is_healed_and_no_answer_was_false(
    stack: WholeStack, fresh_number: Iterator[int], victim: str
) -> None:
    async with load(stack, fresh_number) as playing:
        await asyncio.sleep(BEFORE_SECONDS)
        acknowledged_before = sum(exchange.outcome is Outcome.OK for exchange in playing.history)
        killed_at = time.monotonic()
        await stack.kill(victim)
        ready_at = await time_of_readiness(stack, killed_at)
        healed_at = max(killed_at + HEALED_SECONDS, ready_at + CAUGHT_UP_SECONDS)
        await asyncio.sleep(healed_at + AFTER_SECONDS - time.monotonic())
    history = playing.history
    assert acknowledged_before > 0, "no load before the kill"
    assert not contradictions(history)
    late = [str(exchange) for exchange in unsettled(history) if exchange.sent_at > healed_at]
    assert not late, f"not healed {healed_at - killed_at:.1f} s after the kill"
    assert any(exchange.sent_at > healed_at for exchange in history), "no load after the healing"
    odd = [str(exchange) for exchange in unsettled(history) if exchange.status not in UNSTARTED_OR_UNFINISHED]
    assert not odd, "in flight: a reset, 503 or 504, nothing else"
    slow = [str(exchange) for exchange in history if exchange.seconds > BUDGET_SECONDS + SLACK_SECONDS]
    assert not slow, "nobody waits longer than the budget"
    last = max((exchange.sent_at for exchange in unsettled(history)), default=killed_at)
    print(f"{victim}: {len(history)} exchanges, {len(unsettled(history))} open, healed {last - killed_at:.1f} s after")
    await assert_one_effect_each(stack, history)


async def time_of_readiness(stack: WholeStack, killed_at: float) -> float:
    """Return when the stack was ready again, once that is news: workers believe in a lost server for a while."""
    await asyncio.sleep(max(0.0, killed_at + STALE_SECONDS - time.monotonic()))
    await stack.wait_until_ready()
    return time.monotonic()


def unsettled(history: list[Exchange]) -> list[Exchange]:
    return [exchange for exchange in history if exchange.outcome is Outcome.INFO]


async def assert_one_effect_each(stack: WholeStack, history: list[Exchange]) -> None:
    """Every license of the history was bought once and renewed once, and its last body is what was told last."""
    account = stack.now().account
    told = {f"{account}:{exchange.number}": exchange.body for exchange in history if exchange.outcome is Outcome.OK}
    connection = await asyncpg.connect(stack.now().database)
    try:
        rows = await connection.fetch(EFFECTS, list(told))
    finally:
        await connection.close()
    assert {row["license_id"]: row["body"] for row in rows} == told
    assert {(row["revision"], row["sequence"], row["revisions"], row["operations"], row["events"]) for row in rows} == {
        (2, 2, 2, 2, 2)
    }
