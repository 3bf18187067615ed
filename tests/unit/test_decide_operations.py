"""The rules of each operation: repeats, dates, flags, upgrades (docs/protocols/isv-endpoint.md 5 to 8)."""

from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

import pytest

from shared.contracts.commands import BodyDigest, LicensingModel
from shared.contracts.outcomes import RejectionCode
from shared.domain.case import PastRevision, RevisionCause, needs_history
from shared.domain.catalog import Listed
from shared.domain.decision import AlertKind, CurrentBody, Decision, Rejected
from shared.domain.fingerprint import fingerprint_of
from shared.domain.license import LicenseStatus
from tests.builders import (
    APRIL,
    CATALOG,
    MARCH,
    NOW,
    a_license,
    a_purchase,
    a_renew,
    a_terminate,
    a_usage_question,
    after,
    an_upgrade,
    decided,
)

TODAY = NOW.date()


def code_of(decision: Decision) -> RejectionCode | None:
    return decision.answer.code if isinstance(decision.answer, Rejected) else None


# --- PURCHASE ---------------------------------------------------------------------------------------------------------


def test_purchase_creates_an_active_license_with_revision_one() -> None:
    license = after(None, decided(None, a_purchase()))

    assert license == a_license()


def test_purchase_without_dates_starts_today_and_subscribes_at_its_start() -> None:
    license = after(None, decided(None, a_purchase(start_on=None, subscription_on=None, purchase_on=None)))

    assert (license.start_on, license.subscription_on, license.purchase_on) == (TODAY, TODAY, TODAY)


def test_purchase_without_test_flag_is_a_real_order() -> None:
    assert after(None, decided(None, a_purchase(test=None))).test is False


@pytest.mark.parametrize("days", [-3, -1, 0, 2, 3])
def test_purchase_of_a_held_number_within_three_days_is_a_repeat(days: int) -> None:
    decision = decided(a_license(), a_purchase(start_on=None, expires_on=MARCH + timedelta(days=days)))

    assert isinstance(decision.answer, CurrentBody)
    assert decision.events == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_on": MARCH + timedelta(days=4)},
        {"expires_on": MARCH - timedelta(days=4)},
        {"product": "Gold"},
        {"test": True},
        {"activation_data": "other"},
        {"product": "CloudBackup", "model": LicensingModel.REPORTING},
    ],
)
def test_purchase_of_a_held_number_with_other_parameters_is_a_conflict(changes: dict[str, object]) -> None:
    assert code_of(decided(a_license(), a_purchase(**changes))) is RejectionCode.LICENSE_EXISTS


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"product": "Unheard"}, RejectionCode.PRODUCT_UNKNOWN),
        ({"product": "bronze"}, RejectionCode.PRODUCT_UNKNOWN),
        ({"product": "NFR-"}, RejectionCode.PRODUCT_UNKNOWN),
        ({"product": "NFR-NFR-Gold"}, RejectionCode.PRODUCT_UNKNOWN),
        ({"product": "360-MON-1M"}, RejectionCode.PRODUCT_UNKNOWN),
        ({"model": LicensingModel.REPORTING}, RejectionCode.MODEL_MISMATCH),
        ({"product": "CloudBackup"}, RejectionCode.MODEL_MISMATCH),
        ({"expires_on": TODAY - timedelta(days=2)}, RejectionCode.EXPIRY_PAST),
        ({"product": "ISPMGR6-LITE"}, RejectionCode.ACTIVATION_DATA_INVALID),
    ],
)
def test_purchase_that_cannot_be_meant_is_rejected(changes: dict[str, object], code: RejectionCode) -> None:
    assert code_of(decided(None, a_purchase(**changes))) is code


def test_what_makes_a_purchase_impossible_comes_before_the_conflict() -> None:
    assert code_of(decided(a_license(), a_purchase(product="Unheard"))) is RejectionCode.PRODUCT_UNKNOWN


def test_purchase_may_expire_yesterday() -> None:
    assert isinstance(decided(None, a_purchase(expires_on=TODAY - timedelta(days=1))).answer, CurrentBody)


def test_purchase_of_an_nfr_twin_is_not_for_resale() -> None:
    assert after(None, decided(None, a_purchase(product="NFR-Gold"))).nfr


# --- RENEW ------------------------------------------------------------------------------------------------------------


