"""The consumer and the producer of docs/events.md, run as they stand on the page."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from shared.contracts.topics import LICENSE_EVENTS, LICENSE_INTAKE
from tests.integration.intake_rig import intake_rig

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
PROGRAMS = {found[1]: found[0] for found in re.findall(r"```python\n(# (\w+)\.py .*?)```", PAGE, re.DOTALL)}


def program(folder: Path, name: str) -> str:
    file = folder / f"{name}.py"
    file.write_text(PROGRAMS[name], encoding="utf-8")
    return str(file)


def test_the_consumer_is_fifteen_lines() -> None:
    code = [line for line in PROGRAMS["consumer"].splitlines() if line.strip() and not line.startswith("#")]

    assert len(code) <= 15


@pytest.mark.services
@pytest.mark.asyncio
async def test_producer_and_consumer_of_the_page_work_as_they_stand(
    database_url: str, kafka_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with intake_rig(database_url, kafka_server, topic_prefix, tmp_path) as rig:
        rig.start("license", "intake", "relay")
        await rig.purchase("00000001")
        producer = (program(tmp_path, "producer"), kafka_server, topic_prefix + LICENSE_INTAKE)
        for _ in range(2):
            await ran(*producer, "ka:00000001", "keyway.license.suspend", "case-1")
        await ran(*producer, "ka:00000001", "keyway.license.resume", "case-2")
        assert [event["data"]["code"] for event in await rig.outcomes(2)] == ["suspended", "resumed"]
        await rig.records(LICENSE_EVENTS, 5)
        # What it must survive: a type and a member that nobody knows yet, and a loss.
        lost = {"subject": "ka:00000009", "sequence": "4", "type": "keyway.license.painted", "data": {"status": "blue"}}
        await rig.put(LICENSE_EVENTS, orjson.dumps(lost | {"shade": "mauve"}), key=b"ka:00000009")

        told = await lines(program(tmp_path, "consumer"), kafka_server, topic_prefix + LICENSE_EVENTS, count=5)

        assert [line for line in told if line.startswith("ka:00000001")] == [
            "ka:00000001 1 keyway.license.issued active",
            "ka:00000001 2 keyway.license.suspended suspended",
            "ka:00000001 3 keyway.license.resumed active",
        ]
        assert "LOST ka:00000009 1 3" in told


async def ran(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, *command)
    assert await process.wait() == 0


async def lines(*command: str, count: int) -> list[str]:
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = []
    try:
        async with asyncio.timeout(80):
            while len(told) < count:
                told.append((await process.stdout.readline()).decode().strip())
    finally:
        process.kill()
        await process.wait()
    return told
