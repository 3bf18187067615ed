WITH new_license AS (
    INSERT INTO license (
        license_id, account_id, number, activation_code, product, model, test, status, suspended,
        subscription_on, start_on, purchase_on, expires_on, reg_name, revision, key_version, sequence, audit_sha256
    ) VALUES ($1, $2, $3, $4, $5, 'standard', $6, 'active', false, $7, $7, $7, $8, $9, 1, 0, 1, $10)
), new_revision AS (
    INSERT INTO revision (license_id, revision, cause, product, expires_on, issued_at, body_sha256, body)
    VALUES ($1, 1, 'issued', $5, $8, $11, $12, $13)
), new_operation AS (
    INSERT INTO operation (license_id, fingerprint, revision) VALUES ($1, $14, 1)
), new_result AS (
    INSERT INTO command_result (command_id, day, license_id, payload_sha256, status, meta, body, revision, handled_at)
    VALUES ($15, $16, $1, $17, 1, $18, '', 1, $11)
), new_event AS (
    INSERT INTO outbox (event_id, topic, key, license_id, sequence, command_id, type, value, created_at)
    VALUES ($19, 'license.events', $1, $1, 1, $15, 'keyway.license.issued', $20, $11)
)
INSERT INTO audit (license_id, command_id, recorded_at, previous_sha256, entry_sha256, entry)
VALUES ($1, $15, $11, $21, $10, $22)