def test_renew_sets_the_day_and_issues_a_new_revision() -> None:
    license = after(a_license(), decided(a_license(), a_renew()))

    assert (license.expires_on, license.revision, license.status) == (APRIL, 2, LicenseStatus.ACTIVE)
    assert license.subscription_on == date(2027, 2, 5)


def test_renew_to_the_day_in_force_changes_nothing() -> None:
    decision = decided(a_license(), a_renew(expires_on=MARCH))

    assert isinstance(decision.answer, CurrentBody)
    assert decision.events == ()


def test_renew_of_a_lapsed_license_makes_it_active() -> None:
    license = after(a_license(), decided(a_license(), a_renew(), now=datetime(2027, 3, 20, tzinfo=UTC)))

    assert license.status is LicenseStatus.ACTIVE
    assert license.sequence == 3


def test_renew_to_yesterday_leaves_a_lapsed_license_lapsed_after_noon() -> None:
    now = datetime(2027, 3, 20, 13, tzinfo=UTC)
    lapsed = a_license(status=LicenseStatus.LAPSED)

    license = after(lapsed, decided(lapsed, a_renew(expires_on=date(2027, 3, 19)), now=now))

    assert (license.status, license.expires_on) == (LicenseStatus.LAPSED, date(2027, 3, 19))


def test_renew_of_a_suspended_license_leaves_it_suspended() -> None:
    held = a_license(suspended=True)

    assert after(held, decided(held, a_renew())).suspended


def test_renew_keeps_activation_data_that_it_does_not_name() -> None:
    held = a_license(activation_data="host-1")

    assert after(held, decided(held, a_renew())).activation_data == "host-1"
    assert after(held, decided(held, a_renew(activation_data="host-2"))).activation_data == "host-2"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"product": "Gold"}, RejectionCode.PRODUCT_MISMATCH),
        ({"product": "Unheard"}, RejectionCode.PRODUCT_UNKNOWN),
        ({"test": True}, RejectionCode.TEST_FLAG_MISMATCH),
        ({"model": LicensingModel.REPORTING}, RejectionCode.MODEL_MISMATCH),
        ({"expires_on": MARCH - timedelta(days=1)}, RejectionCode.EXPIRY_EARLIER),
        ({"expires_on": TODAY - timedelta(days=2)}, RejectionCode.EXPIRY_PAST),
    ],
)
def test_renew_that_does_not_fit_the_license_is_rejected(changes: dict[str, object], code: RejectionCode) -> None:
    assert code_of(decided(a_license(), a_renew(**changes))) is code


def test_renew_without_test_flag_takes_the_stored_one() -> None:
    held = a_license(test=True)

    assert after(held, decided(held, a_renew(test=None))).test


def test_renew_with_another_subscription_date_keeps_ours_and_says_so() -> None:
    decision = decided(a_license(), a_renew(subscription_on=date(2027, 1, 1)))

    assert after(a_license(), decision).subscription_on == date(2027, 2, 5)
    assert [alert.kind for alert in decision.alerts] == [AlertKind.SUBSCRIPTION_DATE_DIFFERS]


# --- the lost upgrade -------------------------------------------------------------------------------------------------

OLD_BODY = BodyDigest(sha256=sha256(b"bronze").hexdigest(), length_bytes=6)


def past(revision: int, product: str, cause: RevisionCause, body: bytes) -> PastRevision:
    digest = BodyDigest(sha256=sha256(body).hexdigest(), length_bytes=len(body))
    return PastRevision(revision=revision, product=product, cause=cause, body=digest)


LOST = (
    past(1, "Bronze", RevisionCause.ISSUED, b"bronze"),
    past(2, "Silver", RevisionCause.UPGRADED, b"silver"),
    past(3, "Gold", RevisionCause.UPGRADED, b"gold"),
)


def test_renew_with_the_body_before_lost_upgrades_goes_back_and_forgets_them() -> None:
    held = a_license(product="Gold", revision=3, sequence=3)

    decision = decided(held, a_renew(previous_body=OLD_BODY), history=LOST)

    assert after(held, decision).product == "Bronze"
    assert after(held, decision).revision == 4
    assert decision.forget_operations_after == 1
    assert AlertKind.UPGRADE_REVERSED in {alert.kind for alert in decision.alerts}


