-- The schema as it is now, for reading. `migrations/` leads here; a test proves that both are the same.

-- Licenses, their revisions and operations

CREATE SEQUENCE license_key_id AS bigint START WITH 10000001;

CREATE TABLE license (
    license_id text COLLATE "C" NOT NULL CONSTRAINT license_pkey PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL,
    number text COLLATE "C" NOT NULL,
    key_id bigint NOT NULL DEFAULT nextval('license_key_id') CONSTRAINT key_id_names_one_license UNIQUE,
    activation_code text COLLATE "C" CONSTRAINT activation_code_names_one_license UNIQUE,
    product text NOT NULL,
    nfr boolean NOT NULL GENERATED ALWAYS AS (starts_with(product, 'NFR-')) STORED,
    model text NOT NULL,
    test boolean NOT NULL,
    status text NOT NULL,
    suspended boolean NOT NULL,
    subscription_on date,
    start_on date,
    purchase_on date,
    expires_on date,
    terminated_at timestamptz,
    activation_data text,
    reg_name text,
    revision integer NOT NULL,
    key_version integer NOT NULL,
    sequence bigint NOT NULL,
    published_sequence bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 1,
    audit_sha256 bytea NOT NULL,
    service jsonb,
    key jsonb,
    CONSTRAINT license_id_is_account_and_number CHECK (license_id = account_id || ':' || number),
    CONSTRAINT model_is_known CHECK (model IN ('standard', 'reporting')),
    CONSTRAINT status_is_known CHECK (status IN ('active', 'lapsed', 'terminated')),
    CONSTRAINT terminated_has_terminated_at CHECK ((status = 'terminated') = (terminated_at IS NOT NULL)),
    CONSTRAINT only_a_tombstone_was_never_issued CHECK (revision > 0 OR (revision = 0 AND status = 'terminated')),
    CONSTRAINT issued_has_expiry CHECK ((revision > 0) = (expires_on IS NOT NULL)),
    CONSTRAINT issued_has_activation_code CHECK (revision = 0 OR activation_code IS NOT NULL),
    CONSTRAINT key_version_counts_from_zero CHECK (key_version >= 0),
    CONSTRAINT version_counts_from_one CHECK (version >= 1),
    CONSTRAINT sequence_counts_from_one CHECK (sequence >= 1),
    CONSTRAINT published_events_were_written CHECK (published_sequence BETWEEN 0 AND sequence),
    CONSTRAINT audit_head_is_sha256 CHECK (octet_length(audit_sha256) = 32)
) WITH (fillfactor = 80);

ALTER SEQUENCE license_key_id OWNED BY license.key_id;

COMMENT ON TABLE license IS 'One row per license number of an account, kept for ever: a terminated one is a tombstone. license_id holds account and number, so its primary key is also the promise of one license per (account, number).';
COMMENT ON COLUMN license.account_id IS 'Name of the account that owns the number; another account''s number is unknown to it.';
COMMENT ON COLUMN license.number IS 'Number as text: 00123456 is not 123456.';
COMMENT ON COLUMN license.key_id IS 'Numeric id in the Partner API, drawn here, immutable. Gaps mean nothing.';
COMMENT ON COLUMN license.activation_code IS 'Immutable; only a tombstone may lack one.';
COMMENT ON COLUMN license.nfr IS 'Not for resale; follows from the product alone and so cannot contradict it.';
COMMENT ON COLUMN license.status IS 'Stored status; shown is terminated > suspended > lapsed > active.';
COMMENT ON COLUMN license.expires_on IS 'Last day, UTC; null for a tombstone of a number never issued.';
COMMENT ON COLUMN license.revision IS 'Issued bodies, from 1; 0 for a tombstone of a number never issued.';
COMMENT ON COLUMN license.key_version IS 'Last part of a Partner key number, from 0, raised by upgrades. Not the revision.';
COMMENT ON COLUMN license.sequence IS 'Number of the latest public event.';
COMMENT ON COLUMN license.published_sequence IS 'Every event up to this one was published. Kept by the relay alone.';
COMMENT ON COLUMN license.version IS 'Compare-and-set counter: +1 with every batch that writes this row.';
COMMENT ON COLUMN license.audit_sha256 IS 'Head of this license''s audit chain.';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: its rows are history', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
COMMENT ON FUNCTION refuse_change() IS 'Trigger of append-only tables: nobody, owner and superuser included, changes history by accident.';

CREATE FUNCTION refuse_license_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'license % cannot change so: terminated is final, the last day never falls, ids and codes stay', OLD.license_id
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END
$$;
COMMENT ON FUNCTION refuse_license_change() IS 'Trigger that refuses what no rule may decide; its condition is checked without a call.';

