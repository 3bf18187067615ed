"""The world of the Partner API's worked examples: owners, keys K1 and K2, requests. Literals stay in the tests."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from shared.catalog_file import read_catalog_file
from shared.contracts.commands import LicensingModel
from shared.contracts.identifiers import LicenseId
from shared.contracts.key_commands import (
    CreateKey,
    KeyCommand,
    KeyMember,
    KeyMembers,
    KeyReference,
    ModifyKey,
    PlanKey,
    WantedActivation,
    WantedItem,
)
from shared.domain.case import Case, Rules
from shared.domain.catalog import Catalog
from shared.domain.catalog_check import check_catalog
from shared.domain.decide import decide
from shared.domain.decision import Decision, KeyState, Rejected
from shared.domain.key_details import KeyDetails, KeyItem
from shared.domain.key_modification import KeyOperation
from shared.domain.key_owners import LinkedAccount, Owner, OwnerBook, OwnerKind
from shared.domain.key_structure import full_structure
from shared.domain.license import License, LicenseStatus, evolve

NOW = datetime(2024, 3, 20, 12, tzinfo=UTC)
CREATED = datetime(2024, 3, 5, 10, 15, 30, 120_000, tzinfo=UTC)
CODE_1 = "QK10A7-ZZ81MM-04TB5X-PL9W2C-7HD3RE"
CODE_2 = "AAAAAA-BBBBBB-CCCCCC-DDDDDD-EEEEEE"
K1_ID = LicenseId("partner:20240317")
K2_ID = LicenseId("partner:20240401")
EXAMPLE_CATALOG = Path(__file__).parents[1] / "deploy" / "catalog" / "example.yaml"
_CHECKED = check_catalog(read_catalog_file(EXAMPLE_CATALOG), version=1)
assert isinstance(_CHECKED, Catalog)
CATALOG = _CHECKED
RULES = Rules(catalog=CATALOG)
OWNERS = OwnerBook(
    owners={
        owner.owner_id: owner
        for owner in (
            Owner(owner_id="70000000", kind=OwnerKind.RESELLER),
            Owner(
                owner_id="70010001",
                reseller="70000000",
                default_configuration=501,
                configurations=frozenset({501, 502}),
            ),
            Owner(owner_id="70010002", reseller="70000000", default_configuration=777, configurations=frozenset({777})),
            Owner(owner_id="70010003", reseller="70000000", suspended=True),
            Owner(owner_id="80000001"),
        )
    },
    accounts={
        "partner": LinkedAccount(account="partner", owner="70000000", default_client="70010001"),
        "stranger": LinkedAccount(account="stranger", owner="80000001"),
        "ka": LinkedAccount(account="ka", owner="70010001"),
    },
)


def details(**changes: Any) -> KeyDetails:
    """The details of K1."""
    plain = KeyDetails(
        key_id=20240317,
        activation_code=CODE_1,
        owner="70010001",
        configuration=501,
        items=(KeyItem(item="PLESK-12-WEB-ADMIN-1M", external_id="S-1"),),
        family="plesk",
        created_at=CREATED,
        modified_at=CREATED,
        update_on=date(2024, 4, 5),
        sus_expires_on=date(2024, 4, 15),
    )
    return replace(plain, **changes)


def k1(*, license: Mapping[str, Any] | None = None, **key: Any) -> License:
    """K1 of the examples, with changes of its details and of the license itself."""
    plain = License(
        account="partner",
        number="20240317",
        product="PLESK-12-WEB-ADMIN-1M",
        model=LicensingModel.STANDARD,
        status=LicenseStatus.ACTIVE,
        subscription_on=date(2024, 3, 5),
        start_on=date(2024, 3, 5),
        purchase_on=date(2024, 3, 5),
        expires_on=date(2024, 4, 15),
        revision=1,
        sequence=1,
        key=details(**key),
    )
    return replace(plain, **(license or {}))


def k2(*, license: Mapping[str, Any] | None = None, **key: Any) -> License:
    """K2 of the examples: an additional key that can be activated and attached."""
    changes: dict[str, Any] = {
        "key_id": 20240401,
        "activation_code": CODE_2,
        "items": (KeyItem(item="360-MON-1M"),),
        "family": "360-monitoring",
        "activatable": True,
        "sus_expires_on": None,
        **key,
    }
    return k1(license={"number": "20240401", "product": "360-MON-1M", **(license or {})}, **changes)


def members(**given: Any) -> KeyMembers:
    """Members as a request gives them: everything named here is there, also what is None."""
    return KeyMembers(given=tuple(KeyMember(name) for name in given), **given)


def modify(on: License, **given: Any) -> ModifyKey:
    """A PUT on a key, asking for the state in the answer."""
    return ModifyKey(
        account=on.account, number=on.number, asked_by="partner", members=members(**given), return_state=True
    )


def a_create(**given: Any) -> CreateKey:
    """A POST; one plain item unless said otherwise."""
    given.setdefault("items", (WantedItem(item="PLESK-12-WEB-ADMIN-1M", external_id="S-1", external_id_given=True),))
    return CreateKey(
        account="partner", number="20240317", asked_by="partner", members=members(**given), return_state=True
    )


def decided(
    command: KeyCommand | PlanKey,
    on: License | None,
    *others: License,
    now: datetime = NOW,
    owners: OwnerBook = OWNERS,
    rules: Rules = RULES,
    **case: Any,
) -> Decision:
    """Decide a partner's command on a key, with other keys around."""
    related = {other.license_id: other for other in others}
    return decide(
        Case(license=on, related=related, owners=owners, activation_code=CODE_1, **case), command, rules, now=now
    )


