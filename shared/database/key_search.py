"""The search of the Partner API as one statement, made of what a filter names (docs/protocols/partner-api.md 3.1).

Where a filter can be selective it is a condition that an index serves, and no condition stands there for what a filter
leaves open: a plan must not provide for what is not asked. What remains is bounded by the keys of the owners that the
account reaches. Status and period are judged by the rules themselves, on the few columns that they need.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

import asyncpg
import orjson

from shared.domain.key_queries import KeyFilter, KeyType
from shared.domain.key_structure import KeyStanding, KeyStatus, key_status

REACH: Final[LiteralString] = """
WITH reach AS MATERIALIZED (
    SELECT o.owner_id, o.suspended
    FROM account_owner AS a JOIN owner AS o ON o.owner_id = a.owner_id OR o.reseller_id = a.owner_id
    WHERE a.account_id = $1
)
"""
KEYS: Final[LiteralString] = """
FROM reach AS r JOIN license AS l ON (l.key ->> 'owner') COLLATE "C" = r.owner_id
WHERE l.key ->> 'owner' IS NOT NULL AND l.revision > 0"""
FOUND_KEYS: Final[LiteralString] = """
FROM reach AS r JOIN license AS l ON (l.key ->> 'owner') || '' = r.owner_id
WHERE l.key IS NOT NULL AND l.revision > 0"""
"""The same where an index finds the value: `||` keeps that of the owners, which gives all of an owner's keys, out."""
FOREIGN: Final[LiteralString] = """
FROM reach AS r JOIN account_owner AS a ON a.owner_id = r.owner_id JOIN license AS l ON l.account_id = a.account_id
WHERE l.key IS NULL AND l.revision > 0"""
"""Licenses that the Partner API has never changed: they have a product, and nothing else of a key."""

# Each condition and column stands twice: for keys, and for licenses without a key document (where it can fit at all).
ADDRESS: Final = ("l.key ->> 'address' = $n AND l.key ->> 'address' IS NOT NULL",)
UID: Final = ("l.key ->> 'uid' = $n AND l.key ->> 'uid' IS NOT NULL",)
NICKNAME: Final = ("l.key ->> 'nickname' = $n AND l.key ->> 'nickname' <> ''",)
CONSTANT: Final = (
    """owned_constants(l.key) && ARRAY(
        SELECT (reached.owner_id || ' ' || upper($n)) COLLATE "default" FROM reach AS reached)""",
    "upper(l.product) = upper($n)",
)
PARENT: Final = ("(l.key -> 'parent' ->> 'key_id')::bigint AS parent_id", "NULL::bigint")
ITEMS: Final = ("(l.key -> 'items')::text AS items", "jsonb_build_array(jsonb_build_object('item', l.product))::text")
STANDING: Final = (
    """l.status = 'terminated' AS terminated, l.suspended OR r.suspended AS suspended, l.expires_on,
        (l.key ->> 'update_on')::date AS update_on""",
    "l.status = 'terminated', l.suspended OR r.suspended, l.expires_on, l.expires_on",
)

CANDIDATES_MAX = 200_000
"""More keys than this are not looked through for one answer: it would not fit into anybody's memory."""

LEASE_MONTHS: Final[Mapping[KeyType, int]] = {
    KeyType.LEASE_1M: 1,
    KeyType.LEASE_3M: 3,
    KeyType.LEASE_6M: 6,
    KeyType.LEASE_1Y: 12,
    KeyType.LEASE_2Y: 24,
    KeyType.LEASE_3Y: 36,
}
UNSOLD: Final = frozenset({KeyType.MASTER, KeyType.TRIAL, KeyType.BUNDLED})
"""No product of these kinds is sold here."""
MONTHS_A_YEAR = 12

_PERIOD = re.compile(r"-([0-9]{1,2})([MY])$")