CREATE TRIGGER license_only_moves_forward BEFORE UPDATE ON license FOR EACH ROW
    WHEN (
        (OLD.status = 'terminated' AND (NEW.status <> 'terminated' OR NEW.revision <> OLD.revision))
        OR NEW.expires_on < OLD.expires_on
        OR (NEW.expires_on IS NULL AND OLD.expires_on IS NOT NULL)
        OR NEW.license_id <> OLD.license_id
        OR NEW.key_id <> OLD.key_id
        OR NEW.activation_code IS DISTINCT FROM OLD.activation_code
        OR NEW.version < OLD.version
        OR NEW.sequence < OLD.sequence
    )
    EXECUTE FUNCTION refuse_license_change();
CREATE TRIGGER license_is_kept BEFORE DELETE OR TRUNCATE ON license FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE revision (
    license_id text COLLATE "C" NOT NULL,
    revision integer NOT NULL,
    cause text NOT NULL,
    product text NOT NULL,
    expires_on date NOT NULL,
    issued_at timestamptz NOT NULL,
    body_sha256 bytea NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT revision_pkey PRIMARY KEY (license_id, revision),
    CONSTRAINT revision_counts_from_one CHECK (revision >= 1),
    CONSTRAINT cause_is_known CHECK (cause IN ('issued', 'renewed', 'upgraded')),
    CONSTRAINT first_revision_is_issued CHECK ((revision = 1) = (cause = 'issued')),
    CONSTRAINT body_hash_is_sha256 CHECK (octet_length(body_sha256) = 32),
    CONSTRAINT body_is_not_empty CHECK (octet_length(body) > 0)
);
COMMENT ON TABLE revision IS 'Every issued license body, byte for byte, once; replies refer to it. No foreign key: the one statement that writes it writes the license too, and a key would cost a look-up per row.';
COMMENT ON COLUMN revision.issued_at IS 'System clock.';
CREATE TRIGGER revision_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON revision
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE operation (
    license_id text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    revision integer NOT NULL,
    CONSTRAINT operation_pkey PRIMARY KEY (license_id, fingerprint),
    CONSTRAINT fingerprint_is_sha256 CHECK (octet_length(fingerprint) = 32)
);
COMMENT ON TABLE operation IS 'One permanent row per successful PURCHASE, RENEW or UPGRADE: how a repeat is known when the protocol has no request id. Deleted only when a lost upgrade is undone.';
COMMENT ON COLUMN operation.revision IS 'Revision in force right after the operation.';
CREATE TRIGGER operation_is_not_rewritten BEFORE UPDATE OR TRUNCATE ON operation
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What a batch of commands leaves beside the licenses: results, events, audit

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
    audit_entry_sha256 bytea,
    service text,
    key_id bigint,
    key text
);
COMMENT ON TYPE command_effect IS 'Everything one command leaves behind: the one parameter of the statement that writes a batch. Running workers know its members by position: a change is a new type beside this one, removed a release later.';
COMMENT ON COLUMN command_effect.version_before IS 'Version read; 0 for a new license, null when this command does not write the row.';
COMMENT ON COLUMN command_effect.key_id IS 'Key id of a new Partner key, drawn before; null: it is drawn now.';

CREATE FUNCTION require_every_update(updated bigint, wanted bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF updated <> wanted THEN
        RAISE EXCEPTION '% of % licenses moved on since they were read', wanted - updated, wanted USING ERRCODE = 'KW001';
    END IF;
END
$$;
COMMENT ON FUNCTION require_every_update(bigint, bigint) IS 'Ends the statement that writes a batch, and so its transaction, when a license is no longer as it was read (SQLSTATE KW001).';

-- What operators and processes keep: accounts, catalogs, signing keys, reply partitions

CREATE FUNCTION tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_TABLE_NAME || '_changed', '');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tell_change() IS 'Trigger that tells listeners on <table>_changed to look again.';

