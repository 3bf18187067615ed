"""The two statements of a batch, and the rarely needed third.

READ asks everything at once; WRITE is a transaction of its own. Both must have index plans even on empty tables:
`tests/integration/test_database_plans.py` explains them.
"""

from typing import Final, LiteralString

READ: Final[LiteralString] = """
SELECT r AS result, NULL::license AS license, v.body AS body, NULL::operation AS operation,
    NULL::open_operation AS opened, NULL::waiting_command AS waiting
FROM command_result r
LEFT JOIN revision v ON r.status = 1 AND v.license_id = r.license_id AND v.revision = r.revision
WHERE r.command_id = ANY($1::uuid[]) AND r.day BETWEEN $2::date AND $3::date
UNION ALL
SELECT NULL, l, v.body, NULL, NULL, NULL
FROM license l
LEFT JOIN revision v ON v.license_id = l.license_id AND v.revision = l.revision
WHERE l.license_id = ANY($4::text[])
UNION ALL
SELECT NULL, NULL, NULL, o, NULL, NULL
FROM operation o
WHERE o.license_id = ANY($4::text[]) AND (o.fingerprint IN (SELECT unnest($5::bytea[]))) IS TRUE
UNION ALL
SELECT NULL, NULL, NULL, NULL, p, NULL
FROM open_operation p
WHERE p.license_id = ANY($4::text[])
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, w
FROM waiting_command w
WHERE w.command_id = ANY($1::uuid[])
"""
"""Results by command id, licenses with their current body, and the asked fingerprints known of them.

A range of days prunes partitions at execution, also under a generic plan; `= ANY` of a parameter does not. `IS TRUE`
keeps the fingerprints a hashed subplan, looked into once per operation of the license instead of once per pair.
"""

HISTORY: Final[LiteralString] = """
SELECT license_id, revision, product, cause, body_sha256, octet_length(body) AS length_bytes
FROM revision
WHERE license_id = ANY($1::text[])
ORDER BY license_id, revision
"""

WRITE: Final[LiteralString] = """
WITH effect AS MATERIALIZED (
    SELECT * FROM unnest($1::command_effect[])
), inserted AS (
    INSERT INTO license (license_id, account_id, number, activation_code, product, model, status, suspended, test,
        subscription_on, start_on, purchase_on, expires_on, terminated_at, activation_data, reg_name, revision,
        key_version, sequence, audit_sha256, service, key_id, key)
    SELECT license_id, account_id, number, activation_code, product, model, license_status, suspended, test,
        subscription_on, start_on, purchase_on, expires_on, terminated_at, activation_data, reg_name, revision,
        key_version, sequence, audit_sha256, service::jsonb, coalesce(key_id, nextval('license_key_id')), key::jsonb
    FROM effect WHERE version_before = 0
), updated AS (
    UPDATE license AS l
    SET product = e.product, model = e.model, status = e.license_status, suspended = e.suspended, test = e.test,
        subscription_on = e.subscription_on, start_on = e.start_on, purchase_on = e.purchase_on,
        expires_on = e.expires_on, terminated_at = e.terminated_at, activation_data = e.activation_data,
        reg_name = e.reg_name, revision = e.revision, key_version = e.key_version, sequence = e.sequence,
        audit_sha256 = e.audit_sha256, service = e.service::jsonb, key = e.key::jsonb, version = l.version + 1
    FROM effect AS e
    WHERE e.version_before > 0 AND l.license_id = e.license_id AND l.version = e.version_before
    RETURNING 1
), results AS (
    INSERT INTO command_result (command_id, day, license_id, payload_sha256, status, meta, body, revision, handled_at)
    SELECT command_id, day, license_id, payload_sha256, status, meta, body, reply_revision, handled_at
    FROM effect WHERE status <> 7 -- in line: remembered there; null: beside the command of another license
), revisions AS (
    INSERT INTO revision (license_id, revision, cause, product, expires_on, issued_at, body_sha256, body)
    SELECT license_id, issued_revision, issued_cause, issued_product, issued_expires_on, handled_at,
        issued_body_sha256, issued_body
    FROM effect WHERE issued_revision IS NOT NULL
), forgotten AS (
    DELETE FROM operation AS o USING effect AS e
    WHERE e.forget_after IS NOT NULL AND o.license_id = e.license_id AND o.revision > e.forget_after
    RETURNING 1
), remembered AS (
    INSERT INTO operation (license_id, fingerprint, revision)
    SELECT license_id, fingerprint, operation_revision
    FROM effect, (SELECT count(*) FROM forgotten) AS first_forget
    WHERE fingerprint IS NOT NULL
), told AS (
    INSERT INTO outbox (event_id, topic, key, license_id, sequence, command_id, type, value, created_at)
    SELECT t.event_id, $2::text, e.license_id, e.license_id, t.sequence, e.command_id, t.type, t.value, e.handled_at
    FROM effect AS e, unnest(e.events) AS t
), audited AS (
    INSERT INTO audit (license_id, command_id, recorded_at, previous_sha256, entry_sha256, entry)
    SELECT license_id, command_id, handled_at, audit_previous_sha256, audit_entry_sha256, audit_entry
    FROM effect WHERE audit_entry IS NOT NULL
)
SELECT require_every_update(
    (SELECT count(*) FROM updated),
    (SELECT count(*) FROM effect WHERE version_before > 0)
)
"""
"""All effects of a batch, or none: a row that exists already breaks a key, a license that moved on breaks the count.

Every part sees the tables as they were before. Only `remembered` must come after another part: it reads the count of
`forgotten`, because an operation may be forgotten and remembered again in one batch.
"""
