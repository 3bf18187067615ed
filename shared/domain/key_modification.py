"""The planner of "Modifying a License Key": from the members of a request to operations, conflicts and order.

docs/protocols/partner-api.md 5. Four steps, each a function of its own: find the set of operations by comparing the
request with the stored key (`wanted_operations`), check the set for conflicts (`conflicts_in`), sort it by priority
(`in_order`); executing it is `key_operations`' business. `plan` does the three together and so is the dry run.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Final

from shared.contracts.key_commands import KeyMember, KeyMembers, KeyReference
from shared.domain.key_details import key_id_in
from shared.domain.key_structure import KeyView
from shared.domain.provider_operation import address_of


class KeyOperation(StrEnum):
    """The ten operations, in the order of the conflict matrix (partner-api 5.2)."""

    MOVE = "MOVE"
    STATE = "STATE"
    ACTIVATE = "ACTIVATE"
    PARENT = "PARENT"
    UPGRADE = "UPGRADE"
    IPBIND = "IPBIND"
    CONFIG = "CONFIG"
    REBUILD = "REBUILD"
    NICKNAME = "NICKNAME"
    AUTORENEW = "AUTORENEW"


CONFLICT_MATRIX: Final = """
| Conflicting? | MOVE | STATE | ACTIVATE | PARENT | UPGRADE | IPBIND | CONFIG | REBUILD | NICKNAME | AUTORENEW |
|--------------|------|-------|----------|--------|---------|--------|--------|---------|----------|-----------|
| MOVE         | N/A  | yes   | yes      | yes    | yes     | yes    | yes    | no      | no       | no        |
| STATE        | yes  | N/A   | yes      | yes    | yes     | yes    | yes    | no      | no       | no        |
| ACTIVATE     | yes  | yes   | N/A      | no     | no      | no     | no     | no      | no       | no        |
| PARENT       | yes  | yes   | no       | N/A    | no      | no     | no     | no      | no       | no        |
| UPGRADE      | yes  | yes   | no       | no     | N/A     | no     | no     | no      | no       | no        |
| IPBIND       | yes  | yes   | no       | no     | no      | N/A    | no     | no      | no       | no        |
| CONFIG       | yes  | yes   | no       | no     | no      | no     | N/A    | no      | no       | no        |
| REBUILD      | no   | no    | no       | no     | no      | no     | no     | N/A     | no       | no        |
| NICKNAME     | no   | no    | no       | no     | no      | no     | no     | no      | N/A      | no        |
| AUTORENEW    | no   | no    | no       | no     | no      | no     | no     | no      | no       | N/A       |
"""
"""partner-api 5.3, word for word: `yes` = the two may not occur in one request. Read once, by `_read_matrix`."""

PRIORITIES: Final[Mapping[KeyOperation, int]] = {
    KeyOperation.MOVE: 1,
    KeyOperation.STATE: 1,
    KeyOperation.UPGRADE: 2,
    KeyOperation.ACTIVATE: 3,
    KeyOperation.IPBIND: 4,
    KeyOperation.CONFIG: 5,
    KeyOperation.PARENT: 6,
    KeyOperation.REBUILD: 7,
    KeyOperation.NICKNAME: 8,
    KeyOperation.AUTORENEW: 9,
}
"""partner-api 5.4: 1 is executed first. MOVE and STATE share a place because they never come together."""

Pair = tuple[KeyOperation, KeyOperation]


def _read_matrix(matrix: str) -> frozenset[Pair]:
    """Return the conflicting pairs of a matrix, each in the order of its rows."""
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in matrix.strip().splitlines())
    return frozenset(
        (KeyOperation(row[0]), KeyOperation(column))
        for row in rows
        for column, cell in zip(head[1:], row[1:], strict=True)
        if cell == "yes"
    )


CONFLICTS: Final = _read_matrix(CONFLICT_MATRIX)
"""Ordered pairs that conflict; both directions stand in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a request amounts to, before any precondition is asked."""

    operations: tuple[KeyOperation, ...]
    """In order of execution; when there are conflicts, in the order in which they would stand."""
    conflicts: tuple[Pair, ...]
    """In matrix order."""

    @property
    def conflict_text(self) -> str:
        """The conflicting pairs as people read them: `MOVE + UPGRADE; MOVE + IPBIND`."""
        return "; ".join(f"{first} + {second}" for first, second in self.conflicts)


def conflicts_in(operations: Collection[KeyOperation]) -> tuple[Pair, ...]:
    """Return every conflicting pair of a set, pairs and operations within them in matrix order."""
    listed = [operation for operation in KeyOperation if operation in operations]
    return tuple(pair for pair in combinations(listed, 2) if pair in CONFLICTS)


def in_order(operations: Collection[KeyOperation]) -> tuple[KeyOperation, ...]:
    """Return a set of operations in order of execution."""
    return tuple(sorted((each for each in KeyOperation if each in operations), key=PRIORITIES.__getitem__))


def guard_fits(view: KeyView, guard: KeyReference) -> bool:
    """Whether `keyIdentifiers` of a request name this key: at least one, each literally as stored (partner-api 4)."""
    name = view.name
    compared = (
        (guard.key_id, name.key_id),
        (guard.key_number, name.number),
        (guard.activation_code, name.activation_code),
    )
    given = [(wanted, stored) for wanted, stored in compared if wanted is not None]
    return bool(given) and all(wanted == stored for wanted, stored in given)


def names_key(reference: KeyReference, key_id: int, activation_code: str) -> bool:
    """Whether a request's identifiers of a parent all name this key, whatever the version; at least one is needed."""
    given = (
        (reference.key_id, key_id),
        (None if reference.key_number is None else key_id_in(reference.key_number) or 0, key_id),
        (None if reference.activation_code is None else reference.activation_code.upper(), activation_code.upper()),
    )
    named = [(wanted, stored) for wanted, stored in given if wanted is not None]
    return bool(named) and all(wanted == stored for wanted, stored in named)