CREATE TABLE account (
    name text COLLATE "C" NOT NULL CONSTRAINT account_pkey PRIMARY KEY,
    role text NOT NULL,
    secret_hash text NOT NULL,
    credential_version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    CONSTRAINT account_name_is_plain CHECK (name ~ '^[a-z0-9-]{1,32}$'),
    CONSTRAINT role_is_known CHECK (role IN ('ka', 'partner', 'operator')),
    CONSTRAINT secret_is_hashed CHECK (secret_hash LIKE '$argon2id$%'),
    CONSTRAINT credential_version_counts_from_one CHECK (credential_version >= 1)
);
COMMENT ON TABLE account IS 'Callers. Never deleted: license numbers are bound to the name.';
COMMENT ON COLUMN account.secret_hash IS 'argon2id; the secret itself is nowhere.';
COMMENT ON COLUMN account.credential_version IS '+1 with every rotation.';
CREATE TRIGGER account_is_kept BEFORE DELETE OR TRUNCATE ON account FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER account_tells_change AFTER INSERT OR UPDATE ON account FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE catalog_version (
    version integer NOT NULL CONSTRAINT catalog_version_pkey PRIMARY KEY,
    loaded_at timestamptz NOT NULL DEFAULT now(),
    document text NOT NULL,
    CONSTRAINT catalog_version_counts_from_one CHECK (version >= 1)
);
COMMENT ON TABLE catalog_version IS 'Every catalog that was ever loaded; the newest is in force.';
COMMENT ON COLUMN catalog_version.document IS 'The checked document as text.';
CREATE TRIGGER catalog_version_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalog_version
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER catalog_version_tells_change AFTER INSERT ON catalog_version
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE signing_key (
    kid text COLLATE "C" NOT NULL CONSTRAINT signing_key_pkey PRIMARY KEY,
    jwk jsonb NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT jwk_has_its_kid CHECK (jwk ->> 'kid' = kid),
    CONSTRAINT jwk_is_public CHECK (NOT jwk ?| ARRAY['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'])
);
COMMENT ON TABLE signing_key IS 'Public keys of license bodies, for ever: an old body must stay verifiable. Private keys are in no database.';
CREATE TRIGGER signing_key_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON signing_key
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER signing_key_tells_change AFTER INSERT ON signing_key FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE reply_slot (
    slot smallint NOT NULL CONSTRAINT reply_slot_pkey PRIMARY KEY,
    owner uuid,
    leased_until timestamptz,
    CONSTRAINT slot_is_a_reply_partition CHECK (slot BETWEEN 0 AND 63),
    CONSTRAINT owner_has_a_lease CHECK ((owner IS NULL) = (leased_until IS NULL))
);
COMMENT ON TABLE reply_slot IS 'Which gateway process listens on which reply partition. By the database''s clock; two owners are harmless, because replies carry their correlation id.';
INSERT INTO reply_slot (slot) SELECT n FROM generate_series(0, 63) AS n;

-- How far the relay has come

CREATE TABLE relay_progress (
    only_row boolean NOT NULL DEFAULT true CONSTRAINT relay_progress_pkey PRIMARY KEY,
    counted_up_to bigint NOT NULL DEFAULT 0,
    CONSTRAINT there_is_one_row CHECK (only_row)
);
COMMENT ON TABLE relay_progress IS 'Up to which outbox row published events stand in license.published_sequence. Written by the active relay alone.';
INSERT INTO relay_progress DEFAULT VALUES;

-- Providers: services, operations under way, orders, attempts, looks, findings

COMMENT ON COLUMN license.service IS 'The upstream service held for a provider product; null for local products and once released.';
COMMENT ON COLUMN license.key IS 'What the Partner API knows of the license; null while it has never changed it.';
CREATE UNIQUE INDEX key_address_is_bound_once ON license ((key ->> 'family'), (key ->> 'address'))
    WHERE status <> 'terminated' AND key ->> 'address' IS NOT NULL;
CREATE UNIQUE INDEX key_uid_is_used_once ON license ((key ->> 'family'), (key ->> 'uid'))
    WHERE status <> 'terminated' AND key ->> 'uid' IS NOT NULL;
CREATE INDEX license_by_key_address ON license ((key ->> 'address')) WHERE key ->> 'address' IS NOT NULL;
CREATE INDEX license_by_key_uid ON license ((key ->> 'uid')) WHERE key ->> 'uid' IS NOT NULL;
CREATE INDEX license_by_key_parent ON license ((key -> 'parent' ->> 'license_id') COLLATE "C")
    WHERE key -> 'parent' ->> 'license_id' IS NOT NULL;
