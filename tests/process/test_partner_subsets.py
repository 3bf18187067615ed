"""All 1,024 subsets of the ten operations against the running service.

Exactly the 272 without a conflict are carried out, in order of priority and completely; the other 752 are refused,
naming all their pairs, and change nothing (docs/protocols/partner-api.md 5.3, 5.4).
"""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from tests.process.partner_client import MONITORING, SITES, Key, Partner
from tests.process.whole_stack import TEST_SECONDS, WholeStack

pytestmark = [pytest.mark.process, pytest.mark.asyncio, pytest.mark.timeout(TEST_SECONDS)]

MATRIX_ORDER = (
    "MOVE",
    "STATE",
    "ACTIVATE",
    "PARENT",
    "UPGRADE",
    "IPBIND",
    "CONFIG",
    "REBUILD",
    "NICKNAME",
    "AUTORENEW",
)
EXECUTION = (
    "MOVE",
    "STATE",
    "UPGRADE",
    "ACTIVATE",
    "IPBIND",
    "CONFIG",
    "PARENT",
    "REBUILD",
    "NICKNAME",
    "AUTORENEW",
)
HEAVY = {"ACTIVATE", "PARENT", "UPGRADE", "IPBIND", "CONFIG"}
AT_ONCE = 16
Subset = tuple[str, ...]


def pairs_of(subset: Subset) -> list[str]:
    """The conflicting pairs, written down anew: MOVE and STATE with each other, each with the five in the middle."""
    return [
        f"{first} + {second}"
        for first, second in itertools.combinations(subset, 2)
        if (first in {"MOVE", "STATE"} and second in HEAVY) or (first, second) == ("MOVE", "STATE")
    ]


SUBSETS = [subset for size in range(11) for subset in itertools.combinations(MATRIX_ORDER, size)]
ALLOWED = [subset for subset in SUBSETS if not pairs_of(subset)]
REFUSED = [subset for subset in SUBSETS if pairs_of(subset)]


@dataclass(frozen=True)
class Wanted:
    """One request: which operations it amounts to for a fresh additional key."""

    subset: Subset
    place: int
    parent: Key | None

    @property
    def body(self) -> dict[str, Any]:
        """The members, in matrix order; one that changes nothing stands in every request, so that none is empty."""
        return {"ownerSuspended": False, **dict(self._members())}

    def _members(self) -> Iterable[tuple[str, Any]]:
        reference = {"externalId": "S-2"} if "REBUILD" in self.subset else {}
        items = [{"item": MONITORING, **reference}]
        if "UPGRADE" in self.subset:
            items.append({"item": SITES, "quantity": "3"})
        plain = {
            "MOVE": ("ownerId", "10002"),
            "STATE": ("suspended", True),
            "ACTIVATE": ("activationInfo", {"uid": f"subset-{self.place}@example.org"}),
            "PARENT": ("parentKeyIdentifiers", {"keyId": self.parent.id if self.parent else 0}),
            "IPBIND": ("ipAddressBinding", self.address),
            "CONFIG": ("productConfigurationId", 102),
            "NICKNAME": ("nickname", f"subset {self.place}"),
            "AUTORENEW": ("autoRenew", 0),
        }
        yield from (plain[operation] for operation in self.subset if operation in plain)
        if {"UPGRADE", "REBUILD"} & set(self.subset):
            yield "items", items

    @property
    def address(self) -> str:
        return f"2001:db8:6b::{self.place + 1:x}"

    def expected(self, before: dict[str, Any]) -> dict[str, Any]:
        """The structure after it, but for `lastModificationDate`."""
        after = json.loads(json.dumps(before))
        plain = {
            "MOVE": {"ownerId": "10002", "productConfigurationId": 201},
            "STATE": {"suspended": True, "status": "SUSPENDED"},
            "ACTIVATE": {"activationInfo": {"uid": f"subset-{self.place}@example.org", "activated": True}},
            "PARENT": {"parentKeyIdentifiers": self.parent.structure["keyIdentifiers"] if self.parent else None},
            "IPBIND": {"ipAddressBinding": self.address},
            "CONFIG": {"productConfigurationId": 102},
            "NICKNAME": {"nickname": f"subset {self.place}"},
            "AUTORENEW": {"autoRenew": False},
        }
        for operation in self.subset:
            after |= plain.get(operation, {})
        if "UPGRADE" in self.subset:
            number = before["keyIdentifiers"]["keyNumber"]
            after["keyIdentifiers"]["keyNumber"] = number.removesuffix("0000") + "0001"
            after["items"].append({"externalId": None, "item": SITES, "quantity": 3})
        if "REBUILD" in self.subset:
            after["items"][0]["externalId"] = "S-2"
        return after


