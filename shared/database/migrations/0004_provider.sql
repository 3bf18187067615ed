-- what is done upstream: services, operations under way, orders, attempts, findings
-- depends: 0003_installation

-- migrate: apply

ALTER TABLE license ADD COLUMN service jsonb;
COMMENT ON COLUMN license.service IS 'The upstream service held for a provider product; null for local products and once released.';
CREATE INDEX license_with_service_ended ON license (terminated_at) WHERE status = 'terminated' AND service IS NOT NULL;
CREATE INDEX license_due ON license (expires_on) WHERE status = 'active';
ALTER TYPE command_effect ADD ATTRIBUTE service text;

CREATE TABLE open_operation (
    license_id text COLLATE "C" NOT NULL CONSTRAINT open_operation_pkey PRIMARY KEY,
    version bigint NOT NULL,
    order_id uuid NOT NULL CONSTRAINT order_serves_one_operation UNIQUE,
    operation bytea NOT NULL,
    addresses bytea NOT NULL,
    in_line integer NOT NULL,
    opened_at timestamptz NOT NULL,
    CONSTRAINT open_version_counts_from_one CHECK (version >= 1),
    CONSTRAINT addresses_are_whole CHECK (octet_length(addresses) % 18 = 0 AND octet_length(addresses) <= 8 * 18)
);
COMMENT ON TABLE open_operation IS 'The one operation of a license that waits for a provider. The row ends with it; the orders stay.';
COMMENT ON COLUMN open_operation.operation IS 'JSON: the command that began it, its plan and how far it is.';
COMMENT ON COLUMN open_operation.addresses IS 'Who waits: per asker 2 bytes of reply partition and 16 of correlation id, oldest first.';
COMMENT ON COLUMN open_operation.in_line IS 'Commands that stand in line behind it.';
COMMENT ON COLUMN open_operation.version IS 'Compare-and-set counter: +1 with every write.';

CREATE TABLE waiting_command (
    command_id uuid NOT NULL CONSTRAINT waiting_command_pkey PRIMARY KEY,
    license_id text COLLATE "C" NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    payload_sha256 bytea NOT NULL,
    envelope bytea NOT NULL,
    reply_partition smallint,
    correlation_id bytea,
    queued_at timestamptz NOT NULL,
    CONSTRAINT waiting_payload_hash_is_sha256 CHECK (octet_length(payload_sha256) = 32),
    CONSTRAINT address_is_whole CHECK ((reply_partition IS NULL) = (correlation_id IS NULL))
);
CREATE INDEX waiting_command_line ON waiting_command (license_id, position);
COMMENT ON TABLE waiting_command IS 'Commands in line behind an open operation, in order of arrival.';

CREATE TABLE provider_account (
    name text COLLATE "C" NOT NULL CONSTRAINT provider_account_pkey PRIMARY KEY,
    paused_until timestamptz,
    pause_reason text,
    back_offs integer NOT NULL DEFAULT 0,
    service_key bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    CONSTRAINT back_offs_count_from_zero CHECK (back_offs >= 0)
);
COMMENT ON TABLE provider_account IS 'One login at one provider: whether it may be called now.';
COMMENT ON COLUMN provider_account.paused_until IS 'End of a back-off or of the open breaker.';
COMMENT ON COLUMN provider_account.service_key IS 'Makes the markers of this installation its own: nobody can write one on a service who does not know it.';
INSERT INTO provider_account (name) VALUES ('isplicense');

