-- what a batch of commands leaves beside the licenses: results, events, audit
-- depends: 0001_licenses

-- migrate: apply

CREATE TABLE command_result (
    command_id uuid NOT NULL,
    day date NOT NULL,
    license_id text COLLATE "C" NOT NULL,
    payload_sha256 bytea NOT NULL,
    status smallint NOT NULL,
    meta bytea NOT NULL,
    body bytea NOT NULL,
    revision integer,
    handled_at timestamptz NOT NULL,
    CONSTRAINT command_result_pkey PRIMARY KEY (command_id, day),
    CONSTRAINT license_body_stands_with_its_revision CHECK (status <> 1 OR (revision IS NOT NULL AND body = '')),
    CONSTRAINT payload_hash_is_sha256 CHECK (octet_length(payload_sha256) = 32)
) PARTITION BY RANGE (day);
COMMENT ON TABLE command_result IS 'The stored reply of every command id: a redelivered record is answered from here and changes nothing. One partition per day, dropped a day after the command topic forgot; the primary key starts with the id, so that no plan ever reads a whole day.';
COMMENT ON COLUMN command_result.day IS 'UTC day in the command id itself (UUIDv7), never a clock.';
COMMENT ON COLUMN command_result.payload_sha256 IS 'The same id with another payload is nobody''s command.';
COMMENT ON COLUMN command_result.status IS 'Number of the reply status; 1 is a license body, whose bytes stand with the revision.';
CREATE TABLE command_result_default PARTITION OF command_result DEFAULT;
COMMENT ON TABLE command_result_default IS 'Days that nobody prepared: correct, only slower to forget.';
CREATE TRIGGER command_result_is_append_only BEFORE UPDATE OR DELETE ON command_result
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION ensure_command_result_days(first_day date, days integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    wanted date;
    partition text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('command_result_days', 0));
    FOR wanted IN SELECT first_day + n FROM generate_series(0, days - 1) AS n LOOP
        partition := 'command_result_' || to_char(wanted, 'YYYYMMDD');
        -- A day that has begun in the default partition stays there: one day, one place, one primary key.
        CONTINUE WHEN to_regclass(partition) IS NOT NULL
            OR EXISTS (SELECT FROM command_result_default WHERE day = wanted);
        EXECUTE format('CREATE TABLE %I (LIKE command_result INCLUDING ALL)', partition);
        EXECUTE format(
            'ALTER TABLE command_result ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            partition, wanted, wanted + 1
        );
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;
COMMENT ON FUNCTION ensure_command_result_days(date, integer) IS 'Make the partitions of so many days from the first on; returns how many were new. Safe from several processes at once.';

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT outbox_pkey PRIMARY KEY,
    event_id uuid NOT NULL,
    topic text NOT NULL,
    key text COLLATE "C" NOT NULL,
    license_id text COLLATE "C" NOT NULL,
    sequence bigint,
    command_id uuid NOT NULL,
    type text NOT NULL,
    value bytea NOT NULL,
    created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    created_at timestamptz NOT NULL,
    published_at timestamptz,
    CONSTRAINT sequence_names_one_event UNIQUE (license_id, sequence),
    CONSTRAINT event_sequence_counts_from_one CHECK (sequence >= 1)
);
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
COMMENT ON TABLE outbox IS 'Every event, written with the state that it tells of, kept for ever so that it can be published again from any sequence. Only published_at ever changes.';
COMMENT ON COLUMN outbox.topic IS 'Topic without the installation''s prefix.';
COMMENT ON COLUMN outbox.sequence IS 'Counts 1, 2, 3 … per license without a gap; null for what is not a public event.';
COMMENT ON COLUMN outbox.created_xid IS 'Transaction that wrote the row: a reader takes rows below its snapshot''s xmin only, so that a late commit is never skipped.';
COMMENT ON COLUMN outbox.created_at IS 'System clock.';
CREATE TRIGGER outbox_is_kept BEFORE DELETE OR TRUNCATE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER outbox_is_not_rewritten
    BEFORE UPDATE OF id, event_id, topic, key, license_id, sequence, command_id, type, value, created_xid, created_at
    ON outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY,
    license_id text COLLATE "C" NOT NULL,
    command_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    previous_sha256 bytea NOT NULL,
    entry_sha256 bytea NOT NULL,
    entry bytea NOT NULL,
    CONSTRAINT audit_chain_never_forks PRIMARY KEY (license_id, previous_sha256),
    CONSTRAINT links_are_sha256 CHECK (octet_length(previous_sha256) = 32 AND octet_length(entry_sha256) = 32)
);
COMMENT ON TABLE audit IS 'One hash chain per license: entry_sha256 = SHA-256(previous_sha256 + entry); its head stands in the license row.';
COMMENT ON COLUMN audit.id IS 'Order within a license. Gaps mean nothing.';
COMMENT ON COLUMN audit.entry IS 'JSON: who asked what, when, and what became of it. Nothing secret.';
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TYPE command_effect_event AS (
    event_id uuid,
    type text,
    sequence bigint,
    value bytea
);

CREATE TYPE command_effect AS (
    command_id uuid,
    day date,
    license_id text,
    payload_sha256 bytea,
    status smallint,
    meta bytea,
    body bytea,
    reply_revision integer,
    handled_at timestamptz,
    version_before bigint,
    account_id text,
    number text,
    activation_code text,
    product text,
    model text,
    license_status text,
    suspended boolean,
    test boolean,
    subscription_on date,
    start_on date,
    purchase_on date,
    expires_on date,
    terminated_at timestamptz,
    activation_data text,
    reg_name text,
    revision integer,
    key_version integer,
    sequence bigint,
    audit_sha256 bytea,
    issued_revision integer,
    issued_cause text,
    issued_product text,
    issued_expires_on date,
    issued_body bytea,
    issued_body_sha256 bytea,
    fingerprint bytea,
    operation_revision integer,
    forget_after integer,
    events command_effect_event[],
    audit_entry bytea,
    audit_previous_sha256 bytea,
    audit_entry_sha256 bytea
);
COMMENT ON TYPE command_effect IS 'Everything one command leaves behind: the one parameter of the statement that writes a batch. Running workers know its members by position: a change is a new type beside this one, removed a release later.';
COMMENT ON COLUMN command_effect.version_before IS 'Version read; 0 for a new license, null when this command does not write the row.';

CREATE FUNCTION require_every_update(updated bigint, wanted bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF updated <> wanted THEN
        RAISE EXCEPTION '% of % licenses moved on since they were read', wanted - updated, wanted USING ERRCODE = 'KW001';
    END IF;
END
$$;
COMMENT ON FUNCTION require_every_update(bigint, bigint) IS 'Ends the statement that writes a batch, and so its transaction, when a license is no longer as it was read (SQLSTATE KW001).';

-- migrate: rollback
