"""GET-INFO decided: who is told figures, in which state, and that asking changes nothing."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.contracts.commands import LicensingModel, ReportUsage
from shared.contracts.outcomes import RejectionCode
from shared.domain.case import Case
from shared.domain.catalog import CounterKind
from shared.domain.decide import decide
from shared.domain.decision import Decision, Rejected
from shared.domain.license import License, LicenseStatus
from shared.domain.usage import CounterTotal, UsageOnFile, UsageTold
from tests.builders import NOW, a_license, a_usage_question, rules

LEVEL = CounterKind.LEVEL


def totals(*, hours: int = 0) -> UsageOnFile:
    at = NOW - timedelta(hours=hours)
    stored = CounterTotal(kind=LEVEL, value=Decimal("117.5"), at=at, event_id="1", source="app")
    servers = CounterTotal(kind=LEVEL, value=Decimal(3), at=at, event_id="2", source="app")
    return UsageOnFile(
        totals={("protectedServers", LEVEL): servers, ("storedGigabytes", LEVEL): stored}, watermark=(4, 9)
    )


def reporting(**changes: Any) -> License:
    return a_license(**{"product": "CloudBackup", "model": LicensingModel.REPORTING, **changes})


def asked(
    license: License | None, usage: UsageOnFile | None, command: ReportUsage | None = None, **changes: Any
) -> Decision:
    question = replace(command or a_usage_question(usage_ends=(4, 9)), **changes)
    return decide(Case(license=license, usage=usage), question, rules(), now=NOW)


@pytest.mark.parametrize(
    ("changes", "product", "test"),
    [
        ({}, "CloudBackup", False),
        ({}, "NFR-CloudBackup", None),
        ({"product": "NFR-CloudBackup"}, "NFR-CloudBackup", False),
        ({"product": "NFR-CloudBackup"}, "CloudBackup", False),
        ({"test": True}, "CloudBackup", True),
        ({"suspended": True}, "CloudBackup", False),
        ({"status": LicenseStatus.LAPSED}, "CloudBackup", False),
    ],
)
def test_a_living_license_is_told_its_figures_in_catalog_order(
    changes: dict[str, Any],
    product: str,
    test: bool | None,  # noqa: FBT001 - three-valued wire field
) -> None:
    decision = asked(reporting(**changes), totals(), product=product, test=test)

    assert decision == Decision(
        answer=UsageTold(
            {"storedGigabytes": 118, "protectedServers": 3},
            {"storedGigabytes": LEVEL, "protectedServers": LEVEL},
            (4, 9),
        )
    )
    assert isinstance(decision.answer, UsageTold)
    assert list(decision.answer.figures) == ["storedGigabytes", "protectedServers"]


def test_what_needs_no_waiting_is_told_of_a_topic_that_nobody_has_accepted_yet() -> None:
    answer = asked(reporting(), replace(totals(), generation=2, is_accepted=False)).answer

    assert isinstance(answer, UsageTold)
    assert answer.generation == 2


@pytest.mark.parametrize(
    ("license", "changes", "code"),
    [
        (None, {}, RejectionCode.LICENSE_UNKNOWN),
        (reporting(status=LicenseStatus.TERMINATED, terminated_at=NOW), {}, RejectionCode.USAGE_ENDED),
        (a_license(), {"product": "Bronze"}, RejectionCode.USAGE_NOT_REPORTED),
        (reporting(), {"product": "Bronze"}, RejectionCode.USAGE_NOT_REPORTED),
        (a_license(), {}, RejectionCode.PRODUCT_MISMATCH),
        (reporting(), {"product": "Nothing"}, RejectionCode.PRODUCT_UNKNOWN),
        (reporting(), {"test": True}, RejectionCode.TEST_FLAG_MISMATCH),
        (reporting(test=True), {"test": False}, RejectionCode.TEST_FLAG_MISMATCH),
    ],
)
def test_who_may_not_be_told_is_refused_whatever_is_on_file(
    license: License | None, changes: dict[str, Any], code: RejectionCode
) -> None:
    answers = [asked(license, usage, **changes).answer for usage in (None, totals())]

    assert all(isinstance(answer, Rejected) and answer.code is code for answer in answers)


@pytest.mark.parametrize(
    ("usage", "ends"),
    [
        (None, (4, 9)),
        (totals(hours=25), (4, 9)),
        (UsageOnFile(watermark=(4, 9)), None),
        (UsageOnFile(watermark=(4, 9)), (4, 10)),
        (UsageOnFile(watermark=(4, 9), generation=2, is_accepted=False), (4, 9)),
    ],
)
def test_what_is_not_certain_is_unavailable_and_never_a_zero(
    usage: UsageOnFile | None, ends: tuple[int, ...] | None
) -> None:
    assert asked(reporting(), usage, usage_ends=ends).answer == Rejected(RejectionCode.USAGE_UNAVAILABLE)
