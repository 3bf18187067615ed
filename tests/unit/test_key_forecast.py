"""A dry run: it foretells what the modification itself would do or be refused with, and leaves nothing behind."""

import random
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from shared.contracts.key_commands import KeyReference, ModifyKey, PlanKey, WantedActivation, WantedItem
from shared.contracts.outcomes import RejectionCode
from shared.contracts.replies import KeyPlan, ReplyStatus
from shared.domain.catalog import FIRST_PROVIDER_ACCOUNT
from shared.domain.decision import Decision, KeyForecast, KnownRequest, Rejected
from shared.domain.events import KeyModified
from shared.domain.key_details import KeyItem, MonthlyActivations, ParentKey
from shared.domain.license import License, LicenseStatus
from shared.domain.open_operation import OpenOperation
from shared.domain.provisioning import ServerData
from tests.builders import a_purchase
from tests.key_builders import CODE_1, K1_ID, NOW, RULES, decided, k1, k2, modify
from tests.unit.test_key_provider_products import PRO, lite

ATTACHED = ParentKey(license_id=K1_ID, key_id=20240317, activation_code=CODE_1)
ENDED: dict[str, Any] = {"status": LicenseStatus.TERMINATED, "terminated_at": NOW}
NO_MORE = MonthlyActivations(month=date(2024, 3, 1), remaining=0)
SITES = (WantedItem(item="360-MON-1M"), WantedItem(item="360-MON-SITE-1M", quantity=5))
HOLDER = k2(
    license={"number": "20240500"}, key_id=20240500, activation_code="Z" * 34, address="203.0.113.7", uid="taken"
)


def planned(command: ModifyKey) -> PlanKey:
    plan = PlanKey(account=command.account, number=command.number, asked_by=command.asked_by, members=command.members)
    assert replace(plan.as_modification(), return_state=True) == command
    return plan


def forecast(on: License, *others: License, **given: Any) -> KeyPlan:
    decision = decided(planned(modify(on, **given)), on, *others)
    assert isinstance(decision.answer, KeyForecast), decision.answer
    assert (decision.events, decision.elsewhere, decision.order) == ((), {}, None)
    assert decision.answer.key_id == (on.key.key_id if on.key else 0)
    return decision.answer.plan


def told_of(decision: Decision) -> tuple[tuple[str, ...] | None, RejectionCode | None, dict[str, str]]:
    """What a decision on a modification really did or said: its operations, or its refusal."""
    if isinstance(decision.answer, Rejected):
        return None, decision.answer.code, dict(decision.answer.details)
    done = [event.operations for event in decision.events if isinstance(event, KeyModified)]
    return (done[0] if done else ()), None, {}


@pytest.mark.parametrize(
    ("on", "asked", "operations", "refusal"),
    [
        (k1(), {"owner_id": "unknown"}, ("MOVE",), RejectionCode.KEY_OWNER_UNSUITABLE),
        (k2(parent=ATTACHED), {"owner_id": "70010002"}, ("MOVE",), RejectionCode.KEY_PARENT_UNSUITABLE),
        (k1(purchased=True), {"terminated": True}, ("STATE",), RejectionCode.KEY_STATE_REFUSED),
        (k2(), {"items": (WantedItem(item="NOBODYS"),)}, ("UPGRADE",), RejectionCode.KEY_ITEM_UNKNOWN),
        (k1(), {"items": (WantedItem(item="360-MON-1M"),)}, ("UPGRADE",), RejectionCode.KEY_ITEMS_REFUSED),
        (
            k2(activations=NO_MORE),
            {"activation": WantedActivation(uid="a"), "nickname": "n"},
            ("ACTIVATE", "NICKNAME"),
            RejectionCode.KEY_ACTIVATION_REFUSED,
        ),
        (k2(), {"address": "203.0.113.7"}, ("IPBIND",), RejectionCode.KEY_ADDRESS_TAKEN),
        (k1(), {"restrict_address": True}, ("IPBIND",), RejectionCode.KEY_VALUE_INVALID),
        (k1(), {"configuration_id": 999}, ("CONFIG",), RejectionCode.KEY_CONFIGURATION_UNSUITABLE),
        (k2(), {"parent": KeyReference(key_id=1)}, ("PARENT",), RejectionCode.KEY_PARENT_UNSUITABLE),
        (k2(license={"suspended": True}), {"items": SITES}, ("UPGRADE",), RejectionCode.KEY_SUSPENDED),
        (k1(license=ENDED), {"nickname": "n"}, ("NICKNAME",), RejectionCode.KEY_TERMINATED),
        (k1(), {"guard": KeyReference(key_id=1), "nickname": "n"}, (), RejectionCode.KEY_GUARD_DIFFERS),
    ],
)
def test_every_precondition_is_foretold_with_what_the_request_itself_is_told(
    on: License, asked: dict[str, Any], operations: tuple[str, ...], refusal: RejectionCode
) -> None:
    plan = forecast(on, HOLDER, **asked)
    _, code, details = told_of(decided(modify(on, **asked), on, HOLDER))
    assert (plan.operations, plan.conflicts, plan.refusal) == (operations, (), refusal)
    assert (code, details) == (plan.refusal, plan.details)


