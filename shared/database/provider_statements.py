"""The statements behind `provider_orders`: claims and closes are compare-and-set, one transaction each."""

from typing import Final, LiteralString

ACCOUNT_STATE: Final[LiteralString] = """
SELECT o.state, o.kind, o.not_before, o.cancel_requested_at, a.paused_until, clock_timestamp() AS now,
    EXISTS (SELECT FROM provider_order s WHERE s.provider_account = o.provider_account AND s.slot_key = o.slot_key
        AND s.order_id <> o.order_id AND s.state IN ('sending', 'unknown', 'manual')) AS slot_taken,
    (SELECT count(*) FROM provider_order u WHERE u.provider_account = o.provider_account
        AND u.state IN ('sending', 'unknown', 'manual') AND u.kind IN ('order', 'nodes', 'prolong')) AS unresolved,
    (SELECT count(*) FROM provider_order f WHERE f.provider_account = o.provider_account
        AND f.state = 'sending' AND f.kind IN ('order', 'nodes', 'prolong')) AS in_flight
FROM provider_order o JOIN provider_account a ON a.name = o.provider_account
WHERE o.order_id = $1
"""
LOCK_ACCOUNT: Final[LiteralString] = """
SELECT 1 FROM provider_account WHERE name = (SELECT provider_account FROM provider_order WHERE order_id = $1) FOR UPDATE
"""
CLAIM: Final[LiteralString] = """
UPDATE provider_order SET state = 'sending', attempt = attempt + 1, sent_at = clock_timestamp(), not_before = NULL,
    snapshot = $2::bigint[], known_charges = $3::text[],
    operation = coalesce($5::jsonb, operation), due_at = clock_timestamp() + make_interval(secs => $4)
WHERE order_id = $1 AND state = 'intended' RETURNING attempt
"""
ATTEMPT: Final[LiteralString] = """
INSERT INTO provider_attempt (order_id, attempt, lease_token, sent_at, send_not_after)
SELECT order_id, attempt, $2, sent_at, sent_at + make_interval(secs => $3) FROM provider_order WHERE order_id = $1
"""
CLAIMED: Final[LiteralString] = """
INSERT INTO provider_step (order_id, at, state_before, state_after, trigger, attempt)
VALUES ($1, clock_timestamp(), 'intended', 'sending', 'claimed', $2)
"""
KEEP: Final[LiteralString] = """
UPDATE provider_order SET due_at = clock_timestamp() + make_interval(secs => $3)
WHERE order_id = $1 AND attempt = $2 AND state = 'sending' RETURNING 1
"""
FENCE: Final[LiteralString] = """
UPDATE provider_attempt t SET write_fence_at = clock_timestamp() FROM provider_order o
WHERE t.order_id = $1 AND t.attempt = $2 AND t.lease_token = $3 AND t.closed_at IS NULL AND t.write_fence_at IS NULL
    AND clock_timestamp() < t.send_not_after AND o.order_id = t.order_id AND o.state = 'sending'
RETURNING 1
"""
CLOSE: Final[LiteralString] = """
UPDATE provider_attempt SET closed_at = clock_timestamp(), result = $4, evidence = $5::jsonb
WHERE order_id = $1 AND attempt = $2 AND lease_token = $3 AND closed_at IS NULL RETURNING 1
"""
CLOSE_OPEN: Final[LiteralString] = """
UPDATE provider_attempt SET closed_at = clock_timestamp(), result = $2, evidence = $3::jsonb
WHERE order_id = $1 AND closed_at IS NULL
"""
LOOK: Final[LiteralString] = """
INSERT INTO provider_look (order_id, attempt, looked_at, elids, how, conclusive, charges)
VALUES ($1, $2, $3, $4::bigint[], $5, $6, $7)
"""
RING: Final[LiteralString] = """
UPDATE provider_order SET due_at = clock_timestamp() + make_interval(secs => $2)
WHERE order_id IN (SELECT order_id FROM provider_order WHERE due_at <= clock_timestamp() AND settled_at IS NULL
    ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING order_id, license_id
"""
LINKED: Final[LiteralString] = """
SELECT elid, order_id FROM provider_order
WHERE provider_account = $1 AND kind = 'order' AND state = 'confirmed' AND elid = ANY($2::bigint[])
"""
CANARIES: Final[LiteralString] = """
SELECT f.made, c.elid FROM unnest($2::text[]) AS f (made) CROSS JOIN LATERAL (
    SELECT o.elid FROM (SELECT m.elid, m.decided_at, m.service_expires_on FROM provider_order m
        WHERE m.provider_account = $1 AND m.kind = 'order' AND m.state = 'confirmed' AND m.operation ->> 'is' = f.made
        ORDER BY m.decided_at DESC LIMIT $4) o
    CROSS JOIN LATERAL (SELECT coalesce(bool_or(p.kind = 'end' AND p.state <> 'intended'), false) AS doubtful,
            max(p.service_expires_on) FILTER (WHERE p.kind = 'prolong' AND p.state = 'confirmed') AS renewed_until
        FROM provider_order p WHERE p.provider_account = $1 AND p.kind <> 'order'
            AND (p.operation -> 'of' ->> 'elid')::bigint = o.elid) e
    WHERE NOT e.doubtful AND (o.service_expires_on IS NULL
        OR greatest(o.service_expires_on, e.renewed_until) >= (clock_timestamp() AT TIME ZONE 'UTC')::date)
    ORDER BY o.decided_at >= clock_timestamp() - make_interval(secs => $3), o.decided_at DESC LIMIT 1) c
"""
"""Known to be alive: ordered, not being released, its last day not over. The panel drops a service some time after its
last day; one that is expected for ever would then stop all orders of the account. `kind <> 'order'` names the index."""
DETAIL: Final[LiteralString] = """
UPDATE provider_order SET service_expires_on = coalesce($2, service_expires_on), service_key = $3,
    detailed_at = clock_timestamp()
WHERE order_id = $1 AND state = 'confirmed' AND detailed_at IS NULL RETURNING 1
"""