@pytest.mark.parametrize(
    ("history", "body"),
    [
        (LOST, None),
        (LOST, BodyDigest(sha256=OLD_BODY.sha256, length_bytes=7)),
        (LOST, BodyDigest(sha256=sha256(b"silver").hexdigest(), length_bytes=6)),
        ((*LOST, past(4, "Gold", RevisionCause.RENEWED, b"gold 2")), OLD_BODY),
        ((), OLD_BODY),
    ],
    ids=["no body", "other length", "body of another product", "renewed since", "no history"],
)
def test_renew_naming_another_product_without_that_proof_is_rejected(
    history: tuple[PastRevision, ...], body: BodyDigest | None
) -> None:
    held = a_license(product="Gold", revision=3, sequence=3)

    decision = decided(held, a_renew(previous_body=body), history=history)

    assert code_of(decision) is RejectionCode.PRODUCT_MISMATCH


def test_history_is_needed_only_where_a_renew_may_tell_of_a_lost_upgrade() -> None:
    renew = a_renew(previous_body=OLD_BODY)

    assert needs_history(a_license(product="Gold"), [renew])
    assert needs_history(a_license(), [an_upgrade(), renew])
    assert not needs_history(a_license(), [renew])
    assert not needs_history(a_license(product="Gold"), [a_renew()])
    assert not needs_history(None, [renew])


# --- UPGRADE ----------------------------------------------------------------------------------------------------------


def test_upgrade_changes_the_product_and_leaves_the_dates() -> None:
    license = after(a_license(), decided(a_license(), an_upgrade(expires_on=None)))

    assert (license.product, license.expires_on, license.revision, license.key_version) == ("Gold", MARCH, 2, 1)


def test_upgrade_to_the_product_held_changes_nothing() -> None:
    decision = decided(a_license(), an_upgrade(product="Bronze"))

    assert isinstance(decision.answer, CurrentBody)
    assert decision.events == ()


def test_upgrade_with_a_later_expiry_honors_it_and_warns() -> None:
    decision = decided(a_license(), an_upgrade(expires_on=APRIL))

    assert after(a_license(), decision).expires_on == APRIL
    assert [alert.kind for alert in decision.alerts] == [AlertKind.UPGRADE_MOVED_EXPIRY]


@pytest.mark.parametrize(
    ("held", "changes", "code"),
    [
        ("Gold", {"product": "Silver"}, RejectionCode.UPGRADE_NOT_OFFERED),
        ("Gold", {"product": "Bronze"}, RejectionCode.UPGRADE_NOT_OFFERED),
        ("NFR-Gold", {"product": "Gold"}, RejectionCode.UPGRADE_NOT_OFFERED),
        ("NFR-Bronze", {"product": "Gold"}, RejectionCode.UPGRADE_NOT_OFFERED),
        ("Gold", {"product": "NFR-Silver"}, RejectionCode.UPGRADE_NOT_OFFERED),
        ("Bronze", {"product": "Unheard"}, RejectionCode.PRODUCT_UNKNOWN),
        ("Bronze", {"test": True}, RejectionCode.TEST_FLAG_MISMATCH),
        ("Bronze", {"expires_on": MARCH - timedelta(days=1)}, RejectionCode.EXPIRY_EARLIER),
        ("Bronze", {"model": LicensingModel.REPORTING}, RejectionCode.MODEL_MISMATCH),
    ],
)
def test_upgrade_that_is_not_offered_is_rejected(held: str, changes: dict[str, object], code: RejectionCode) -> None:
    assert code_of(decided(a_license(product=held), an_upgrade(**changes))) is code


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("Bronze", "Silver"),
        ("Bronze", "Gold"),
        ("Silver", "Gold"),
        ("NFR-Bronze", "NFR-Gold"),
        ("Gold", "NFR-Gold"),
        ("Bronze", "NFR-Bronze"),
        ("Bronze", "NFR-Silver"),
        ("Bronze", "NFR-Gold"),
    ],
)
def test_every_edge_of_the_upgrade_model_is_offered(held: str, wanted: str) -> None:
    assert (
        after(a_license(product=held), decided(a_license(product=held), an_upgrade(product=wanted))).product == wanted
    )