@pytest.fixture
def partner(stack: WholeStack) -> Partner:
    return Partner.of(stack.state)


async def each_of(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do all, so many at once; results in order."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(work: Callable[[], Any]) -> Any:
        async with room:
            return await work()

    return await asyncio.gather(*(one(work) for work in works))


async def test_every_subset_with_a_conflict_is_refused_with_all_its_pairs_and_changes_nothing(partner: Partner) -> None:
    assert (len(SUBSETS), len(ALLOWED), len(REFUSED)) == (1024, 272, 752)
    key, parent = await partner.make(MONITORING), await partner.make()
    before = await partner.read(key)

    async def refused(place: int, subset: Subset) -> tuple[Any, Any]:
        wanted = Wanted(subset, place, parent)
        told = await partner.put(key, wanted.body)
        return told.error, (400, "30010", f"Conflicting operations: {'; '.join(pairs_of(subset))}.")

    works = [lambda place=place, subset=subset: refused(place, subset) for place, subset in enumerate(REFUSED)]
    for told, expected in await each_of(works):
        assert told == expected
    assert await partner.read(key) == before
    assert (await partner.read(parent))["childKeyIdentifiers"] == []


async def test_every_subset_without_a_conflict_is_carried_out_completely_and_in_order(
    partner: Partner, stack: WholeStack
) -> None:
    wanted: list[Wanted] = []

    async def carried_out(place: int, subset: Subset) -> None:
        parent = await partner.make() if "PARENT" in subset else None
        key = await partner.make(MONITORING)
        each = Wanted(subset, place, parent)
        wanted.append(each)
        plan = await partner.put(key, each.body, "?dry-run=1")
        order = [operation for operation in EXECUTION if operation in subset]
        assert plan.document == {"operations": order, "conflicts": [], "refusal": None}, subset
        told = await partner.put(key, each.body, "?return-key-state=1")
        assert told.status == 200, (subset, told)
        after, expected = told.document, each.expected(key.structure)
        expected["lastModificationDate"] = after["lastModificationDate"]
        assert after == expected, subset
        if not subset:
            assert after == key.structure
        events[key.id] = order

    events: dict[int, list[str]] = {}
    await each_of(
        [lambda place=place, subset=subset: carried_out(place, subset) for place, subset in enumerate(ALLOWED)]
    )
    assert len(wanted) == 272
    told = await operations_told(stack, list(events))
    for key_id, order in events.items():
        assert told.get(key_id, []) == order


async def operations_told(stack: WholeStack, key_ids: list[int]) -> dict[int, list[str]]:
    """The operations that the public events of each key tell, in order of their sequence."""
    connection = await asyncpg.connect(stack.now().database)
    try:
        rows = await connection.fetch(
            "SELECT l.key_id, o.value FROM outbox AS o JOIN license AS l USING (license_id)"
            " WHERE l.key_id = ANY($1) AND o.sequence > 1 ORDER BY l.key_id, o.sequence",
            key_ids,
        )
    finally:
        await connection.close()
    told: dict[int, list[str]] = {}
    for row in rows:
        event = json.loads(row["value"])
        if event["type"] == "keyway.license.modified":
            assert row["key_id"] not in told  # one event tells the whole request
            told[row["key_id"]] = event["data"]["operations"]
    return told