CREATE TABLE provider_order (
    order_id uuid NOT NULL CONSTRAINT provider_order_pkey PRIMARY KEY,
    license_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    number text COLLATE "C" NOT NULL,
    provider_account text COLLATE "C" NOT NULL REFERENCES provider_account,
    kind text NOT NULL,
    step jsonb NOT NULL,
    operation jsonb NOT NULL,
    slot_key text NOT NULL,
    state text NOT NULL DEFAULT 'intended',
    marker_number integer NOT NULL DEFAULT 1,
    attempt integer NOT NULL DEFAULT 0,
    accepted boolean NOT NULL DEFAULT false,
    elid bigint,
    how text,
    refusal text,
    subject text NOT NULL DEFAULT '',
    service_expires_on date,
    service_key text,
    quarantined bigint[] NOT NULL DEFAULT '{}',
    snapshot bigint[] NOT NULL DEFAULT '{}',
    known_charges text[] NOT NULL DEFAULT '{}',
    intended_at timestamptz NOT NULL,
    not_before timestamptz,
    due_at timestamptz DEFAULT clock_timestamp() + interval '5 seconds',
    sent_at timestamptz,
    manual_since timestamptz,
    decided_at timestamptz,
    detailed_at timestamptz,
    announced_at timestamptz,
    settled_at timestamptz,
    cancel_requested_at timestamptz,
    CONSTRAINT order_kind_is_known CHECK (kind IN ('order', 'nodes', 'prolong', 'change', 'end')),
    CONSTRAINT order_state_is_known CHECK (state IN ('intended', 'sending', 'unknown', 'manual', 'confirmed', 'refused')),
    CONSTRAINT confirmed_names_its_service CHECK (state <> 'confirmed' OR (elid IS NOT NULL AND how IS NOT NULL)),
    CONSTRAINT refused_has_a_class CHECK ((state = 'refused') = (refusal IS NOT NULL)),
    CONSTRAINT decided_has_a_moment CHECK ((state IN ('confirmed', 'refused')) = (decided_at IS NOT NULL)),
    CONSTRAINT only_decided_is_detailed CHECK (detailed_at IS NULL OR decided_at IS NOT NULL),
    CONSTRAINT only_decided_is_settled CHECK (settled_at IS NULL OR decided_at IS NOT NULL),
    CONSTRAINT marker_counts_from_one CHECK (marker_number >= 1)
);
CREATE UNIQUE INDEX provider_order_slot ON provider_order (provider_account, slot_key) WHERE state IN ('sending', 'unknown', 'manual');
CREATE UNIQUE INDEX provider_order_service ON provider_order (provider_account, elid) WHERE kind = 'order' AND state = 'confirmed';
CREATE INDEX provider_order_undecided ON provider_order (state, intended_at) WHERE state IN ('intended', 'sending', 'unknown', 'manual');
CREATE INDEX provider_order_due ON provider_order (due_at) WHERE settled_at IS NULL;
CREATE INDEX provider_order_upstream ON provider_order (elid) WHERE elid IS NOT NULL;
CREATE INDEX provider_order_license ON provider_order (license_id, intended_at);
COMMENT ON TABLE provider_order IS 'One thing asked of a provider, stored before anything is sent, kept for ever.';
COMMENT ON COLUMN provider_order.slot_key IS 'What the order could be confused with: two unresolved orders never share it.';
COMMENT ON COLUMN provider_order.due_at IS 'When the scheduler rings for it: a bell that was lost, the next attempt, the next look, an outcome nobody took in.';
COMMENT ON COLUMN provider_order.detailed_at IS 'From here on nothing that the outcome tells changes any more, so that it can be told again word for word.';
COMMENT ON COLUMN provider_order.settled_at IS 'The license worker has taken in the outcome.';
COMMENT ON COLUMN provider_order.cancel_requested_at IS 'A termination waits behind it: not sent any more if nothing was.';

CREATE TABLE provider_attempt (
    order_id uuid NOT NULL REFERENCES provider_order,
    attempt integer NOT NULL,
    lease_token uuid NOT NULL,
    sent_at timestamptz NOT NULL,
    send_not_after timestamptz NOT NULL,
    write_fence_at timestamptz,
    closed_at timestamptz,
    result text,
    evidence jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT provider_attempt_pkey PRIMARY KEY (order_id, attempt),
    CONSTRAINT closed_has_a_result CHECK ((closed_at IS NULL) = (result IS NULL))
);
CREATE UNIQUE INDEX one_attempt_is_open ON provider_attempt (order_id) WHERE closed_at IS NULL;
COMMENT ON TABLE provider_attempt IS 'One claim of an order: at most one request on the wire each.';
COMMENT ON COLUMN provider_attempt.write_fence_at IS 'Set right before the first byte; without it nothing was sent.';

CREATE TABLE provider_look (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT provider_look_pkey PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES provider_order,
    attempt integer NOT NULL,
    looked_at timestamptz NOT NULL,
    elids bigint[] NOT NULL,
    how text NOT NULL,
    conclusive boolean NOT NULL,
    charges text NOT NULL
);
CREATE INDEX provider_look_order ON provider_look (order_id, attempt, looked_at);
COMMENT ON TABLE provider_look IS 'One look for the effect of an order whose outcome is unknown: the evidence that settles it.';
CREATE TRIGGER provider_look_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON provider_look
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE provider_step (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT provider_step_pkey PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES provider_order,
    at timestamptz NOT NULL,
    state_before text,
    state_after text NOT NULL,
    trigger text NOT NULL,
    attempt integer NOT NULL,
    evidence jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX provider_step_order ON provider_step (order_id, id);
CREATE INDEX provider_step_lost ON provider_step (at) WHERE trigger = 'lost';
COMMENT ON TABLE provider_step IS 'Audit of every order: each change of state, what moved it, and the evidence. Nothing secret.';
CREATE TRIGGER provider_step_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON provider_step
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE provider_finding (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT provider_finding_pkey PRIMARY KEY,
    provider_account text COLLATE "C" NOT NULL REFERENCES provider_account,
    kind text NOT NULL,
    elid bigint,
    license_id text COLLATE "C",
    detail text NOT NULL,
    found_at timestamptz NOT NULL,
    closed_at timestamptz
);
CREATE UNIQUE INDEX finding_is_open_once ON provider_finding (provider_account, kind, coalesce(elid, 0), coalesce(license_id, ''))
    WHERE closed_at IS NULL;
COMMENT ON TABLE provider_finding IS 'A difference between our side and the provider''s that people should see.';

-- migrate: rollback