CREATE INDEX license_by_key_owner ON license ((key ->> 'owner') COLLATE "C", key_id) WHERE key ->> 'owner' IS NOT NULL;
CREATE FUNCTION owned_constants(key jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS $$
    SELECT coalesce(array_agg((key ->> 'owner') || ' ' || upper(item ->> 'item')), '{}')
    FROM jsonb_array_elements(key -> 'items') AS held (item)
$$;
COMMENT ON FUNCTION owned_constants(jsonb) IS 'The owner of a key document with each constant that it holds, in upper case: `10001 360-MON-1M`.';
CREATE INDEX license_of_account ON license (account_id, key_id) WHERE key IS NULL;
CREATE INDEX license_by_key_nickname ON license ((key ->> 'owner') COLLATE "C", (key ->> 'nickname'))
    WHERE key ->> 'nickname' <> '';
CREATE INDEX license_by_key_constant ON license USING gin (owned_constants(key)) WHERE key IS NOT NULL;
CREATE INDEX license_with_restriction ON license ((key ->> 'owner') COLLATE "C", key_id)
    WHERE key ->> 'restrict_address' = 'true';
CREATE INDEX license_bought_for_good ON license ((key ->> 'owner') COLLATE "C", key_id) WHERE key ->> 'purchased' = 'true';
CREATE INDEX license_with_service ON license (license_id) WHERE service IS NOT NULL;
CREATE INDEX license_with_service_ended ON license (terminated_at) WHERE status = 'terminated' AND service IS NOT NULL;
CREATE INDEX license_due ON license (expires_on) WHERE status = 'active';

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
    in_use boolean NOT NULL DEFAULT false,
    unresolved_max integer NOT NULL DEFAULT 8,
    CONSTRAINT back_offs_count_from_zero CHECK (back_offs >= 0),
    CONSTRAINT provider_account_name_is_plain CHECK (name ~ '^[a-z0-9-]{1,32}$'),
    CONSTRAINT unresolved_is_bounded CHECK (unresolved_max >= 1)
);
COMMENT ON TABLE provider_account IS 'One login at one provider: whether it may be called now.';
COMMENT ON COLUMN provider_account.paused_until IS 'End of a back-off or of the open breaker.';
COMMENT ON COLUMN provider_account.service_key IS 'Makes the markers of this installation its own: nobody can write one on a service who does not know it.';
COMMENT ON COLUMN provider_account.in_use IS 'Whether the provider role has a login for it. Accounts stay when they are given up: orders name them.';
COMMENT ON COLUMN provider_account.unresolved_max IS 'So many orders may have an unknown outcome; beyond, new ones are answered 503. Written by the provider role from its settings.';
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
    put_off integer NOT NULL DEFAULT 0,
    CONSTRAINT order_kind_is_known CHECK (kind IN ('order', 'nodes', 'prolong', 'change', 'end')),
    CONSTRAINT order_state_is_known CHECK (state IN ('intended', 'sending', 'unknown', 'manual', 'confirmed', 'refused')),
    CONSTRAINT confirmed_names_its_service CHECK (state <> 'confirmed' OR (elid IS NOT NULL AND how IS NOT NULL)),
    CONSTRAINT refused_has_a_class CHECK ((state = 'refused') = (refusal IS NOT NULL)),
    CONSTRAINT decided_has_a_moment CHECK ((state IN ('confirmed', 'refused')) = (decided_at IS NOT NULL)),
    CONSTRAINT only_decided_is_detailed CHECK (detailed_at IS NULL OR decided_at IS NOT NULL),
    CONSTRAINT only_decided_is_settled CHECK (settled_at IS NULL OR decided_at IS NOT NULL),
    CONSTRAINT marker_counts_from_one CHECK (marker_number >= 1),
    CONSTRAINT put_off_counts_from_zero CHECK (put_off >= 0)
);
CREATE UNIQUE INDEX provider_order_slot ON provider_order (provider_account, slot_key) WHERE state IN ('sending', 'unknown', 'manual');
CREATE UNIQUE INDEX provider_order_service ON provider_order (provider_account, elid) WHERE kind = 'order' AND state = 'confirmed';
CREATE INDEX provider_order_undecided ON provider_order (state, intended_at) WHERE state IN ('intended', 'sending', 'unknown', 'manual');
CREATE INDEX provider_order_due ON provider_order (due_at) WHERE settled_at IS NULL;
CREATE INDEX provider_order_upstream ON provider_order (elid) WHERE elid IS NOT NULL;
CREATE INDEX provider_order_license ON provider_order (license_id, intended_at);
CREATE INDEX provider_order_target ON provider_order (provider_account, ((operation -> 'of' ->> 'elid')::bigint))
    WHERE kind <> 'order';
CREATE INDEX provider_order_made ON provider_order (provider_account, (operation ->> 'is'), decided_at DESC)
    WHERE kind = 'order' AND state = 'confirmed';
COMMENT ON TABLE provider_order IS 'One thing asked of a provider, stored before anything is sent, kept for ever.';
COMMENT ON COLUMN provider_order.slot_key IS 'What the order could be confused with: two unresolved orders never share it.';
COMMENT ON COLUMN provider_order.due_at IS 'When the scheduler rings for it: a bell that was lost, the next attempt, the next look, an outcome nobody took in.';
COMMENT ON COLUMN provider_order.detailed_at IS 'From here on nothing that the outcome tells changes any more, so that it can be told again word for word.';
COMMENT ON COLUMN provider_order.settled_at IS 'The license worker has taken in the outcome.';
COMMENT ON COLUMN provider_order.cancel_requested_at IS 'A termination waits behind it: not sent any more if nothing was.';
COMMENT ON COLUMN provider_order.put_off IS 'How often the provider refused a release for a passing reason.';

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
    closed_at timestamptz,
    concerns text NOT NULL DEFAULT '',
    seen_in uuid
);
CREATE UNIQUE INDEX finding_is_open_once
    ON provider_finding (provider_account, kind, coalesce(elid, 0), coalesce(license_id, ''), concerns) WHERE closed_at IS NULL;
