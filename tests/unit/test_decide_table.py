"""The whole state x request table of docs/protocols/isv-endpoint.md 7.3: a decision is demanded for every cell."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product as every

import pytest

from shared.contracts.commands import LicenseCommand, LicensingModel, RecordActivation, ResumeLicense, SuspendLicense
from shared.contracts.outcomes import RejectionCode, TerminationOutcome
from shared.contracts.requests import RequestOutcome
from shared.domain.decision import CurrentBody, Done, Rejected, Termination
from shared.domain.fingerprint import fingerprint_of
from shared.domain.license import TRANSITIONS, License, LicenseStatus
from shared.domain.term import expires_at
from tests.builders import (
    APRIL,
    CATALOG,
    MARCH,
    a_license,
    a_purchase,
    a_renew,
    a_terminate,
    a_usage_question,
    after,
    an_upgrade,
    decided,
)

TERMINATED_AT = datetime(2027, 2, 4, tzinfo=UTC)
IN_MARCH = datetime(2027, 3, 16, 13, tzinfo=UTC)
"""An hour after a license that ends on 15 March has lapsed."""

STATES: dict[str, License | None] = {
    "none": None,
    "active": a_license(),
    "suspended": a_license(suspended=True),
    "lapsed": a_license(status=LicenseStatus.LAPSED),
    "terminated": a_license(status=LicenseStatus.TERMINATED, terminated_at=TERMINATED_AT),
    "tombstone": a_license(
        status=LicenseStatus.TERMINATED, expires_on=None, revision=0, terminated_at=TERMINATED_AT, product=""
    ),
}
REQUESTS: dict[str, LicenseCommand] = {
    "purchase alike": a_purchase(start_on=None),
    "purchase different": a_purchase(product="Gold"),
    "renew later": a_renew(),
    "renew same": a_renew(expires_on=MARCH),
    "renew earlier": a_renew(expires_on=MARCH - timedelta(days=1)),
    "upgrade offered": an_upgrade(),
    "upgrade not offered": an_upgrade(product="CloudBackup", model=LicensingModel.REPORTING),
    "terminate": a_terminate(),
    "usage": a_usage_question(product="Bronze"),
    "suspend": SuspendLicense(account="ka", number="00481516"),
    "resume": ResumeLicense(account="ka", number="00481516"),
    "activated": RecordActivation(account="ka", number="00481516", seen_at=IN_MARCH),
}
BODY = "body"
UNKNOWN, OVER = RejectionCode.LICENSE_UNKNOWN, RejectionCode.LICENSE_TERMINATED
NO_USAGE = RejectionCode.USAGE_NOT_REPORTED
EXPECTED: dict[str, dict[str, object]] = {
    "none": {
        "purchase alike": BODY,
        "purchase different": BODY,
        "renew later": UNKNOWN,
        "renew same": UNKNOWN,
        "renew earlier": UNKNOWN,
        "upgrade offered": UNKNOWN,
        "upgrade not offered": UNKNOWN,
        "terminate": TerminationOutcome.TOMBSTONE_RECORDED,
        "usage": UNKNOWN,
        "suspend": UNKNOWN,
        "resume": UNKNOWN,
        "activated": UNKNOWN,
    },
    "active": {
        "purchase alike": BODY,
        "purchase different": RejectionCode.LICENSE_EXISTS,
        "renew later": BODY,
        "renew same": BODY,
        "renew earlier": RejectionCode.EXPIRY_EARLIER,
        "upgrade offered": BODY,
        "upgrade not offered": RejectionCode.UPGRADE_NOT_OFFERED,
        "terminate": TerminationOutcome.TERMINATED,
        "usage": NO_USAGE,
        "suspend": RequestOutcome.SUSPENDED,
        "resume": RequestOutcome.NOT_SUSPENDED,
        "activated": RequestOutcome.ACTIVATION_RECORDED,
    },
    "suspended": {
        "purchase alike": BODY,
        "purchase different": RejectionCode.LICENSE_EXISTS,
        "renew later": BODY,
        "renew same": BODY,
        "renew earlier": RejectionCode.EXPIRY_EARLIER,
        "upgrade offered": RejectionCode.LICENSE_SUSPENDED,
        "upgrade not offered": RejectionCode.LICENSE_SUSPENDED,
        "terminate": TerminationOutcome.TERMINATED,
        "usage": NO_USAGE,
        "suspend": RequestOutcome.ALREADY_SUSPENDED,
        "resume": RequestOutcome.RESUMED,
        "activated": RequestOutcome.ACTIVATION_RECORDED,
    },
    "lapsed": {
        "purchase alike": BODY,
        "purchase different": RejectionCode.LICENSE_EXISTS,
        "renew later": BODY,
        "renew same": BODY,
        "renew earlier": RejectionCode.EXPIRY_EARLIER,
        "upgrade offered": RejectionCode.LICENSE_LAPSED,
        "upgrade not offered": RejectionCode.LICENSE_LAPSED,
        "terminate": TerminationOutcome.TERMINATED,
        "usage": NO_USAGE,
        "suspend": RequestOutcome.SUSPENDED,
        "resume": RequestOutcome.NOT_SUSPENDED,
        "activated": RequestOutcome.ACTIVATION_RECORDED,
    },
    "terminated": {
        "purchase alike": OVER,
        "purchase different": OVER,
        "renew later": OVER,
        "renew same": OVER,
        "renew earlier": OVER,
        "upgrade offered": OVER,
        "upgrade not offered": OVER,
        "terminate": TerminationOutcome.ALREADY_TERMINATED,
        "usage": RejectionCode.USAGE_ENDED,
        "suspend": OVER,
        "resume": OVER,
        "activated": OVER,
    },
}
EXPECTED["tombstone"] = EXPECTED["terminated"]


CELLS = list(every(STATES, REQUESTS))


def kind_of(answer: object) -> object:
    match answer:
        case CurrentBody():
            return BODY
        case Termination(outcome):
            return outcome
        case Rejected(code, _):
            return code
        case Done(outcome):
            return outcome
        case _:
            pytest.fail(f"no answer: {answer!r}")


def test_every_cell_of_the_table_is_listed() -> None:
    assert set(EXPECTED) == set(STATES)
    assert all(set(row) == set(REQUESTS) for row in EXPECTED.values())
    assert set(TRANSITIONS) == set(LicenseStatus)


@pytest.mark.parametrize(("state", "request_name"), CELLS)
def test_state_and_request_decide_as_the_table_says(state: str, request_name: str) -> None:
    decision = decided(STATES[state], REQUESTS[request_name])

    assert kind_of(decision.answer) == EXPECTED[state][request_name]


@pytest.mark.parametrize(("state", "request_name"), CELLS)
def test_a_rejection_changes_nothing(state: str, request_name: str) -> None:
    decision = decided(STATES[state], REQUESTS[request_name])

    if isinstance(decision.answer, Rejected):
        assert decision.events == ()
        assert decision.forget_operations_after is None


@pytest.mark.parametrize(("state", "request_name"), CELLS)
def test_events_keep_the_law_of_transitions_and_count_without_gap(state: str, request_name: str) -> None:
    before = STATES[state]
    decision = decided(before, REQUESTS[request_name])

    if decision.events:
        license = after(before, decision)
        assert license.sequence == (0 if before is None else before.sequence) + len(decision.events)
        if before is not None:
            assert license.status in TRANSITIONS[before.status] | {before.status}


@pytest.mark.parametrize(("state", "request_name"), CELLS)
def test_a_license_that_is_due_lapses_before_anything_else(state: str, request_name: str) -> None:
    """Decision on a due license = decision on the lapsed one, with the lapse in front."""
    if state not in {"active", "suspended"}:
        return
    due = STATES[state]
    assert due is not None

    decision = decided(due, REQUESTS[request_name], now=IN_MARCH)
    lapsed = decided(replace(due, status=LicenseStatus.LAPSED), REQUESTS[request_name], now=IN_MARCH)

    assert type(decision.events[0]).__name__ == "LicenseLapsed"
    assert decision.events[1:] == lapsed.events
    assert decision.answer == lapsed.answer


def test_a_license_lapses_at_noon_of_the_day_after_its_last() -> None:
    moment = expires_at(MARCH)

    assert moment == datetime(2027, 3, 16, 12, tzinfo=UTC)
    assert decided(a_license(), a_terminate(test=True), now=moment - timedelta(seconds=1)).events == ()
    assert len(decided(a_license(), a_terminate(test=True), now=moment).events) == 1


@pytest.mark.parametrize(
    ("license", "command"),
    [
        (a_license(), a_purchase()),
        (a_license(), a_renew()),
        (a_license(), an_upgrade()),
        (a_license(status=LicenseStatus.LAPSED), an_upgrade()),
        (a_license(suspended=True), an_upgrade()),
        (a_license(status=LicenseStatus.LAPSED), a_renew(expires_on=MARCH - timedelta(days=100))),
        (a_license(product="Gold", revision=3), a_renew(expires_on=APRIL)),
    ],
)
def test_a_known_fingerprint_gets_the_current_body_whatever_the_state_says(
    license: License, command: LicenseCommand
) -> None:
    fingerprint = fingerprint_of(command)  # type: ignore[arg-type]  # only operations stand in the list above

    decision = decided(license, command, operations={fingerprint: 1})

    assert decision.answer == CurrentBody(fingerprint)
    assert decision.events == ()


@pytest.mark.parametrize("command", [a_purchase(), a_renew(), an_upgrade()])
def test_a_known_fingerprint_does_not_revive_a_terminated_license(command: LicenseCommand) -> None:
    over = a_license(status=LicenseStatus.TERMINATED, terminated_at=TERMINATED_AT)
    fingerprint = fingerprint_of(command)  # type: ignore[arg-type]  # only operations stand in the list above

    decision = decided(over, command, operations={fingerprint: 1})

    assert kind_of(decision.answer) is RejectionCode.LICENSE_TERMINATED


def test_the_decider_is_total_over_unknown_products_and_extreme_dates() -> None:
    extreme = [MARCH.min, MARCH.max]
    for state, day, name in every(STATES.values(), extreme, ["", "Bronze", "NFR-", "NFR-NFR-Gold", "360-MON-1M"]):
        for command in (a_purchase, a_renew, an_upgrade):
            decision = decided(state, command(product=name, expires_on=day))
            assert decision.answer is not None


def test_the_catalog_of_the_tests_has_every_kind_of_product() -> None:
    assert {product.provider for product in CATALOG.products.values()} == {"local", "isplicense"}
