"""The planner of key modification: every subset of the ten operations, every pair's order, every field's difference."""

from itertools import chain, combinations

import pytest

from shared.contracts.key_commands import KeyReference, WantedActivation, WantedItem
from shared.domain.key_details import KeyItem, ParentKey
from shared.domain.key_modification import (
    CONFLICTS,
    KeyOperation,
    Plan,
    canonical_address,
    conflicts_in,
    guard_fits,
    in_order,
    plan,
)
from shared.domain.key_requests import view_of
from shared.domain.license import License, LicenseStatus
from tests.key_builders import CODE_1, CODE_2, K1_ID, NOW, OWNERS, after, decided, k1, k2, members, modify, refusal
from tests.key_builders import request_for as members_for

SUBSETS = [
    frozenset(subset)
    for subset in chain.from_iterable(combinations(KeyOperation, size) for size in range(len(KeyOperation) + 1))
]
CONFLICTING = [
    "MOVE + STATE", "MOVE + ACTIVATE", "MOVE + PARENT", "MOVE + UPGRADE", "MOVE + IPBIND", "MOVE + CONFIG",
    "STATE + ACTIVATE", "STATE + PARENT", "STATE + UPGRADE", "STATE + IPBIND", "STATE + CONFIG",
]  # fmt: skip
"""The eleven pairs that the vendor's table marks, in its order."""
EXECUTED = ["MOVE", "STATE", "UPGRADE", "ACTIVATE", "IPBIND", "CONFIG", "PARENT", "REBUILD", "NICKNAME", "AUTORENEW"]


def planned(on: License, **given: object) -> Plan:
    return plan(view_of(on, on.key, {}, OWNERS), members(**given), default_configuration=501)  # type: ignore[arg-type] # it has a key


def named(operations: tuple[KeyOperation, ...]) -> list[str]:
    return [operation.value for operation in operations]


def test_the_matrix_is_symmetric_and_has_eleven_pairs() -> None:
    assert all((second, first) in CONFLICTS for first, second in CONFLICTS)
    assert len(CONFLICTS) == 22
    assert [f"{a} + {b}" for a, b in combinations(KeyOperation, 2) if (a, b) in CONFLICTS] == CONFLICTING


def test_every_subset_is_refused_naming_all_its_pairs_or_carried_out_in_order() -> None:
    free = 0
    for subset in SUBSETS:
        expected = [pair for pair in CONFLICTING if set(pair.split(" + ")) <= {each.value for each in subset}]
        decision = decided(modify(k2(), **members_for(subset)), k2(), k1())
        if expected:
            assert refusal(decision) == ("key_conflict", {"pairs": "; ".join(expected)})
            continue
        free += 1
        told = [event.operations for event in decision.events if hasattr(event, "operations")]
        in_sequence = tuple(name for name in EXECUTED if name in {each.value for each in subset})
        assert told == ([in_sequence] if subset else [])
    assert (len(SUBSETS), free) == (1024, 272)


def test_two_compatible_operations_stand_in_order_of_priority_whatever_their_order_in_the_set() -> None:
    for first, second in combinations(KeyOperation, 2):
        if conflicts_in([first, second]):
            continue
        expected = sorted([first.value, second.value], key=EXECUTED.index)
        assert named(in_order([first, second])) == expected
        assert named(in_order([second, first])) == expected


def test_the_members_of_each_operation_amount_to_it_alone() -> None:
    for operation in KeyOperation:
        found = planned(k2(), **members_for(frozenset({operation})))
        assert (named(found.operations), found.conflicts) == ([operation.value], ())


ACTIVATED = {"uid": "ops@example.org"}
ATTACHED = {"parent": ParentKey(license_id=K1_ID, key_id=20240317, activation_code=CODE_1)}
BOUND = {"address": "203.0.113.7"}
TWO = (KeyItem(item="PLESK-12-WEB-ADMIN-1M", external_id="S-1"), KeyItem(item="FT-PLESK-5-LANGUAGE-PACKS-1M"))