COMMENT ON TABLE provider_finding IS 'A difference between our side and the provider''s that people should see.';
COMMENT ON COLUMN provider_finding.concerns IS 'The order or the charge concerned, where a service or license does not name it.';
COMMENT ON COLUMN provider_finding.seen_in IS 'The latest sweep that met it; one that ends without meeting it closes it.';

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
    nodes_through bigint NOT NULL DEFAULT 0,
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
COMMENT ON COLUMN provider_sweep.nodes_through IS 'Numbers of nodes were read up to this service; the next sweep of the scheduler goes on after it.';

-- Usage: raw events, counters, how far the topic is read, reports, settlement months

CREATE TABLE usage_event (
    source text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    license_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    product text NOT NULL,
    nfr boolean NOT NULL GENERATED ALWAYS AS (starts_with(product, 'NFR-')) STORED,
    test boolean NOT NULL,
    counter text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    value numeric NOT NULL,
    at timestamptz NOT NULL,
    month date NOT NULL,
    content_sha256 bytea NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    received_at timestamptz NOT NULL,
    generation integer NOT NULL DEFAULT 1,
    CONSTRAINT usage_event_pkey PRIMARY KEY (source, event_id),
    CONSTRAINT usage_kind_is_known CHECK (kind IN ('level', 'increment')),
    CONSTRAINT usage_value_is_a_count CHECK (value BETWEEN 0 AND 9007199254740991),
    CONSTRAINT usage_content_hash_is_sha256 CHECK (octet_length(content_sha256) = 32),
    CONSTRAINT usage_month_is_a_first_day CHECK (date_trunc('month', month::timestamp) = month::timestamp),
    CONSTRAINT usage_never_counts_into_an_earlier_month CHECK (month >= (date_trunc('month', at AT TIME ZONE 'UTC'))::date)
);
CREATE INDEX usage_event_of_license ON usage_event (license_id, counter, at);
CREATE INDEX usage_event_of_month ON usage_event (month, account_id, product) WHERE NOT test AND NOT nfr;
COMMENT ON TABLE usage_event IS 'Every usage event that counts, once, for ever: the evidence behind each reported and each settled figure. Its primary key is the promise that a duplicate changes nothing.';
COMMENT ON COLUMN usage_event.product IS 'Product id held when the event was taken in.';
COMMENT ON COLUMN usage_event.test IS 'Test flag of the license, which never changes.';
COMMENT ON COLUMN usage_event.at IS 'When it happened, as its source says.';
COMMENT ON COLUMN usage_event.month IS 'Settlement month into which it counts (first day): that of `at`, or a later one when that was closed already.';
COMMENT ON COLUMN usage_event.content_sha256 IS 'The same source and id with another content is nobody''s event.';
COMMENT ON COLUMN usage_event.record_offset IS 'Where it stood on the topic when it was first taken in.';
COMMENT ON COLUMN usage_event.received_at IS 'System clock.';
COMMENT ON COLUMN usage_event.generation IS 'To which usage_topic its partition and record_offset belong.';
CREATE TRIGGER usage_event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE usage_total (
    license_id text COLLATE "C" NOT NULL,
    counter text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    value numeric NOT NULL,
    at timestamptz NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    events bigint NOT NULL,
    CONSTRAINT usage_total_pkey PRIMARY KEY (license_id, counter, kind),
    CONSTRAINT usage_total_kind_is_known CHECK (kind IN ('level', 'increment')),
    CONSTRAINT usage_total_is_not_negative CHECK (value >= 0)
);
COMMENT ON TABLE usage_total IS 'The fold of usage_event per license and counter, moved in the transaction of its events.';
COMMENT ON COLUMN usage_total.value IS 'Level: that of the latest event, ties by id. Increment: the sum.';
COMMENT ON COLUMN usage_total.at IS 'Time of the latest event, with its id and source.';

CREATE TABLE usage_watermark (
    partition integer NOT NULL CONSTRAINT usage_watermark_pkey PRIMARY KEY,
    next_offset bigint NOT NULL,
    CONSTRAINT next_offset_counts_from_zero CHECK (next_offset >= 0)
);
COMMENT ON TABLE usage_watermark IS 'Offset of usage.reported to read next, per partition: everything before it is taken in or set aside. Moved in the transaction of those events.';

