"""The service against its own OpenAPI document: no 5xx, no answer that the document does not describe.

`FUZZ_CASES=5000 make test ARGS=tests/process/test_openapi_fuzz.py` runs more; `FUZZ_SEED` makes the same cases again.
"""

import asyncio
import json
import os
import secrets
from base64 import b64encode
from collections import Counter

import pytest

from keyway.ka.http import Address, exchange, render
from tests.process.openapi_cases import Case, Maker, faults, operations
from tests.process.partner_client import MONITORING, PATIENCE_SECONDS, Partner
from tests.process.whole_stack import TEST_SECONDS, WholeStack

CASES = int(os.environ.get("FUZZ_CASES", "400"))
SEED = int(os.environ.get("FUZZ_SEED", str(secrets.randbelow(1_000_000))))
AT_ONCE = 8
REPEATS_MAX = 3
"""What a request brings about comes each time; what a busy machine does, does not."""

pytestmark = [pytest.mark.process, pytest.mark.asyncio, pytest.mark.timeout(TEST_SECONDS + CASES // 10)]


def headers_of(case: Case, accounts: dict[str, list[str]]) -> dict[str, str]:
    """The headers of a case with its credentials."""
    pair = {"wrong": ["partner", "wrong"], "none": None}.get(case.pair, accounts.get(case.pair))
    if pair is None:
        return dict(case.headers)
    return {**case.headers, "Authorization": "Basic " + b64encode(":".join(pair).encode()).decode()}


async def test_no_answer_is_outside_the_document(stack: WholeStack) -> None:
    partner = Partner.of(stack.state)
    made = [await partner.make() for _ in range(3)] + [await partner.make(MONITORING) for _ in range(2)]
    ended = await partner.make()
    await partner.call("DELETE", f"/keys/{ended.id}")
    maker = Maker(SEED, [str(key.id) for key in (*made, ended)] + [made[0].code, made[3].code.lower()])
    accounts = json.loads((stack.state / "endpoints.json").read_text())["accounts"]
    cases = [maker.case() for _ in range(CASES)]
    statuses: Counter[int] = Counter()
    found: list[str] = []
    room = asyncio.Semaphore(AT_ONCE)

    async def try_out(number: int, case: Case) -> None:
        async with room:
            base = partner.base
            address = Address(host=base.host, port=base.port, path=case.target, encrypted=False)
            request = render(address, headers_of(case, accounts), case.body, method=case.method)
            if case.method == "HEAD":
                return
            answer = await exchange(address, request, timeout_seconds=PATIENCE_SECONDS)
            for _ in range(REPEATS_MAX):
                if answer.status not in {503, 504}:
                    break
                answer = await exchange(address, request, timeout_seconds=PATIENCE_SECONDS)
        statuses[answer.status] += 1
        found.extend(
            f"seed {SEED}, case {number}: {fault}\n  {case}\n  {answer.status} {answer.body[:300]!r}"
            for fault in faults(case, answer.status, answer.headers, answer.body)
        )

    async with asyncio.TaskGroup() as group:
        for number, case in enumerate(cases):
            group.create_task(try_out(number, case))
    assert not found, f"{len(found)} faults:\n" + "\n".join(found[:20])
    assert {200, 400, 404} <= set(statuses), statuses
    assert {case.operation.name for case in cases} == {operation.name for operation in operations()}
    print(f"seed {SEED}: {sum(statuses.values())} answers, {dict(sorted(statuses.items()))}")
