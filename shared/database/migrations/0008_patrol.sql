-- the drift patrol: comparisons asked for as durable requests, and what they found
-- depends: 0008_accounts

-- migrate: apply

ALTER TABLE provider_finding ADD COLUMN concerns text NOT NULL DEFAULT '';
ALTER TABLE provider_finding ADD COLUMN seen_in uuid;
COMMENT ON COLUMN provider_finding.concerns IS 'The order or the charge concerned, where a service or license does not name it.';
COMMENT ON COLUMN provider_finding.seen_in IS 'The latest sweep that met it; one that ends without meeting it closes it.';
DROP INDEX finding_is_open_once;
CREATE UNIQUE INDEX finding_is_open_once
    ON provider_finding (provider_account, kind, coalesce(elid, 0), coalesce(license_id, ''), concerns) WHERE closed_at IS NULL;

CREATE TABLE provider_sweep (
    sweep_id uuid NOT NULL CONSTRAINT provider_sweep_pkey PRIMARY KEY,
    provider_account text COLLATE "C" NOT NULL REFERENCES provider_account,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'asked',
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    rings integer NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    begun_at timestamptz,
    lease_until timestamptz,
    finished_at timestamptz,
    failure text NOT NULL DEFAULT '',
    differences jsonb NOT NULL DEFAULT '[]',
    CONSTRAINT asker_is_known CHECK (asked_by IN ('scheduler', 'operator')),
    CONSTRAINT sweep_state_is_known CHECK (state IN ('asked', 'running', 'done', 'failed')),
    CONSTRAINT running_has_a_lease CHECK (state <> 'running' OR (begun_at IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT ended_when_finished CHECK ((state IN ('done', 'failed')) = (finished_at IS NOT NULL)),
    CONSTRAINT failed_says_why CHECK ((state = 'failed') = (failure <> ''))
);
CREATE UNIQUE INDEX one_sweep_waits ON provider_sweep (provider_account) WHERE state = 'asked';
CREATE UNIQUE INDEX one_sweep_runs ON provider_sweep (provider_account) WHERE state = 'running';
CREATE INDEX provider_sweep_due ON provider_sweep (due_at) WHERE state IN ('asked', 'running');
CREATE INDEX provider_sweep_asked ON provider_sweep (provider_account, asked_at);
CREATE INDEX provider_sweep_finished ON provider_sweep (finished_at) WHERE finished_at IS NOT NULL;
COMMENT ON TABLE provider_sweep IS 'One comparison of our side and a provider account''s, asked for by the scheduler or by people; old ones are forgotten.';
COMMENT ON COLUMN provider_sweep.due_at IS 'When the scheduler rings for it: at once, then ever more rarely until somebody takes it.';
COMMENT ON COLUMN provider_sweep.lease_until IS 'Its worker has not been heard of since: another may begin it again.';
COMMENT ON COLUMN provider_sweep.differences IS 'What differed both times, as the operator''s verb prints it. Nothing secret.';

CREATE INDEX license_with_service ON license (license_id) WHERE service IS NOT NULL;
CREATE INDEX provider_order_target ON provider_order (provider_account, ((operation -> 'of' ->> 'elid')::bigint))
    WHERE kind <> 'order';

-- migrate: rollback