CREATE TABLE usage_topic (
    generation integer NOT NULL CONSTRAINT usage_topic_pkey PRIMARY KEY,
    topic_id uuid NOT NULL,
    noticed_at timestamptz NOT NULL,
    earlier_watermark bigint[] NOT NULL,
    accepted_at timestamptz,
    reason text NOT NULL DEFAULT '',
    CONSTRAINT generation_counts_from_one CHECK (generation >= 1),
    CONSTRAINT acceptance_has_its_reason CHECK (generation = 1 OR (accepted_at IS NULL) = (reason = ''))
);
COMMENT ON TABLE usage_topic IS 'The topics that have borne the name usage.reported, or one whose end fell back; the newest is read. Until people accept it, nothing is told that needs everything to be read.';
COMMENT ON COLUMN usage_topic.topic_id IS 'Given by Kafka.';
COMMENT ON COLUMN usage_topic.noticed_at IS 'System clock, as accepted_at.';
COMMENT ON COLUMN usage_topic.earlier_watermark IS 'How far the one before was read, per partition: what it held beyond is gone unless it is sent again.';
COMMENT ON COLUMN usage_topic.reason IS 'What people did about events that the one before may have held unread.';
CREATE TRIGGER usage_topic_is_kept BEFORE DELETE OR TRUNCATE ON usage_topic
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE usage_report (
    command_id uuid NOT NULL CONSTRAINT usage_report_pkey PRIMARY KEY,
    license_id text COLLATE "C" NOT NULL,
    reported_at timestamptz NOT NULL,
    figures jsonb NOT NULL,
    kinds jsonb NOT NULL,
    watermark bigint[] NOT NULL,
    generation integer NOT NULL DEFAULT 1
);
CREATE INDEX usage_report_of_license ON usage_report (license_id, reported_at);
COMMENT ON TABLE usage_report IS 'Every usage figure that was told to a caller, with how far usage.reported was read by then: usage_event up to there gives the same figure again.';
COMMENT ON COLUMN usage_report.reported_at IS 'Business clock.';
COMMENT ON COLUMN usage_report.watermark IS 'Next offset per partition, from partition 0.';
COMMENT ON COLUMN usage_report.generation IS 'To which usage_topic the watermark belongs; all events of earlier ones are in the figures.';
CREATE TRIGGER usage_report_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_report
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE usage_settlement (
    account_id text COLLATE "C" NOT NULL,
    product text COLLATE "C" NOT NULL,
    month date NOT NULL,
    state text NOT NULL,
    closed_at timestamptz NOT NULL,
    disputed_at timestamptz,
    settled_at timestamptz,
    reason text NOT NULL DEFAULT '',
    CONSTRAINT usage_settlement_pkey PRIMARY KEY (account_id, product, month),
    CONSTRAINT settlement_state_is_known CHECK (state IN ('closed', 'disputed', 'settled')),
    CONSTRAINT settlement_month_is_a_first_day CHECK (date_trunc('month', month::timestamp) = month::timestamp),
    CONSTRAINT settled_has_settled_at CHECK ((state = 'settled') = (settled_at IS NOT NULL)),
    CONSTRAINT disputed_has_disputed_at CHECK (state <> 'disputed' OR disputed_at IS NOT NULL),
    CONSTRAINT not_for_resale_is_never_settled CHECK (NOT starts_with(product, 'NFR-'))
);
COMMENT ON TABLE usage_settlement IS 'Months of an account and product that are no longer open. A month without a row, after the last closed one, is open.';
COMMENT ON COLUMN usage_settlement.closed_at IS 'Business clock, as the other times here.';
COMMENT ON COLUMN usage_settlement.reason IS 'Why it is or was disputed.';

