"""What the Partner API reads about keys: read-only transactions, each a view of one moment.

An account sees the keys of the owners that it reaches (docs/protocols/partner-api.md 2, 4.1): its own owner's, or those
of the clients of its own reseller. A license that the Partner API has never changed has no key document; it belongs to
the owner to whom its account is linked.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Final, LiteralString

import asyncpg
from pydantic import TypeAdapter

from shared.clock import BusinessClock
from shared.contracts.codec import encode_key_structure
from shared.contracts.key_commands import KeyReference
from shared.database.key_search import CANDIDATES_MAX, search_for
from shared.database.pool import Connection, Pool, borrowed
from shared.domain.key_details import KeyDetails, details_of_foreign
from shared.domain.key_queries import ActivationsLeft, FoundKey, KeyFile, KeyFilter
from shared.domain.key_structure import (
    KeyName,
    KeyView,
    full_structure,
    remaining_activations,
    short_structure,
)

KEYS: Final[LiteralString] = """
WITH reach AS (
    SELECT o.owner_id, o.suspended
    FROM account_owner AS a JOIN owner AS o ON o.owner_id = a.owner_id OR o.reseller_id = a.owner_id
    WHERE a.account_id = $1
), visible AS (
    SELECT l.*, r.owner_id, r.suspended AS owner_suspended
    FROM reach AS r JOIN license AS l ON l.key ->> 'owner' = r.owner_id
    WHERE l.key IS NOT NULL AND l.revision > 0
    UNION ALL
    SELECT l.*, r.owner_id, r.suspended
    FROM reach AS r JOIN account_owner AS a ON a.owner_id = r.owner_id JOIN license AS l ON l.account_id = a.account_id
    WHERE l.key IS NULL AND l.revision > 0
)
SELECT v.license_id, v.account_id, v.number, v.key_id, v.activation_code, v.key::text AS key, v.key_version, v.revision,
    v.product, v.status, v.suspended, v.expires_on, v.owner_id, v.owner_suspended,
    coalesce(v.subscription_on, v.expires_on) AS created_on,
    c.configuration_id AS default_configuration,
    p.key_id AS parent_id, p.key_version AS parent_version, p.activation_code AS parent_code
FROM visible AS v
LEFT JOIN product_configuration AS c ON c.owner_id = v.owner_id AND c.is_default
LEFT JOIN license AS p ON p.license_id = v.key -> 'parent' ->> 'license_id'
"""

ONE: Final[LiteralString] = KEYS + "WHERE v.key_id = $2 OR v.activation_code = $3"

CHILDREN: Final[LiteralString] = """
SELECT key_id, key_version, activation_code FROM license
WHERE (key -> 'parent' ->> 'license_id') COLLATE "C" = $1 AND key -> 'parent' ->> 'license_id' IS NOT NULL
ORDER BY key_id
"""
"""Both conditions are those of the index: without them every license would be looked at."""

FILE: Final[LiteralString] = "SELECT revision, body FROM revision WHERE license_id = $1 ORDER BY revision DESC LIMIT 1"

FIND: Final[LiteralString] = """
SELECT l.account_id, l.number, l.key_id
FROM license AS l
LEFT JOIN account_owner AS of_account ON of_account.account_id = l.account_id AND l.key IS NULL
JOIN owner AS o ON o.owner_id = coalesce(l.key ->> 'owner', of_account.owner_id)
JOIN account_owner AS asker ON asker.account_id = $1 AND asker.owner_id IN (o.owner_id, o.reseller_id)
WHERE l.revision > 0 AND (l.key_id = $2 OR l.activation_code = $3)
"""

SEARCH_SECONDS = 4.5
"""For one step of a search: below the server's own limit, above that of a query that somebody waits for in between."""
SLICE_ROWS = 2000
"""Rows of a search that are taken in at once; in between others have their turn."""

_DETAILS = TypeAdapter(KeyDetails)


