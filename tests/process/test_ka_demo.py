"""`keyway demo` plays its acts on a stack that runs, says so, and gives the clock back."""

import asyncio
import re
import sys

import pytest

from keyway.ka.acts import ACTS
from tests.process.whole_stack import CLOCK_SEEN_SECONDS, TEST_SECONDS, WholeStack

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(TEST_SECONDS)]

FIGURES = '"usage":{"sentGigabytes":4,"receivedGigabytes":12}'


async def test_demo_plays_every_act_on_a_running_stack(stack: WholeStack) -> None:
    offset_file = stack.state / "clock-offset"
    before = offset_file.read_text()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "keyway", "demo", "--state-dir", str(stack.state),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    await asyncio.sleep(CLOCK_SEEN_SECONDS)  # the clock was put back: those who come next are to find it so
    told = output.decode()
    assert process.returncode == 0, told
    assert all(act.title in told and all(step.title in told for step in act.steps) for act in ACTS), told
    followed = [int(number) for number in re.findall(r"=> event (\d+): ", told)]
    assert followed == [number for act in ACTS for number in range(1, sum(len(step.events) for step in act.steps) + 1)]
    assert FIGURES in told
    assert re.search(r"\$\$ the provider's ledger on service \d+: order 5.00, prolong 5.00; ended", told), told
    assert stack.now().secret not in told
    assert offset_file.read_text() == before
