"""`keyway demo` plays its month on a stack that runs, says so, and gives the clock back."""

import asyncio
import sys

import pytest

from keyway.ka.month import STANDARD_MONTH
from tests.process.whole_stack import WholeStack

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(120)]


async def test_demo_plays_the_whole_month_on_a_running_stack(stack: WholeStack) -> None:
    offset_file = stack.state / "clock-offset"
    before = offset_file.read_text()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "keyway", "demo", "--state-dir", str(stack.state),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    told = output.decode()
    assert process.returncode == 0, told
    assert all(step.title in told for step in STANDARD_MONTH)
    assert stack.now().secret not in told
    assert offset_file.read_text() == before
