"""Public requests through the license handler: decided like any command, and answered by an event exactly once."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.contracts.commands import (
    LicenseCommand,
    RecordActivation,
    ResumeLicense,
    SuspendLicense,
    TerminateLicense,
)
from shared.contracts.envelope import new_id
from shared.contracts.requests import IntakeType, RequestReference
from shared.domain.license import LicenseStatus
from tests.builders import a_license, a_purchase, a_renew, a_terminate, after, an_envelope, decided
from tests.unit.test_license_handler import received
from tests.unit.test_provider_handling import LITE, Upstream
from workers.license.case_file import ReceivedCommand

pytestmark = pytest.mark.asyncio

SUSPEND = SuspendLicense(account="ka", number="00481516")
RESUME = ResumeLicense(account="ka", number="00481516")
SEEN = RecordActivation(account="ka", number="00481516")


def requested(command: LicenseCommand, kind: IntakeType = IntakeType.SUSPEND) -> ReceivedCommand:
    reference = RequestReference(source="urn:example:billing", id=str(new_id()), type=kind)
    return received(replace(an_envelope(command), deadline_at=None, request=reference))


def told(bench: Upstream) -> list[dict[str, Any]]:
    return [orjson.loads(event.value) for event in bench.store.tables.unnumbered]


async def test_a_request_is_answered_by_one_event_however_often_its_command_is_delivered() -> None:
    bench = Upstream()
    await bench.ask_from(a_purchase())
    one = requested(SUSPEND)

    await bench.handler.handle([one, one])
    await bench.handler.handle([one])

    (event,) = told(bench)
    assert (event["type"], event["subject"], event["data"]["code"]) == (
        "keyway.intake.accepted",
        "ka:00481516",
        "suspended",
    )
    assert bench.store.tables.licenses["ka:00481516"].license.suspended


async def test_commands_of_callers_are_answered_by_no_event() -> None:
    bench = Upstream()
    for command in (a_purchase(), a_renew(), a_terminate()):
        await bench.ask_from(command)

    assert told(bench) == []


async def test_a_request_about_a_number_of_nobody_is_answered_too() -> None:
    bench = Upstream()

    await bench.handler.handle(
        [requested(SUSPEND), requested(TerminateLicense(account="ka", number="7", product=None, test=None))]
    )

    assert [event["data"]["code"] for event in told(bench)] == ["license_unknown", "tombstone_recorded"]


async def test_a_request_in_line_behind_the_provider_is_answered_when_it_is_decided() -> None:
    bench = Upstream()
    await bench.ask_from(LITE)
    await bench.handler.handle([requested(SUSPEND)])
    assert told(bench) == []

    await bench.confirm(bench.open_order())

    assert [event["data"]["code"] for event in told(bench)] == ["suspended"]
    events = [event.type for _, event in sorted(bench.store.tables.events.items())]
    assert events == ["keyway.license.issued", "keyway.license.suspended"]


@pytest.mark.parametrize("command", [SUSPEND, RESUME, SEEN])
async def test_requests_change_neither_dates_nor_revisions(command: LicenseCommand) -> None:
    for before in (a_license(), a_license(suspended=True), a_license(status=LicenseStatus.LAPSED, suspended=True)):
        license = after(before, decided(before, command))

        assert replace(license, suspended=before.suspended, sequence=before.sequence) == before
        assert license.sequence == before.sequence + (license.suspended != before.suspended)


async def test_a_renewal_of_a_suspended_license_leaves_it_suspended_and_a_termination_ends_it() -> None:
    before = a_license(suspended=True)

    assert after(before, decided(before, a_renew())).shown_status == "suspended"
    assert after(before, decided(before, a_terminate())).shown_status == "terminated"
