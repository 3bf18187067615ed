"""What the Partner API adds to the license store: the key part of a license, related keys, owners, named requests.

Read only for batches with such commands, in one transaction that sees one moment; named requests are written in the
transaction of the batch, after its one statement.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, LiteralString

import asyncpg
from pydantic import TypeAdapter

from shared.contracts.identifiers import LicenseId
from shared.contracts.replies import ReplyStatus
from shared.database.owners import link_in, owner_in
from shared.database.pool import OwnConnection
from shared.domain.decision import KnownRequest
from shared.domain.effects import CommandEffect, KeyAnswers, KeyQuestions, StoredLicense
from shared.domain.key_details import KeyDetails
from shared.domain.key_owners import OwnerBook
from shared.errors import ConflictError, StoreRefusedError

DETAILS: Final = TypeAdapter(KeyDetails)
RELATED_MAX = 5000
"""More keys than this are not related to one batch: it is refused, never decided on a part of them."""

RELATED: Final[LiteralString] = """
WITH named AS MATERIALIZED (
    SELECT license_id, key -> 'parent' ->> 'license_id' AS parent FROM license WHERE license_id = ANY($1::text[])
    UNION
    SELECT license_id, key -> 'parent' ->> 'license_id' FROM license WHERE key_id = ANY($2::bigint[])
    UNION
    SELECT license_id, key -> 'parent' ->> 'license_id' FROM license WHERE activation_code = ANY($3::text[])
    UNION
    SELECT license_id, NULL FROM license
    WHERE key ->> 'address' = ANY($4::text[]) AND key ->> 'address' IS NOT NULL
    UNION
    SELECT license_id, NULL FROM license WHERE key ->> 'uid' = ANY($5::text[]) AND key ->> 'uid' IS NOT NULL
), wanted AS (
    SELECT license_id FROM named
    UNION
    SELECT parent FROM named WHERE parent IS NOT NULL
    UNION
    SELECT child.license_id
    FROM named JOIN license AS child ON (child.key -> 'parent' ->> 'license_id') COLLATE "C" = named.license_id
        AND child.key -> 'parent' ->> 'license_id' IS NOT NULL
)
SELECT l.* FROM wanted JOIN license AS l ON l.license_id = wanted.license_id ORDER BY l.key_id LIMIT $6
"""

LINKS: Final[LiteralString] = """
SELECT a.account_id, a.owner_id, a.default_client, p.items
FROM account_owner AS a LEFT JOIN price_list AS p ON p.name = a.price_list
WHERE a.account_id = ANY($1::text[])
"""

OWNERS: Final[LiteralString] = """
SELECT o.owner_id, o.kind, o.reseller_id, o.suspended, coalesce(c.ids, '{}') AS configurations, c.default_id
FROM owner AS o
LEFT JOIN LATERAL (
    SELECT array_agg(configuration_id) AS ids, max(configuration_id) FILTER (WHERE is_default) AS default_id
    FROM product_configuration WHERE owner_id = o.owner_id
) AS c ON true
WHERE o.owner_id = ANY($1::text[])
"""

NAMES: Final[LiteralString] = """
SELECT r.account_id, r.name, r.body_sha256, r.status, r.meta, r.body
FROM unnest($1::text[], $2::text[]) AS asked (account_id, name)
JOIN named_request AS r ON r.account_id = asked.account_id AND r.name = asked.name
WHERE r.handled_at > now() - interval '30 days'
"""

REMEMBER: Final[LiteralString] = """
INSERT INTO named_request (account_id, name, body_sha256, license_id, command_id, status, meta, body, handled_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (account_id, name) DO UPDATE SET body_sha256 = EXCLUDED.body_sha256, license_id = EXCLUDED.license_id,
    command_id = EXCLUDED.command_id, status = EXCLUDED.status, meta = EXCLUDED.meta, body = EXCLUDED.body,
    handled_at = EXCLUDED.handled_at
WHERE named_request.handled_at <= now() - interval '30 days'
RETURNING 1
"""
"""A name is free again by the clock by which `NAMES` finds it: never held for the one and free for the other."""


def encode_details(details: KeyDetails | None) -> str | None:
    """Return the key part of a license as the JSON in which it is stored."""
    return None if details is None else DETAILS.dump_json(details).decode()


def decode_details(text: str | None) -> KeyDetails | None:
    """Return the key part of a license in stored JSON."""
    return None if text is None else DETAILS.validate_json(text)


async def read_answers(
    connection: OwnConnection, questions: KeyQuestions, stored: Callable[[asyncpg.Record], StoredLicense]
) -> KeyAnswers:
    """Return what was found for `questions`, all of it as of one moment.

    Raises `StoreRefusedError` when more than `RELATED_MAX` keys are concerned.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(
            RELATED,
            list(questions.licenses),
            list(questions.key_ids),
            list(questions.activation_codes),
            list(questions.addresses),
            list(questions.uids),
            RELATED_MAX + 1,
        )
        if len(rows) > RELATED_MAX:
            raise StoreRefusedError(f"more than {RELATED_MAX} keys are related to these commands")
        licenses = {LicenseId(row["license_id"]): stored(row) for row in rows}
        names = sorted(questions.names)
        requests = (
            await connection.fetch(NAMES, [account for account, _ in names], [name for _, name in names])
            if names
            else []
        )
        return KeyAnswers(
            licenses=licenses,
            owners=await _owners(connection, questions, licenses),
            requests={(row["account_id"], row["name"]): _known(row) for row in requests},
        )


async def _owners(
    connection: OwnConnection, questions: KeyQuestions, licenses: Mapping[LicenseId, StoredLicense]
) -> OwnerBook:
    held = [each.license for each in licenses.values()]
    accounts = questions.accounts.union(each.account for each in held)
    links = {row["account_id"]: link_in(row) for row in await connection.fetch(LINKS, list(accounts))}
    asked = questions.owners.union(each.key.owner for each in held if each.key is not None)
    for link in links.values():
        asked = asked.union((link.owner,) if link.default_client is None else (link.owner, link.default_client))
    rows = await connection.fetch(OWNERS, list(asked))
    return OwnerBook(owners={row["owner_id"]: owner_in(row) for row in rows}, accounts=links)


def _known(row: asyncpg.Record) -> KnownRequest:
    return KnownRequest(
        body_sha256=row["body_sha256"].hex(), status=ReplyStatus(row["status"]), meta=row["meta"], body=row["body"]
    )


async def remember_names(connection: OwnConnection, effects: Sequence[CommandEffect]) -> None:
    """Remember the replies to named requests, inside the caller's transaction. A name that is taken is a conflict."""
    for effect in effects:
        if effect.named is not None:
            kept = await connection.fetchval(
                REMEMBER,
                effect.named.account,
                effect.named.name,
                bytes.fromhex(effect.named.body_sha256),
                effect.license_id,
                effect.command_id,
                effect.named.reply.status.value,
                effect.named.reply.meta,
                effect.named.reply.body,
                effect.handled_at,
            )
            if kept is None:
                raise ConflictError(f"the request of command {effect.command_id} was answered meanwhile")