def canonical_address(text: str) -> str | None:
    """Return an address in the one form in which it is stored and compared, None for what is none."""
    address = address_of(text)
    return None if address is None else str(address)


def _changes_owner(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    return members.owner_id != view.details.owner


def _changes_suspension(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    return members.suspended != view.suspended


def _changes_end(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    return members.terminated != view.terminated


def _changes_activation(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    uid, wanted = view.details.uid, members.activation
    if wanted is None or wanted.activated is False:
        return uid is not None
    return uid is None or (wanted.uid is not None and wanted.uid != uid)


def _changes_parent(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    parent, wanted = view.details.parent, members.parent
    if wanted is None or parent is None:
        return (wanted is None) != (parent is None)
    return not names_key(wanted, parent.key_id, parent.activation_code)


def _changes_items(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    if members.items is None:
        return False
    stored = Counter((each.item, each.quantity) for each in view.details.items)
    return stored != Counter((each.item, each.quantity) for each in members.items)


def _changes_references(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    if members.items is None:
        return True
    stored = {each.item: each.external_id for each in view.details.items}
    return any(
        each.external_id_given and each.item in stored and each.external_id != stored[each.item]
        for each in members.items
    )


def _changes_address(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    stored, wanted = view.details.address, members.address
    return stored is not None if wanted is None else (canonical_address(wanted) or wanted) != stored


def _changes_restriction(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    return members.restrict_address != view.details.restrict_address


def _changes_configuration(view: KeyView, members: KeyMembers, default_configuration: int | None) -> bool:
    wanted = default_configuration if members.configuration_id is None else members.configuration_id
    return wanted != view.details.configuration


def _changes_nickname(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    return (members.nickname or "") != view.details.nickname


def _changes_renewal(view: KeyView, members: KeyMembers, _: int | None) -> bool:
    return members.auto_renew != view.details.auto_renew


Difference = Callable[[KeyView, KeyMembers, int | None], bool]

DIFFERENCES: Final[tuple[tuple[KeyMember, Difference, KeyOperation], ...]] = (
    (KeyMember.OWNER, _changes_owner, KeyOperation.MOVE),
    (KeyMember.SUSPENDED, _changes_suspension, KeyOperation.STATE),
    (KeyMember.TERMINATED, _changes_end, KeyOperation.STATE),
    (KeyMember.ACTIVATION, _changes_activation, KeyOperation.ACTIVATE),
    (KeyMember.PARENT, _changes_parent, KeyOperation.PARENT),
    (KeyMember.ITEMS, _changes_items, KeyOperation.UPGRADE),
    (KeyMember.ITEMS, _changes_references, KeyOperation.REBUILD),
    (KeyMember.ADDRESS, _changes_address, KeyOperation.IPBIND),
    (KeyMember.RESTRICT_ADDRESS, _changes_restriction, KeyOperation.IPBIND),
    (KeyMember.CONFIGURATION, _changes_configuration, KeyOperation.CONFIG),
    (KeyMember.NICKNAME, _changes_nickname, KeyOperation.NICKNAME),
    (KeyMember.AUTO_RENEW, _changes_renewal, KeyOperation.AUTORENEW),
)
"""partner-api 5.5: a member that is given and differs yields its operation. The guard and all others yield none."""


def wanted_operations(
    view: KeyView, members: KeyMembers, *, default_configuration: int | None
) -> frozenset[KeyOperation]:
    """Return the set of operations by difference: what is omitted or equal yields none (partner-api 5.5)."""
    return frozenset(
        operation
        for member, differs, operation in DIFFERENCES
        if member in members.given and differs(view, members, default_configuration)
    )


def plan(view: KeyView, members: KeyMembers, *, default_configuration: int | None) -> Plan:
    """Return the operations to which a request amounts for the stored key, and what of them conflicts.

    `default_configuration` is the one of the key's owner. A request that would both terminate and suspend (or resume)
    names one operation with two targets: `STATE + STATE` stands among its conflicts (partner-api 5.5).
    """
    operations = wanted_operations(view, members, default_configuration=default_configuration)
    conflicts = conflicts_in(operations)
    both = {KeyMember.SUSPENDED, KeyMember.TERMINATED}
    if both.issubset(members.given) and _changes_end(view, members, None) and _changes_suspension(view, members, None):
        conflicts = tuple(sorted((*conflicts, (KeyOperation.STATE, KeyOperation.STATE)), key=_matrix_place))
    return Plan(operations=in_order(operations), conflicts=conflicts)


def _matrix_place(pair: Pair) -> tuple[int, int]:
    rows = list(KeyOperation)
    return rows.index(pair[0]), rows.index(pair[1])
