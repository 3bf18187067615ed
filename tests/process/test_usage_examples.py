"""Usage against a running stack: the worked examples 19 to 22, and what a stopped usage worker means."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from keyway.cli.world_files import clock_offset_file
from keyway.ka.forms import REPORTING, Order, operation_form
from shared.clock import read_offset
from shared.contracts.topics import USAGE_REPORTED
from shared.kafka import event_producer
from tests.integration.usage_rig import an_event
from tests.process.protocol_examples import Example, examples
from tests.process.whole_stack import ASK_AGAIN_SECONDS, SETTLED_SECONDS, TEST_SECONDS, WholeStack, settled

pytestmark = [pytest.mark.asyncio, pytest.mark.process, pytest.mark.timeout(TEST_SECONDS)]

Told = tuple[int, str | None, str | None, str]
"""Status, media type, Retry-After and body."""


def business_now(stack: WholeStack) -> datetime:
    return datetime.now(UTC) + read_offset(clock_offset_file(stack.state))


async def report(stack: WholeStack, *events: bytes) -> None:
    producer = event_producer(stack.now().kafka)
    await producer.start()
    try:
        for number, event in enumerate(events):
            await (await producer.send(USAGE_REPORTED, event, b"any key", partition=number % 24))
    finally:
        await producer.stop()


async def bought(stack: WholeStack, number: str, product: str, *, model: str = REPORTING) -> str:
    order = Order(number=number, product=product, model=model, expires_on=date(2099, 1, 31))
    assert (await settled(stack.administrators(), operation_form("PURCHASE", order))).status == 200
    return number


async def asked(stack: WholeStack, example: Example, number: str, *, without_figure: bool = False) -> Told:
    """Send the request of an example for another number until the answer is known; return it.

    `without_figure`: that there is no figure now is an answer, too.
    """
    name, _, tail = example.form.decode().partition("PURCHASE_ID=")
    form = f"{name}PURCHASE_ID={number}&{tail.partition('&')[2]}".encode()
    ka = stack.administrators()[0]

    async def ask() -> Told:
        answer = (await ka.send_raw((), form)).answer
        if answer is None:
            return 0, None, None, ""
        headers = answer.headers
        return answer.status, headers.get("content-type"), headers.get("retry-after"), answer.body.decode()

    deadline = time.monotonic() + SETTLED_SECONDS
    while (told := await ask())[0] in {0, 503, 504} and not (without_figure and told == NO_FIGURE):
        assert time.monotonic() < deadline, told
        await asyncio.sleep(ASK_AGAIN_SECONDS)
    return told


def as_printed(example: Example) -> Told:
    return example.status, example.media_type, example.headers.get("retry-after"), example.body or ""


NO_FIGURE = as_printed(examples()["22"])


def usage(stack: WholeStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "KEYWAY_DATABASE_URL": stack.now().database}
    return subprocess.run(
        [sys.executable, "-m", "keyway", "usage", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )


async def test_worked_examples_of_usage_are_answered_as_the_page_says(
    stack: WholeStack, fresh_number: Iterator[int]
) -> None:
    page = examples()
    now = business_now(stack)
    used = await bought(stack, f"{next(fresh_number):08}", "CloudBackup")
    unused = await bought(stack, f"{next(fresh_number):08}", "CloudBackup")
    standard = await bought(stack, f"{next(fresh_number):08}", "Bronze", model="2")
    silent = await bought(stack, f"{next(fresh_number):08}", "CloudBackup")
    await report(
        stack,
        an_event(f"{used}-1", used, "storedGigabytes", "117.2", now),
        an_event(f"{used}-2", used, "protectedServers", 3, now - timedelta(hours=23)),
        an_event(f"{used}-3", used, "storedGigabytes", 90, now - timedelta(seconds=1)),
        an_event(f"{silent}-1", silent, "storedGigabytes", 118, now - timedelta(hours=24, minutes=1)),
    )

    assert await asked(stack, page["19"], used) == as_printed(page["19"])
    assert await asked(stack, page["20"], unused) == as_printed(page["20"])
    assert await asked(stack, page["21"], standard) == as_printed(page["21"])
    assert await asked(stack, page["22"], silent, without_figure=True) == NO_FIGURE

    shown = usage(stack, "show", f"ka:{used}", "--json")
    assert shown.returncode == 0, shown.stderr
    reports = json.loads(shown.stdout)["reports"]
    assert reports, "one for each question that was answered"
    for told in reports:
        assert told["agrees"] is True
        assert told["figures"] == told["recomputed"] == {"storedGigabytes": 118, "protectedServers": 3}


async def test_a_stopped_usage_worker_means_503_for_sums_and_never_a_zero(
    stack: WholeStack, fresh_number: Iterator[int]
) -> None:
    page = examples()
    now = business_now(stack)
    sums = replace(page["19"], form=page["19"].form.replace(b"CloudBackup", b"CloudTransfer"))
    transfer = await bought(stack, f"{next(fresh_number):08}", "CloudTransfer")
    backup = await bought(stack, f"{next(fresh_number):08}", "CloudBackup")
    unheard = await bought(stack, f"{next(fresh_number):08}", "CloudBackup")
    await report(
        stack,
        an_event(f"{backup}-1", backup, "storedGigabytes", 5, now),
        an_event(f"{backup}-2", backup, "protectedServers", 1, now),
        an_event(f"{transfer}-1", transfer, "sentGigabytes", "0.4", now, kind="increment"),
    )
    first = await asked(stack, sums, transfer)
    assert first[3] == '{"version":"isv-reportable-1","usage":{"sentGigabytes":1,"receivedGigabytes":0}}'

    with stack.paused("usage-0"):
        event = an_event(f"{transfer}-2", transfer, "sentGigabytes", "0.4", now, kind="increment")
        await report(stack, event, event)
        assert await asked(stack, sums, transfer, without_figure=True) == NO_FIGURE
        never = await asked(stack, page["22"], unheard, without_figure=True)
        assert never == NO_FIGURE, "never reported may mean not read yet"
        fresh = await asked(stack, page["19"], backup)
        assert fresh[3] == '{"version":"isv-reportable-1","usage":{"storedGigabytes":5,"protectedServers":1}}'

    assert await asked(stack, sums, transfer) == first, "0.8 is told as 1"
    assert (await asked(stack, page["20"], unheard))[0] == 200