CREATE FUNCTION refuse_settlement_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'settlement % % % never goes from % to %', OLD.account_id, OLD.product, OLD.month, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END
$$;
COMMENT ON FUNCTION refuse_settlement_change() IS 'Trigger that refuses what the rules of settlement never decide; its condition is checked without a call.';
CREATE TRIGGER settlement_only_moves_forward BEFORE UPDATE ON usage_settlement FOR EACH ROW
    WHEN (
        OLD.state = 'settled'
        OR (OLD.state = 'disputed' AND NEW.state <> 'settled')
        OR (OLD.state = 'closed' AND NEW.state NOT IN ('disputed', 'settled'))
        OR NEW.account_id <> OLD.account_id OR NEW.product <> OLD.product OR NEW.month <> OLD.month
        OR NEW.closed_at <> OLD.closed_at
    )
    EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER settlement_is_kept BEFORE DELETE OR TRUNCATE ON usage_settlement
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE usage_settlement_line (
    account_id text COLLATE "C" NOT NULL,
    product text COLLATE "C" NOT NULL,
    month date NOT NULL,
    license_id text COLLATE "C" NOT NULL,
    counter text COLLATE "C" NOT NULL,
    for_month date NOT NULL,
    kind text NOT NULL,
    value numeric NOT NULL,
    events bigint NOT NULL,
    test boolean NOT NULL DEFAULT false,
    CONSTRAINT usage_settlement_line_pkey PRIMARY KEY (account_id, product, month, license_id, counter, for_month),
    CONSTRAINT line_belongs_to_a_closed_month FOREIGN KEY (account_id, product, month) REFERENCES usage_settlement,
    CONSTRAINT line_kind_is_known CHECK (kind IN ('level', 'increment')),
    CONSTRAINT line_is_not_negative CHECK (value >= 0),
    CONSTRAINT adjustment_looks_back CHECK (for_month <= month),
    CONSTRAINT line_not_for_resale_is_never_settled CHECK (NOT starts_with(product, 'NFR-')),
    CONSTRAINT test_is_never_settled CHECK (NOT test)
);
CREATE INDEX usage_settlement_line_for ON usage_settlement_line (account_id, product, for_month);
COMMENT ON TABLE usage_settlement_line IS 'The figures of a closed month, one per license and counter; rows for an earlier month are adjustments by events that came after it was closed.';
COMMENT ON COLUMN usage_settlement_line.value IS 'Exact. Level: the highest in force at any time of the month. Increment: the sum. Adjustment: what is added to the earlier month.';
COMMENT ON COLUMN usage_settlement_line.test IS 'Always false: written from the license, so that a test license can never be settled.';
CREATE TRIGGER usage_settlement_line_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_settlement_line
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE intake_request (
    source text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    type text NOT NULL,
    license_id text COLLATE "C" NOT NULL,
    content_sha256 bytea NOT NULL,
    command_id uuid NOT NULL,
    first_seen_at timestamptz NOT NULL,
    handed_over_at timestamptz,
    CONSTRAINT intake_request_pkey PRIMARY KEY (source, request_id),
    CONSTRAINT content_hash_is_sha256 CHECK (octet_length(content_sha256) = 32)
);
COMMENT ON TABLE intake_request IS 'Every public request ever seen, once: how a repeat is known for as long as the data lives, whatever topics forget.';
COMMENT ON COLUMN intake_request.content_sha256 IS 'The same source and id with other content is nobody''s request.';
COMMENT ON COLUMN intake_request.command_id IS 'Made from source, id and the first arrival, so that handing over twice is one command.';
COMMENT ON COLUMN intake_request.handed_over_at IS 'When its command was acknowledged on the topic, or its answer written; never handed over again.';
CREATE TRIGGER intake_request_is_kept BEFORE DELETE OR TRUNCATE ON intake_request
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER intake_request_is_not_rewritten
    BEFORE UPDATE OF source, request_id, type, license_id, content_sha256, command_id, first_seen_at
    ON intake_request FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE dead_letter_action (
    topic text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    dead_offset bigint NOT NULL,
    letter_at timestamptz NOT NULL,
    action text NOT NULL,
    attempt integer NOT NULL,
    acted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letter_action_pkey PRIMARY KEY (topic, partition, dead_offset, letter_at),
    CONSTRAINT action_is_known CHECK (action IN ('retried', 'discarded'))
);
COMMENT ON TABLE dead_letter_action IS 'Dead letters that people have dealt with: the others are open. The letter itself stays on its topic until that forgets it.';
COMMENT ON COLUMN dead_letter_action.topic IS 'Dead-letter topic with the installation''s prefix.';
COMMENT ON COLUMN dead_letter_action.letter_at IS 'The record''s own time: a topic made anew counts offsets from 0 again.';
COMMENT ON COLUMN dead_letter_action.attempt IS 'Attempts that the letter told of.';
CREATE TRIGGER dead_letter_action_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON dead_letter_action
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What the Partner API adds

CREATE TABLE named_request (
    account_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    body_sha256 bytea NOT NULL,
    license_id text COLLATE "C" NOT NULL,
    command_id uuid NOT NULL,
    status smallint NOT NULL,
    meta bytea NOT NULL,
    body bytea NOT NULL,
    handled_at timestamptz NOT NULL,
    CONSTRAINT named_request_pkey PRIMARY KEY (account_id, name),
    CONSTRAINT request_hash_is_sha256 CHECK (octet_length(body_sha256) = 32)
);
CREATE INDEX named_request_age ON named_request (handled_at);
COMMENT ON TABLE named_request IS 'Requests that their callers named (Idempotency-Key) and the reply to each, kept for 30 days.';
COMMENT ON COLUMN named_request.body_sha256 IS 'Of method, path and body: the same name for anything else is refused.';