class PostgresKeyQueries:
    """Reads keys. Every method raises `UnavailableError` when the database does not answer."""

    def __init__(self, pool: Pool, business_clock: BusinessClock) -> None:
        self._pool = pool
        self._clock = business_clock

    async def find(self, account: str, reference: KeyReference) -> FoundKey | None:
        """Return the key that `account` may see under a key id or an activation code."""
        async with self._reading("find key") as connection:
            row = await connection.fetchrow(FIND, account, reference.key_id, reference.activation_code)
        if row is None:
            return None
        return FoundKey(account=row["account_id"], number=row["number"], key_id=row["key_id"])

    async def structure(self, account: str, key: KeyReference) -> bytes | None:
        """Return the full structure as JSON, None when there is no such key."""
        async with self._reading("read key") as connection:
            row = await _one(connection, account, key)
            if row is None:
                return None
            children = await connection.fetch(CHILDREN, row["license_id"])
        return encode_key_structure(full_structure(_view(row, children), self._clock.now()))

    async def search(self, account: str, wanted: KeyFilter) -> bytes | None:
        """Return the short structures of all keys that fit, as a JSON array in rising key id; None for too many."""
        search = search_for(account, wanted)
        if search is None:
            return b"[]"
        now, seen, found = self._clock.now(), 0, []
        async with self._reading("search keys") as connection:
            cursor = await connection.cursor(search.statement, *search.arguments, timeout=SEARCH_SECONDS)
            while rows := await cursor.fetch(SLICE_ROWS, timeout=SEARCH_SECONDS):
                seen += len(rows)
                if seen > CANDIDATES_MAX:
                    return None
                found += [_short(row) for row in rows if search.fits(row, now)]
        return b"[" + b",".join(found) + b"]"

    async def key_file(self, account: str, key: KeyReference) -> KeyFile | None:
        """Return the document that a server installs, None when there is no such key."""
        async with self._reading("read key file") as connection:
            row = await _one(connection, account, key)
            if row is None:
                return None
            issued = await connection.fetchrow(FILE, row["license_id"])
        if issued is None:
            return None
        return KeyFile(key_number=_view(row, ()).name.number, revision=issued["revision"], body=issued["body"])

    async def activations(self, account: str, key: KeyReference) -> ActivationsLeft | None:
        """Return how often the key may still be activated this month, None when there is no such key."""
        async with self._reading("read activations") as connection:
            row = await _one(connection, account, key)
        if row is None:
            return None
        return ActivationsLeft(key_id=row["key_id"], remaining=remaining_activations(_details(row), self._clock.now()))

    @asynccontextmanager
    async def _reading(self, action: str) -> AsyncIterator[Connection]:
        async with (
            borrowed(self._pool, action) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection


class PostgresKeyNumbers:
    """Draws numbers for new keys; a number drawn is nobody else's, used or not."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def draw(self, count: int) -> Sequence[int]:
        """Return `count` numbers in rising order. Raises `UnavailableError`."""
        async with borrowed(self._pool, "draw key numbers") as connection:
            rows = await connection.fetch(
                "SELECT nextval('license_key_id') AS number FROM generate_series(1, $1::integer)", count
            )
        return [row["number"] for row in rows]


def _short(row: asyncpg.Record) -> bytes:
    told = short_structure(owner_id=row["owner_id"], key_id=row["key_id"], parent_key_id=row["parent_id"])
    return encode_key_structure(told)


async def _one(connection: Connection, account: str, key: KeyReference) -> asyncpg.Record | None:
    return await connection.fetchrow(ONE, account, key.key_id, key.activation_code)


def _view(row: asyncpg.Record, children: Sequence[asyncpg.Record]) -> KeyView:
    parent = None
    if row["parent_id"] is not None:
        parent = KeyName(key_id=row["parent_id"], key_version=row["parent_version"], activation_code=row["parent_code"])
    return KeyView(
        details=_details(row),
        key_version=row["key_version"],
        expires_on=row["expires_on"],
        terminated=row["status"] == "terminated",
        suspended=row["suspended"],
        owner_suspended=row["owner_suspended"],
        parent=parent,
        children=[
            KeyName(key_id=child["key_id"], key_version=child["key_version"], activation_code=child["activation_code"])
            for child in children
        ],
    )


def _details(row: asyncpg.Record) -> KeyDetails:
    if row["key"] is not None:
        return _DETAILS.validate_json(row["key"])
    expires_on: date = row["expires_on"]
    return details_of_foreign(
        key_id=row["key_id"],
        activation_code=row["activation_code"],
        owner=row["owner_id"],
        configuration=row["default_configuration"],
        product=row["product"],
        created_on=row["created_on"],
        expires_on=expires_on,
    )