def test_conflicts_are_told_in_pairs_and_as_the_refusal() -> None:
    plan = forecast(k1(), owner_id="70010002", address="203.0.113.9", nickname="n")
    assert (plan.operations, plan.conflicts) == ((), ("MOVE + IPBIND",))
    assert (plan.refusal, plan.details) == (RejectionCode.KEY_CONFLICT, {"pairs": "MOVE + IPBIND"})


CHANGES: dict[str, list[Any]] = {
    "owner_id": ["70010001", "70010002", "70010003", "80000001", "nobody"],
    "guard": [KeyReference(key_id=20240401), KeyReference(key_id=20240401), KeyReference(key_id=1), KeyReference()],
    "parent": [None, KeyReference(key_id=20240317), KeyReference(key_id=20240500)],
    "activation": [None, WantedActivation(uid="a"), WantedActivation(uid="taken")],
    "address": [None, "203.0.113.7", "203.0.113.8", "nowhere"],
    "restrict_address": [True, False],
    "nickname": [None, "", "n", "x" * 256],
    "configuration_id": [None, 501, 502, 777],
    "items": [None, (), SITES, (WantedItem(item="360-MON-1M"),), (WantedItem(item="Bronze"),)],
    "terminated": [True, False],
    "suspended": [True, False],
    "auto_renew": [True, False],
}
STORED = [
    k2(),
    k2(license=ENDED),
    k2(license={"suspended": True}),
    k2(parent=ATTACHED, address="203.0.113.8", restrict_address=True, uid="b"),
    k2(purchased=True, items=(KeyItem(item="360-MON-1M"), KeyItem(item="Old thing", unmatched=True))),
]


def test_whatever_is_asked_the_forecast_is_what_happens() -> None:
    chance, seen = random.Random(30), set()
    for _ in range(2000):
        on = chance.choice(STORED)
        wanted = chance.sample(sorted(CHANGES), k=chance.randrange(1, 5))
        asked = {name: chance.choice(CHANGES[name]) for name in wanted}
        operations, refusal, details = told_of(decided(modify(on, **asked), on, HOLDER, k1()))
        plan = forecast(on, HOLDER, k1(), **asked)
        assert (plan.refusal, plan.details) == (refusal, details), asked
        assert operations is None or plan.operations == operations, asked
        seen.add(refusal)
    assert len(seen) >= 12  # or else the cases show little


def test_an_order_upstream_is_foretold_and_none_is_given() -> None:
    command = planned(modify(lite(), items=PRO, nickname="n"))
    asked = decided(command, lite())
    assert isinstance(asked.answer, KeyForecast)
    assert (asked.answer.plan.operations, asked.answer.plan.refusal) == (("UPGRADE", "NICKNAME"), None)
    assert (asked.open, asked.order, asked.releases) == (None, None, ())

    closed = replace(RULES, provider_accounts={FIRST_PROVIDER_ACCOUNT: False})
    refused = decided(command, lite(), rules=closed)
    assert isinstance(refused.answer, KeyForecast)
    assert refused.answer.plan.refusal is RejectionCode.PROVIDER_UNAVAILABLE


def test_a_key_out_of_sight_is_as_unknown_as_ever() -> None:
    for on in (None, k1(owner="80000001"), k1(license={"key": None})):
        decision = decided(planned(modify(k1(), nickname="n")), on)
        assert isinstance(decision.answer, Rejected)
        assert decision.answer.code is RejectionCode.KEY_UNKNOWN


def test_neither_a_line_nor_an_earlier_name_stands_before_a_question() -> None:
    waiting = OpenOperation(command=a_purchase(), data=ServerData(), steps=())
    known = KnownRequest(body_sha256="ab" * 32, status=ReplyStatus.KEY_STATE, meta=b"1", body=b"")
    decision = decided(planned(modify(k1(), nickname="n")), k1(), open=waiting, known_request=known)
    assert isinstance(decision.answer, KeyForecast)
    assert (decision.answer.plan.operations, decision.open) == (("NICKNAME",), waiting)