-- Owners of keys

CREATE TABLE price_list (
    name text COLLATE "C" NOT NULL CONSTRAINT price_list_pkey PRIMARY KEY,
    items text[] NOT NULL,
    CONSTRAINT price_list_name_is_plain CHECK (name ~ '^[a-z0-9-]{1,32}$')
);
COMMENT ON TABLE price_list IS 'Item constants that accounts with this list may order.';
CREATE TRIGGER price_list_tells_change AFTER INSERT OR UPDATE OR DELETE ON price_list
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE owner (
    owner_id text COLLATE "C" NOT NULL CONSTRAINT owner_pkey PRIMARY KEY,
    kind text NOT NULL,
    reseller_id text COLLATE "C" CONSTRAINT reseller_is_an_owner REFERENCES owner,
    name text NOT NULL DEFAULT '',
    suspended boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT owner_id_is_plain CHECK (owner_id ~ '^[A-Za-z0-9-]{1,64}$'),
    CONSTRAINT owner_kind_is_known CHECK (kind IN ('reseller', 'client')),
    CONSTRAINT only_clients_have_a_reseller CHECK (kind = 'client' OR reseller_id IS NULL)
);
CREATE INDEX owner_of_reseller ON owner (reseller_id) WHERE reseller_id IS NOT NULL;
COMMENT ON TABLE owner IS 'Resellers and clients. Keys belong to clients only. Never deleted: keys name them.';
CREATE TRIGGER owner_is_kept BEFORE DELETE OR TRUNCATE ON owner FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER owner_tells_change AFTER INSERT OR UPDATE ON owner FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE product_configuration (
    configuration_id bigint NOT NULL CONSTRAINT product_configuration_pkey PRIMARY KEY,
    owner_id text COLLATE "C" NOT NULL CONSTRAINT configuration_has_an_owner REFERENCES owner,
    name text NOT NULL DEFAULT '',
    is_default boolean NOT NULL DEFAULT false,
    CONSTRAINT configuration_id_is_positive CHECK (configuration_id BETWEEN 1 AND 999999999999999)
);
CREATE UNIQUE INDEX one_default_configuration ON product_configuration (owner_id) WHERE is_default;
CREATE INDEX product_configuration_owner ON product_configuration (owner_id);
COMMENT ON TABLE product_configuration IS 'What a key of an owner may be configured with; one of them is the owner''s default.';
CREATE TRIGGER configuration_is_kept BEFORE DELETE OR TRUNCATE ON product_configuration
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER product_configuration_tells_change AFTER INSERT OR UPDATE ON product_configuration
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE account_owner (
    account_id text COLLATE "C" NOT NULL CONSTRAINT account_owner_pkey PRIMARY KEY
        CONSTRAINT linked_account_exists REFERENCES account,
    owner_id text COLLATE "C" NOT NULL CONSTRAINT linked_owner_exists REFERENCES owner,
    default_client text COLLATE "C" CONSTRAINT default_client_exists REFERENCES owner,
    price_list text COLLATE "C" CONSTRAINT price_list_exists REFERENCES price_list
);
CREATE INDEX account_owner_owner ON account_owner (owner_id);
COMMENT ON TABLE account_owner IS 'For whom an account speaks. A partner account reaches its owner''s keys, that of a reseller those of the reseller''s clients; the licenses of a linked ISV account belong to its owner.';
COMMENT ON COLUMN account_owner.default_client IS 'Owner of keys that a reseller''s account creates without naming one; null: it must name one.';
COMMENT ON COLUMN account_owner.price_list IS 'What the account may order; null: everything in the catalog.';
CREATE TRIGGER account_owner_tells_change AFTER INSERT OR UPDATE OR DELETE ON account_owner
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

-- Who may only read

CREATE FUNCTION let_read(reader text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    kept text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = reader) THEN
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', reader);
            IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', reader);
            END IF;
        EXCEPTION
            WHEN insufficient_privilege THEN
                RETURN false;
            WHEN duplicate_object OR unique_violation THEN
                NULL; -- made for another database of this server just now
        END;
    END IF;
    IF NOT has_schema_privilege(reader, 'public', 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', reader);
    END IF;
    FOREACH kept IN ARRAY ARRAY['license', 'revision', 'owner', 'product_configuration', 'account_owner'] LOOP
        IF NOT has_table_privilege(reader, kept, 'SELECT') THEN
            EXECUTE format('GRANT SELECT ON %I TO %I', kept, reader);
        END IF;
    END LOOP;
    RETURN true;
END
$$;
COMMENT ON FUNCTION let_read(text) IS 'Makes the group role that reads keys and nothing else, where that is missing; false when the role does not exist and may not be made.';