@dataclass(frozen=True, slots=True)
class Search:
    """A statement and its arguments; `fits` judges the rows that it gives."""

    wanted: KeyFilter
    statement: str
    arguments: tuple[str, ...]

    def fits(self, row: asyncpg.Record, now: datetime) -> bool:
        """Whether a row is wanted at `now`, the business clock."""
        status, type_ = self.wanted.status, self.wanted.type
        if status is not None and _status(row, now).value != status:
            return False
        return type_ is None or type_ not in LEASE_MONTHS or _months(row["items"]) == LEASE_MONTHS[type_]


def search_for(account: str, wanted: KeyFilter) -> Search | None:
    """Return the search for the keys that `account` may see and wants, in rising key id; None where none can fit.

    It gives one row more than `CANDIDATES_MAX` when there are more.
    """
    if wanted.fraud is not None or wanted.is_els or wanted.type in UNSOLD:
        return None  # no key is suspected, none is charged for extended support
    arguments = [account]
    has_own_index = wanted.address is not None or wanted.uid is not None or wanted.product is not None
    halves = [FOUND_KEYS if has_own_index else KEYS, *(() if _only_keys_fit(wanted) else (FOREIGN,))]
    conditions: list[list[str]] = [[] for _ in halves]
    for value, found in (
        (wanted.address, ADDRESS),
        (wanted.uid, UID),
        (wanted.nickname or None, NICKNAME),
        (wanted.product, CONSTANT),
    ):
        if value is not None:
            arguments.append(value)
            for half, condition in zip(conditions, found, strict=False):
                half.append(condition.replace("$n", f"${len(arguments)}"))
    _narrow(conditions, wanted)
    columns = [["l.key_id", "r.owner_id"] for _ in halves]
    for group, needed in (
        (PARENT, True),
        (STANDING, wanted.status is not None),
        (ITEMS, wanted.type in LEASE_MONTHS),
    ):
        if needed:
            for half, more in zip(columns, group, strict=False):
                half.append(more)
    selects = [
        f"SELECT {', '.join(shown)} {source} {''.join(f' AND {each}' for each in asked)}"
        for shown, source, asked in zip(columns, halves, conditions, strict=True)
    ]
    statement = f"{REACH} {' UNION ALL '.join(selects)} ORDER BY key_id LIMIT {CANDIDATES_MAX + 1}"
    return Search(wanted, statement, tuple(arguments))


def _only_keys_fit(wanted: KeyFilter) -> bool:
    """Whether a license without a key document cannot fit: it has no binding, UID or nickname and is no purchase."""
    return (
        wanted.address is not None
        or wanted.uid is not None
        or bool(wanted.nickname)
        or bool(wanted.restrict_address)
        or wanted.type is KeyType.PURCHASED
    )


def _narrow(conditions: list[list[str]], wanted: KeyFilter) -> None:
    """Add the conditions without an argument. Those of a status let through more than fits, never less."""
    keys = conditions[0]
    if wanted.nickname == "":
        keys.append("coalesce(l.key ->> 'nickname', '') = ''")
    if wanted.restrict_address is not None:
        keys.append("l.key ->> 'restrict_address' = '%s'" % ("true" if wanted.restrict_address else "false"))
    if wanted.type is not None:
        keys.append("l.key ->> 'purchased' = '%s'" % ("true" if wanted.type is KeyType.PURCHASED else "false"))
    if wanted.status is not None:
        is_over = wanted.status == KeyStatus.TERMINATED
        for half in conditions:
            half.append(f"l.status {'=' if is_over else '<>'} 'terminated'")
            if wanted.status == KeyStatus.SUSPENDED:
                half.append("(l.suspended OR r.suspended)")


def _status(row: asyncpg.Record, now: datetime) -> KeyStatus:
    standing = KeyStanding(
        terminated=row["terminated"],
        suspended=row["suspended"],
        expires_on=row["expires_on"],
        update_on=row["update_on"],
    )
    return key_status(standing, now)


def _months(items: str) -> int | None:
    """Return the period that the constants of a key name, None when they name none."""
    for item in orjson.loads(items):
        period = _PERIOD.search(item["item"])
        if period is not None:
            return int(period[1]) * (MONTHS_A_YEAR if period[2] == "Y" else 1)
    return None