@pytest.mark.parametrize(("held", "wanted"), [("NFR-Gold", "Gold"), ("NFR-Bronze", "Silver")])
def test_leaving_nfr_is_offered_only_where_it_is_switched_on(held: str, wanted: str) -> None:
    license = a_license(product=held)

    assert code_of(decided(license, an_upgrade(product=wanted))) is RejectionCode.UPGRADE_NOT_OFFERED
    assert code_of(decided(license, an_upgrade(product=wanted), nfr_to_regular_allowed=True)) is None


def test_nfr_twin_of_everything_above_is_in_reach() -> None:
    bronze = CATALOG.products["Bronze"]
    gold = CATALOG.products["Gold"]

    assert CATALOG.above("Bronze") == {"Silver", "Gold"}
    assert CATALOG.can_upgrade(Listed(bronze, nfr=False), Listed(gold, nfr=True), nfr_to_regular_allowed=False)


# --- TERMINATE --------------------------------------------------------------------------------------------------------


def test_terminate_of_a_number_never_issued_records_a_tombstone_and_alerts() -> None:
    decision = decided(None, a_terminate(product=None))

    assert after(None, decision).status is LicenseStatus.TERMINATED
    assert after(None, decision).revision == 0
    assert [alert.kind for alert in decision.alerts] == [AlertKind.TOMBSTONE_RECORDED]


def test_terminate_of_a_number_never_issued_can_be_an_error_by_policy() -> None:
    decision = decided(None, a_terminate(), terminate_unknown_is_error=True)

    assert code_of(decision) is RejectionCode.LICENSE_UNKNOWN
    assert decision.events == ()


def test_terminate_with_another_product_acts_and_tells_the_difference() -> None:
    decision = decided(a_license(), a_terminate(product="Gold"))

    assert after(a_license(), decision).status is LicenseStatus.TERMINATED
    assert [alert.kind for alert in decision.alerts] == [AlertKind.PRODUCT_DIFFERS]


def test_terminate_with_another_test_flag_is_rejected() -> None:
    assert code_of(decided(a_license(), a_terminate(test=True))) is RejectionCode.TEST_FLAG_MISMATCH


def test_terminate_without_test_flag_takes_the_stored_one() -> None:
    assert code_of(decided(a_license(test=True), a_terminate(test=None))) is None


# --- GET-INFO ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "asked", "code"),
    [
        ("CloudBackup", "CloudBackup", RejectionCode.USAGE_UNAVAILABLE),
        ("NFR-CloudBackup", "CloudBackup", RejectionCode.USAGE_UNAVAILABLE),
        ("CloudBackup", "NFR-CloudBackup", RejectionCode.USAGE_UNAVAILABLE),
        ("CloudBackup", "Bronze", RejectionCode.USAGE_NOT_REPORTED),
        ("Bronze", "Bronze", RejectionCode.USAGE_NOT_REPORTED),
        ("Bronze", "CloudBackup", RejectionCode.PRODUCT_MISMATCH),
        ("CloudBackup", "Unheard", RejectionCode.PRODUCT_UNKNOWN),
    ],
)
def test_usage_question_is_answered_only_for_the_reporting_product_held(
    held: str, asked: str, code: RejectionCode
) -> None:
    assert code_of(decided(a_license(product=held), a_usage_question(product=asked))) is code


# --- fingerprints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"purchase_on": date(2027, 2, 6)},
        {"subscription_on": None},
        {"reg_name": "other"},
        {"unknown_fields": ("X_CAMPAIGN",)},
        {"test": None},
    ],
)
def test_fingerprint_ignores_what_a_repeat_may_change(changes: dict[str, object]) -> None:
    assert fingerprint_of(a_purchase(**changes)) == fingerprint_of(a_purchase())


@pytest.mark.parametrize(
    "changes",
    [
        {"account": "other"},
        {"number": "481516"},
        {"product": "Gold"},
        {"model": LicensingModel.REPORTING},
        {"test": True},
        {"start_on": None},
        {"expires_on": APRIL},
        {"activation_data": "\x1f"},
    ],
)
def test_fingerprint_tells_different_operations_apart(changes: dict[str, object]) -> None:
    assert fingerprint_of(a_purchase(**changes)) != fingerprint_of(a_purchase())


def test_fingerprints_of_actions_differ() -> None:
    assert fingerprint_of(a_renew(expires_on=MARCH)) != fingerprint_of(an_upgrade(product="Bronze"))