def after(on: License | None, decision: Decision) -> License:
    """The key as the decision leaves it."""
    for event in decision.events:
        on = evolve(on, event)
    assert on is not None
    return on


def structure(decision: Decision, now: datetime = NOW) -> dict[str, Any]:
    """The key structure that a decision answers with."""
    assert isinstance(decision.answer, KeyState), decision.answer
    return full_structure(decision.answer.view, now)


def refusal(decision: Decision) -> tuple[str, dict[str, str]]:
    """Code and details of a refusal; a refusal leaves nothing behind."""
    assert isinstance(decision.answer, Rejected), decision.answer
    assert decision.events == ()
    assert decision.elsewhere == {}
    return decision.answer.code.value, dict(decision.answer.details)


CHANGES: Mapping[KeyOperation, Mapping[str, Any]] = {
    KeyOperation.MOVE: {"owner_id": "70010002"},
    KeyOperation.STATE: {"suspended": True},
    KeyOperation.ACTIVATE: {"activation": WantedActivation(uid="ops@example.org", activated=True)},
    KeyOperation.PARENT: {"parent": KeyReference(key_id=20240317)},
    KeyOperation.IPBIND: {"address": "203.0.113.7"},
    KeyOperation.CONFIG: {"configuration_id": 502},
    KeyOperation.NICKNAME: {"nickname": "eu-7"},
    KeyOperation.AUTORENEW: {"auto_renew": False},
}
"""For each operation but those of `items`, the members that ask for it on K2."""


def request_for(operations: frozenset[KeyOperation]) -> dict[str, Any]:
    """Return members that amount to exactly these operations on K2, which holds one item without reference."""
    given = {name: value for each in operations if each in CHANGES for name, value in CHANGES[each].items()}
    items = []
    if KeyOperation.REBUILD in operations:
        items.append(WantedItem(item="360-MON-1M", external_id="S-9", external_id_given=True))
    elif KeyOperation.UPGRADE in operations:
        items.append(WantedItem(item="360-MON-1M"))
    if KeyOperation.UPGRADE in operations:
        items.append(WantedItem(item="360-MON-SITE-1M", quantity=5))
    return {**given, "items": tuple(items)} if items else given