@pytest.mark.parametrize(
    ("stored", "given", "expected"),
    [
        ({}, {}, []),
        ({}, {"owner_id": "70010001"}, []),
        ({}, {"owner_id": "70010002"}, ["MOVE"]),
        ({}, {"suspended": False, "terminated": False}, []),
        ({}, {"terminated": True}, ["STATE"]),
        ({}, {"activation": None}, []),
        ({}, {"activation": WantedActivation(uid=None, activated=False)}, []),
        ({}, {"activation": WantedActivation(uid="a")}, ["ACTIVATE"]),
        (ACTIVATED, {"activation": WantedActivation(uid="ops@example.org")}, []),
        (ACTIVATED, {"activation": WantedActivation(uid="ops@example.org", activated=True)}, []),
        (ACTIVATED, {"activation": WantedActivation(uid="other")}, ["ACTIVATE"]),
        (ACTIVATED, {"activation": WantedActivation(uid="ops@example.org", activated=False)}, ["ACTIVATE"]),
        (ACTIVATED, {"activation": None}, ["ACTIVATE"]),
        ({}, {"parent": None}, []),
        ({}, {"parent": KeyReference(key_id=1)}, ["PARENT"]),
        (ATTACHED, {"parent": None}, ["PARENT"]),
        (ATTACHED, {"parent": KeyReference(key_id=20240317)}, []),
        (ATTACHED, {"parent": KeyReference(key_number="PLSK.20240317.0042")}, []),
        (ATTACHED, {"parent": KeyReference(activation_code=CODE_1.lower())}, []),
        (ATTACHED, {"parent": KeyReference(key_id=20240317, activation_code=CODE_2)}, ["PARENT"]),
        (ATTACHED, {"parent": KeyReference(key_id=20240318)}, ["PARENT"]),
        ({}, {"items": (WantedItem(item="PLESK-12-WEB-ADMIN-1M"),)}, []),
        ({}, {"items": (WantedItem(item="PLESK-12-WEB-ADMIN-1M", quantity=2),)}, ["UPGRADE"]),
        (
            {},
            {"items": (WantedItem(item="PLESK-12-WEB-PRO-1M", external_id="x", external_id_given=True),)},
            ["UPGRADE"],
        ),
        ({}, {"items": (WantedItem(item="PLESK-12-WEB-ADMIN-1M", external_id="S-1", external_id_given=True),)}, []),
        ({}, {"items": (WantedItem(item="PLESK-12-WEB-ADMIN-1M", external_id_given=True),)}, ["REBUILD"]),
        ({}, {"items": None}, ["REBUILD"]),
        ({"items": TWO}, {"items": tuple(WantedItem(item=each.item) for each in reversed(TWO))}, []),
        ({"items": TWO}, {"items": (WantedItem(item=TWO[0].item),)}, ["UPGRADE"]),
        ({}, {"address": None}, []),
        ({}, {"address": "203.0.113.7"}, ["IPBIND"]),
        ({"address": "2001:db8::17"}, {"address": "2001:0DB8:0::0017"}, []),
        (BOUND, {"address": None}, ["IPBIND"]),
        (BOUND, {"restrict_address": True}, ["IPBIND"]),
        (BOUND, {"address": "203.0.113.8", "restrict_address": True}, ["IPBIND"]),
        ({}, {"restrict_address": False}, []),
        ({}, {"configuration_id": 501}, []),
        ({}, {"configuration_id": None}, []),
        ({}, {"configuration_id": 502}, ["CONFIG"]),
        ({"configuration": 502}, {"configuration_id": None}, ["CONFIG"]),
        ({}, {"nickname": None}, []),
        ({"nickname": "a"}, {"nickname": None}, ["NICKNAME"]),
        ({}, {"nickname": "a"}, ["NICKNAME"]),
        ({}, {"auto_renew": True}, []),
        ({}, {"auto_renew": False}, ["AUTORENEW"]),
        ({}, {"guard": KeyReference(key_id=1)}, []),
    ],
)
def test_only_what_is_given_and_differs_yields_its_operation(
    stored: dict[str, object], given: dict[str, object], expected: list[str]
) -> None:
    assert named(planned(k1(**stored), **given).operations) == expected


def test_upgrade_and_rebuild_may_come_from_one_list_of_items() -> None:
    wanted = (WantedItem(item=TWO[0].item, external_id_given=True), WantedItem(item=TWO[1].item))
    assert named(planned(k1(), items=wanted).operations) == ["UPGRADE", "REBUILD"]


def test_terminate_and_suspend_together_are_one_operation_with_two_targets() -> None:
    assert planned(k1(), terminated=True, suspended=True).conflict_text == "STATE + STATE"
    assert planned(k1(), terminated=True, suspended=True, owner_id="70010002").conflict_text == (
        "MOVE + STATE; STATE + STATE"
    )
    assert planned(k1(license={"suspended": True}), terminated=True, suspended=True).conflicts == ()


def test_bringing_a_terminated_key_back_counts_as_state_and_is_refused_as_terminated() -> None:
    on = k1(license={"status": LicenseStatus.TERMINATED, "terminated_at": NOW})
    assert named(planned(on, terminated=False).operations) == ["STATE"]
    assert refusal(decided(modify(on, terminated=False), on))[0] == "key_terminated"
    assert refusal(decided(modify(on, terminated=False, address="203.0.113.7"), on))[0] == "key_conflict"


@pytest.mark.parametrize(
    ("guard", "fits"),
    [
        (KeyReference(), False),
        (KeyReference(key_id=20240317), True),
        (KeyReference(key_number="PLSK.20240317.0000"), True),
        (KeyReference(key_number="PLSK.20240317.0001"), False),
        (KeyReference(key_id=20240317, activation_code=CODE_1), True),
        (KeyReference(key_id=20240317, activation_code=CODE_2), False),
        (KeyReference(activation_code=CODE_1.lower()), False),
    ],
)
def test_guard_compares_every_identifier_literally(guard: KeyReference, fits: bool) -> None:  # noqa: FBT001 - a table
    on = k1()
    assert on.key is not None
    assert guard_fits(view_of(on, on.key, {}, OWNERS), guard) is fits


def test_addresses_have_one_form() -> None:
    assert canonical_address("2001:0DB8::0:17") == "2001:db8::17"
    assert canonical_address("203.0.113.7") == "203.0.113.7"
    assert canonical_address("203.0.113.0/24") is None
    assert canonical_address("fe80::1%eth0") is None


def test_a_later_operation_sees_what_an_earlier_one_did() -> None:
    """PARENT is judged by the items after UPGRADE, ACTIVATE by the product after it."""
    lone = k2(items=(KeyItem(item="360-MON-1M"), KeyItem(item="360-MON-SRV-1M", quantity=3)))
    wanted = (WantedItem(item="360-MON-1M"), WantedItem(item="360-MON-SITE-1M", quantity=2))
    command = modify(lone, items=wanted, parent=KeyReference(key_id=20240317))
    done = after(lone, decided(command, lone, k1()))
    assert done.key is not None
    assert done.key.parent is not None
    assert [each.item for each in done.key.items] == ["360-MON-1M", "360-MON-SITE-1M"]
